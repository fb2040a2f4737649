"""Connections that mean no good, all from one process: `python -m tests.faults.attackers KIND --port P --count N`.

Raw sockets and one epoll, because the machine that attacks is the machine that serves: what the attacker computes, the
proxy cannot. Connections that the proxy closes are opened again, so that as many as asked for are there all the time.
It tells once a second, in JSON, how many are open, and goes on until its standard input ends; then it closes them all.
"""

import argparse
import errno
import json
import os
import resource
import select
import socket
import ssl
import struct
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Final

from attrs import define, frozen

from tests.bad_input.wire import V5, connect, frame, publish, subscribe

TICK: Final = 0.005  # seconds between two looks at what is due
BYTE_EVERY: Final = 2.0  # seconds between the single bytes of one connection
BUSY: Final = "busy/topic"
SMALL: Final = 4096  # bytes that the kernel keeps for who never reads: the proxy's own buffers are what this is about
HALF: Final = 512  # bytes of a payload that come, of twice as many that were announced
LATER: Final = frozenset({errno.EINPROGRESS, errno.EAGAIN, errno.ENOTCONN})
NO_PORT_YET: Final = 24  # IP_BIND_ADDRESS_NO_PORT: a port is chosen for the pair of addresses, so there are enough
RESET: Final = struct.pack("ii", 1, 0)
UPGRADE: Final = (
    b"GET /mqtt HTTP/1.1\r\nHost: proxy\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n"
)


def _client_hello() -> bytes:
    """Return what begins a TLS handshake. All connections send the same: none of them goes on."""
    outgoing = ssl.MemoryBIO()
    with suppress(ssl.SSLWantReadError):
        _lenient().wrap_bio(ssl.MemoryBIO(), outgoing).do_handshake()
    return outgoing.read()


def _lenient() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


HELLO: Final = _client_hello()


def _nothing(_: int) -> bytes:
    return b""


def _connect(number: int) -> bytes:
    return connect(V5, f"slow-{os.getpid()}-{number}")


def _subscriber(number: int) -> bytes:
    return _connect(number) + subscribe(V5, BUSY)


def _half_publish(number: int) -> bytes:
    whole = publish(V5, "half/of/it", bytes(2 * HALF))
    return _connect(number) + whole[:-HALF]


@frozen
class Kind:
    """A way to be slow.

    Attributes:
        listener: where it comes in.
        first: what each connection sends at once, by its number.
        bytewise: what it sends a byte at a time.
        shakes_hands: it goes through the TLS handshake before all that.
        reads: whether it takes what comes.
        comes_in: it is connected as far as MQTT goes, and no time is too long for that.
        hangs_up: it closes at once, in this way, and comes again and again.

    """

    listener: str
    first: Callable[[int], bytes] = _nothing
    bytewise: Callable[[int], bytes] = _nothing
    shakes_hands: bool = False
    reads: bool = True
    comes_in: bool = False
    hangs_up: str = ""


KINDS: Final = {
    "silent": Kind("tcp"),
    "connect-bytewise": Kind("tcp", bytewise=_connect),
    "tls-silent": Kind("tls"),
    "tls-half": Kind("tls", first=lambda _: HELLO),
    "tls-then-silent": Kind("tls", shakes_hands=True),
    "ws-bytewise": Kind("ws", bytewise=lambda _: UPGRADE),
    "ws-then-silent": Kind("ws", first=lambda _: UPGRADE),
    "never-reads": Kind("tcp", first=_subscriber, reads=False, comes_in=True),
    "half-publish": Kind("tcp", first=_half_publish, comes_in=True),
    "closes": Kind("tcp", hangs_up="close"),
    "resets": Kind("tcp", hangs_up="reset"),
    "connects-and-closes": Kind("tcp", first=_connect, hangs_up="close"),
    "garbage": Kind("tcp", first=lambda _: frame(0xF0, b"?"), hangs_up="close"),
}


def sources(count: int) -> list[str]:
    """Return so many addresses of loopback, none of them 127.0.0.1."""
    return [f"127.{64 + (each >> 16)}.{each >> 8 & 255}.{each & 255}" for each in range(1, count + 1)]


@define(eq=False)
class _Line:
    """One connection."""

    sock: socket.socket
    number: int
    bytewise: bytes = b""
    sent: int = 0
    is_open: bool = False
    tls: tuple[ssl.SSLObject, ssl.MemoryBIO, ssl.MemoryBIO] | None = None


class Attack:
    """All connections of one kind.

    Args:
        kind: what they do.
        port: of the proxy, at 127.0.0.1.
        count: how many are to be there at once; for those that hang up it is no matter.
        addresses: where they come from, in turn.
        rate: how many are opened in a second at most.

    """

    def __init__(self, kind: Kind, port: int, count: int, addresses: list[str], rate: float) -> None:
        self._kind, self._port, self._count, self._rate = kind, port, count, rate
        self._addresses = addresses
        self._epoll = select.epoll()
        self._lines: dict[int, _Line] = {}
        self._slow: deque[_Line] = deque()  # those that have bytes left to send, in turn
        self._context = _lenient()
        self._number = 0
        self.opened = self.closed = self.failed = 0

    @property
    def open(self) -> int:
        """How many are there, as the kernel says: the proxy may not have accepted them."""
        return len(self._lines)

    def run(self, is_over: Callable[[], bool], tell: Callable[["Attack"], None]) -> None:
        """Attack, and tell once a second, until it is over; then close all."""
        allowed = due = 0.0
        then = told = time.monotonic()
        while not is_over():
            self._look(TICK)
            now = time.monotonic()
            # Who falls behind does not catch up in a burst: that would be another attack.
            allowed = min(allowed + self._rate * (now - then), self._rate / 10)
            if self._slow:
                due = min(due + len(self._slow) * (now - then) / BYTE_EVERY, len(self._slow))
            then = now
            while allowed >= 1 and (self._kind.hangs_up or self.open < self._count):
                allowed -= 1
                self._begin()
            while due >= 1 and self._slow:
                due -= 1
                self._send_one(self._slow.popleft())
            if now - told >= 1:
                told = now
                tell(self)
        tell(self)
        for line in list(self._lines.values()):
            line.sock.close()

    def _begin(self) -> None:
        self._number += 1
        sock = socket.socket()
        sock.setblocking(False)
        if not self._kind.reads:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL)
        sock.setsockopt(socket.IPPROTO_IP, NO_PORT_YET, 1)
        try:
            sock.bind((self._addresses[self._number % len(self._addresses)], 0))
            code = sock.connect_ex(("127.0.0.1", self._port))
        except OSError:
            code = errno.EADDRNOTAVAIL
        if code and code not in LATER:
            self.failed += 1
            sock.close()
            return
        line = _Line(sock, self._number)
        self._lines[sock.fileno()] = line
        self._epoll.register(sock, select.EPOLLOUT)

    def _look(self, timeout: float) -> None:
        for descriptor, events in self._epoll.poll(timeout, 1024):
            line = self._lines[descriptor]
            try:
                if not line.is_open:
                    self._opened(line)
                elif line.tls is not None:
                    self._shake_hands(line)
                elif events & ~(select.EPOLLIN | select.EPOLLRDHUP) or not self._take(line):
                    self._lost(line)
            except OSError:
                self._lost(line)

    def _opened(self, line: _Line) -> None:
        kind = self._kind
        if line.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            raise OSError
        line.is_open = True
        self.opened += 1
        if kind.shakes_hands:
            incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            line.tls = self._context.wrap_bio(incoming, outgoing), incoming, outgoing
            self._epoll.modify(line.sock, select.EPOLLIN)
            self._step(line)
            return
        if data := kind.first(line.number):
            line.sock.send(data)
        if kind.hangs_up:
            if kind.hangs_up == "reset":
                line.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            self._lost(line)
            return
        if bytewise := kind.bytewise(line.number):
            line.bytewise = bytewise
            self._slow.append(line)
        self._epoll.modify(line.sock, select.EPOLLIN if kind.reads else select.EPOLLRDHUP)

    def _take(self, line: _Line) -> bool:
        """Take what came; False: the proxy has closed."""
        return self._kind.reads and bool(line.sock.recv(65536))

    def _shake_hands(self, line: _Line) -> None:
        assert line.tls is not None
        if not (data := line.sock.recv(65536)):
            raise OSError
        line.tls[1].write(data)
        self._step(line)

    def _step(self, line: _Line) -> None:
        assert line.tls is not None
        tls, _, outgoing = line.tls
        try:
            tls.do_handshake()
            line.tls = None  # it will not say a word more
        except ssl.SSLWantReadError:
            pass
        if data := outgoing.read():
            line.sock.send(data)

    def _send_one(self, line: _Line) -> None:
        if line.is_open and line.sent < len(line.bytewise) - 1:  # the last byte never comes
            try:
                line.sock.send(line.bytewise[line.sent : line.sent + 1])
            except OSError:
                self._lost(line)
                return
            line.sent += 1
            self._slow.append(line)

    def _lost(self, line: _Line) -> None:
        self.closed += 1
        line.is_open = False
        del self._lines[line.sock.fileno()]
        line.sock.close()


def _told(attack: Attack) -> None:
    numbers = {name: getattr(attack, name) for name in ("open", "opened", "closed", "failed")}
    print(json.dumps(numbers | {"cpu": time.process_time()}), flush=True)


def _end_of_input() -> Callable[[], bool]:
    poll = select.poll()
    poll.register(sys.stdin, select.POLLIN | select.POLLHUP)
    looks: Iterator[bool] = iter(lambda: bool(poll.poll(0)), None)
    return lambda: next(looks)


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--sources", type=int, default=100, help="addresses they come from")
    parser.add_argument("--rate", type=float, default=2000, help="connections opened in a second at most")
    parser.add_argument("--nice", type=int, default=5, help="so that what is attacked can compute as well")
    asked = parser.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    os.nice(asked.nice)
    attack = Attack(KINDS[asked.kind], asked.port, asked.count, sources(asked.sources), asked.rate)
    attack.run(_end_of_input(), _told)


if __name__ == "__main__":
    main()
