"""The door: devices come in here. One task tree for each, which dies alone.

door         listeners, limits on connections, closing up
greeting     from bytes to an accepted CONNECT; takeover of client identifiers and their sessions
handshakes   who is between accept and CONNECT: whose turn it is, who must go
flapping     client identifiers that connect too often
refusing     a refused CONNECT or SUBSCRIBE, told to whoever can act on it
device       one connected device: reading, coming and going
carrying     how its messages go up, and are acknowledged in order
delivering   its other half: what is on its way to it, and what must wait for a commit
subscribing  its subscriptions, and what is retained for them
homes        which upstreams were asked for which session's filters
absent       QoS 2 messages of devices that are away, on their way to destinations
departed     wills on their way
shedding     what overload means for devices
keepalive    one watch over all devices' silence
premises     what all devices share
"""
