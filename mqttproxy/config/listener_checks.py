"""The cross-checks of `[[listeners]]`, and of every other address that is bound."""

import re
from collections.abc import Iterator
from itertools import combinations
from typing import Final

from mqttproxy.config.errors import quoted
from mqttproxy.config.model import ListenerSettings, ProxyConfig
from mqttproxy.config.report import Report
from mqttproxy.config.units import parse_address

_SECURE: Final = frozenset({"tls", "wss"})
_WEB: Final = frozenset({"ws", "wss"})
_ORIGIN: Final = re.compile(r"https?://[a-z0-9.\-]+(:[0-9]+)?|https?://\[[0-9a-f:.]+\](:[0-9]+)?")
_EVERY_IPV4: Final = "0.0.0.0"  # noqa: S104  # compared with, not bound
_EVERY_IPV6: Final = "::"


def check_listener(listener: ListenerSettings, key: str, report: Report) -> None:
    """Check one listener by itself."""
    if listener.transport in _SECURE:
        _check_certificate(listener, key, report)
    else:
        keys = ("certificate", "private_key", "client_ca", "client_certificate", "tls_minimum")
        report.add_unwanted(key, listener, keys, "none, because the transport is neither tls nor wss")
    if listener.transport in _WEB and not (listener.path.startswith("/") and listener.path.isprintable()):
        report.add(f"{key}.path", quoted(listener.path), 'a path such as "/mqtt"')
    _check_origins(listener, key, report)
    _check_introductions(listener, key, report)


def _check_origins(listener: ListenerSettings, key: str, report: Report) -> None:
    if listener.transport not in _WEB:
        report.add_unwanted(key, listener, ("origins",), "none, because the transport is neither ws nor wss")
        return
    for position, origin in enumerate(listener.origins or ()):
        if not _ORIGIN.fullmatch(origin):  # a browser says it in exactly this form
            report.add(f"{key}.origins[{position}]", quoted(origin), 'an origin such as "https://dashboard.example"')


def _check_introductions(listener: ListenerSettings, key: str, report: Report) -> None:
    settings = listener.proxy_protocol
    if listener.transport not in _SECURE and listener.crl is not None:
        if not settings.from_:
            expected = "none, because nobody shows a certificate: the transport is neither tls nor wss"
            hint = "with proxy_protocol.from, certificates that load balancers pass on are looked up in it"
            report.add(f"{key}.crl", quoted(str(listener.crl)), expected, hint)
        if listener.enabled:
            report.add_unreadable(f"{key}.crl", listener.crl)
    if not settings.from_:
        keys = ("header_timeout", "header_bytes")
        report.add_unwanted(f"{key}.proxy_protocol", settings, keys, "none, because from is empty")


def _check_certificate(listener: ListenerSettings, key: str, report: Report) -> None:
    for name in ("certificate", "private_key"):
        if getattr(listener, name) is None:
            report.add(f"{key}.{name}", "nothing", f"a file in PEM, because the transport is {listener.transport}")
    wants_client = listener.client_certificate != "none"
    if wants_client and listener.client_ca is None:
        expected = f"a file in PEM, because client_certificate is {quoted(listener.client_certificate)}"
        report.add(f"{key}.client_ca", "nothing", expected)
    if listener.client_ca is not None and not wants_client:
        report.add(f"{key}.client_certificate", '"none"', '"optional" or "required", because client_ca is given')
    if listener.crl is not None and not wants_client and not listener.proxy_protocol.from_:
        report.add(f"{key}.client_certificate", '"none"', '"optional" or "required", because crl is given')
    if listener.enabled:
        for name in ("certificate", "private_key", "client_ca", "crl"):
            report.add_unreadable(f"{key}.{name}", getattr(listener, name))


def check_binds(config: ProxyConfig, report: Report) -> None:
    """Check that no two sockets are bound to the same address."""
    for (key, bind), (other_key, other_bind) in combinations(_binds(config), 2):
        if _clash(bind, other_bind):
            report.add(other_key, quoted(other_bind), "an address of its own", f"{key} has {quoted(bind)}")


def _binds(config: ProxyConfig) -> Iterator[tuple[str, str]]:
    for index, listener in enumerate(config.listeners):
        if listener.enabled:
            yield f"listeners[{index}].bind", listener.bind
    if config.telemetry.metrics_bind is not None:
        yield "telemetry.metrics_bind", config.telemetry.metrics_bind


def _clash(bind: str, other_bind: str) -> bool:
    address, other_address = parse_address(bind), parse_address(other_bind)
    if address is None or other_address is None:
        return False
    (host, port), (other_host, other_port) = address, other_address
    if port != other_port or port == 0:
        return False
    hosts = {"127.0.0.1" if name == "localhost" else name for name in (host, other_host)}
    every = _EVERY_IPV6 if any(":" in name for name in hosts) else _EVERY_IPV4
    return len(hosts) == 1 or (every in hosts and len({":" in name for name in hosts}) == 1)
