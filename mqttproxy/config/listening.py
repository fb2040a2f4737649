"""The settings of where devices come in: `[[listeners]]`. Part of the model."""

from pathlib import Path
from typing import Literal

from attrs import frozen

from mqttproxy.config.kinds import REQUIRED, Address, Bytes, Labels, Network, Seconds, setting


@frozen(kw_only=True)
class ProxyProtocolSettings:
    """`[listeners.proxy_protocol]`: load balancers in front of a listener, who say by a PROXY header who is there.

    With `from`, only they can connect here, each connection begins with such a header (version 1 or 2), and the address
    that it tells is what limits, bans, logs and the audit trail mean. They are believed in all they say, a verified
    client certificate included: list none but their own addresses.
    """

    from_: tuple[Network, ...] = setting((), "addresses or networks of the load balancers; none: no header is read")
    header_timeout: Seconds = setting(Seconds(5.0), "from accept to a complete header; then the connection is closed")
    header_bytes: Bytes = setting(Bytes(8 * 1024), "largest header, with the client certificate that it may hold")


@frozen(kw_only=True)
class ListenerSettings:
    """`[[listeners]]`: where devices come in. Without any, one plain TCP listener on 127.0.0.1:1883."""

    name: str = setting(REQUIRED, "unique name, in logs and metrics")
    transport: Literal["tcp", "tls", "ws", "wss"] = setting("tcp", "how bytes travel")
    bind: Address = setting(REQUIRED, "host:port to listen on; port 0 takes a free one")
    enabled: bool = setting(True, "false: not opened")
    certificate: Path | None = setting(None, "server certificate chain in PEM; required for tls and wss")
    private_key: Path | None = setting(None, "its key in PEM; required for tls and wss")
    client_ca: Path | None = setting(None, "CA that client certificates must come from, in PEM")
    client_certificate: Literal["none", "optional", "required"] = setting(
        "none", "whether a device shows a certificate"
    )
    crl: Path | None = setting(
        None,
        "list of client certificates that were revoked, in PEM: refused, and at a reload sent away, those too that "
        "load balancers pass on; once it has ended, every client certificate is refused; needs mqttproxy[pki]",
    )
    tls_minimum: Literal["1.2", "1.3"] = setting("1.2", "oldest version of TLS that is spoken, for tls and wss")
    path: str = setting("/mqtt", "path of the WebSocket, for ws and wss")
    origins: tuple[str, ...] | None = setting(
        None,
        "web pages whose scripts may connect, for ws and wss, by scheme, host and port; by default all. Programs that "
        "are no browsers say no origin, and may always",
    )
    proxy_protocol: ProxyProtocolSettings = setting(
        ProxyProtocolSettings(), "load balancers in front of it, who say by a PROXY header who is there"
    )
    attributes: Labels = setting(
        Labels(()), 'attributes of all devices that come in here, as in `[[access.attributes]]`: `{ site = "north" }`'
    )
