"""The cross-checks of `[[upstreams]]`."""

import re
from collections.abc import Sequence
from typing import Final
from urllib.parse import SplitResult, urlsplit

from mqttproxy.config.errors import shown
from mqttproxy.config.model import LOCAL, MOST_DESTINATIONS, UpstreamSettings
from mqttproxy.config.report import Report
from mqttproxy.config.units import write_duration

URL_WORDS: Final = 'a URL such as "mqtt://host:1883", "mqtts://host:8883", "ws://host/mqtt" or "wss://host/mqtt"'

SECURE: Final = frozenset({"mqtts", "wss"})
_WEB: Final = frozenset({"ws", "wss"})
_SCHEMES: Final = frozenset({"mqtt", "mqtts", "ws", "wss"})
_LATER_SCHEMES: Final = frozenset({"kafka", "postgresql", "postgres"})

_PRINTABLE: Final = re.compile(r"[!-~]+")  # urlsplit drops line ends and tabs without a word
_HOST: Final = re.compile(r"[\w.-]+|[0-9A-Fa-f:.]+", re.ASCII)


def check_upstream(upstream: UpstreamSettings, key: str, report: Report) -> None:
    """Check one upstream by itself."""
    if upstream.name == LOCAL:
        report.add(f"{key}.name", f'"{LOCAL}"', "another name", "it means the proxy itself")
    url = _check_url(upstream.url, f"{key}.url", report)
    if url is not None and url.scheme not in SECURE:
        keys = ("ca", "certificate", "private_key", "insecure_skip_verify")
        report.add_unwanted(key, upstream, keys, "none, because the url is neither mqtts nor wss")
    _check_credentials(upstream, key, report)
    _check_certificate(upstream, key, report)
    if upstream.backoff_first > upstream.backoff_ceiling:
        found = write_duration(upstream.backoff_first)
        ceiling = write_duration(upstream.backoff_ceiling)
        report.add(f"{key}.backoff_first", found, f"at most backoff_ceiling, which is {ceiling}")


def check_upstreams_together(upstreams: Sequence[UpstreamSettings], report: Report) -> None:
    """Check that there are not too many, and that no two take the session of one another."""
    if len(upstreams) > MOST_DESTINATIONS:
        report.add("upstreams", f"{len(upstreams)} of them", f"at most {MOST_DESTINATIONS}")
    seen: dict[tuple[str, str], str] = {}
    for index, upstream in enumerate(upstreams):
        if upstream.client_id is None:
            continue
        other = seen.setdefault((upstream.url, upstream.client_id), upstream.name)
        if other != upstream.name:
            key = f"upstreams[{index}].client_id"
            report.add(key, shown(upstream.client_id), "another one", f"{shown(other)} has it at the same broker")


def _check_url(text: str, key: str, report: Report) -> SplitResult | None:
    """Return the parts of a good URL. No fault shows what stands before an `@`."""
    url = _split(text)
    if text.split(":", 1)[0].lower() in _LATER_SCHEMES:
        hint = "this kind of destination comes with a later version"
    elif url is None or url.scheme not in _SCHEMES:
        hint = ""
    elif url.username is not None:
        hint = "user name and password have keys of their own"
    elif url.scheme not in _WEB and (url.path not in {"", "/"} or url.query):
        hint = "only ws and wss have a path"
    else:
        return url
    report.add(key, shown(text), URL_WORDS, hint)
    return None


def _split(text: str) -> SplitResult | None:
    try:
        url = urlsplit(text) if _PRINTABLE.fullmatch(text) else None
        if url is None or url.port == 0 or url.fragment or not _HOST.fullmatch(url.hostname or ""):
            return None
    except ValueError:  # brackets that do not match, a port that is no number
        return None
    return url


def _check_credentials(upstream: UpstreamSettings, key: str, report: Report) -> None:
    if upstream.password is not None and upstream.password_file is not None:
        report.add(f"{key}.password_file", "both password and password_file", "one of them")
    has_password = upstream.password is not None or upstream.password_file is not None
    if upstream.version == "3.1.1" and has_password and upstream.username is None:  # [MQTT-3.1.2-22] of 3.1.1
        report.add(f"{key}.username", "nothing", "a user name", "MQTT 3.1.1 has no password without one")
    if upstream.client_id == "":
        report.add(f"{key}.client_id", '""', "a client identifier", "leave the key out for <proxy.id>-<name>")
    if upstream.enabled:
        report.add_unreadable(f"{key}.password_file", upstream.password_file)


def _check_certificate(upstream: UpstreamSettings, key: str, report: Report) -> None:
    if upstream.certificate is not None and upstream.private_key is None:
        report.add(f"{key}.private_key", "nothing", "the key of certificate")
    if upstream.private_key is not None and upstream.certificate is None:
        report.add(f"{key}.certificate", "nothing", "the certificate of private_key")
    if upstream.enabled:
        for name in ("ca", "certificate", "private_key"):
            report.add_unreadable(f"{key}.{name}", getattr(upstream, name))
