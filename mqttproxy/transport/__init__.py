"""The road: TCP, TLS and WebSocket behind one small interface. The only room that knows sockets and ssl.

Read `stream.py` first: the interface. `listen` and `dial` give streams of whatever transport is configured; TLS and
WebSocket are layers over `TcpStream`, which alone waits for the kernel.
"""
