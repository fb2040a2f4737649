"""The cross-checks of what authenticators rest on: certificates, tokens, and servers that are asked."""

import re
from typing import Final
from urllib.parse import urlsplit

from mqttproxy.config.admitting import CertificateSettings, PostgresqlSettings, TokenSettings
from mqttproxy.config.attribute_patterns import NAME, AttributePattern, parse_pattern
from mqttproxy.config.errors import quoted
from mqttproxy.config.report import Report
from mqttproxy.config.topic_templates import Variable, parse_text

_HERE: Final = frozenset({"127.0.0.1", "::1", "localhost"})
_DATABASE_WORDS: Final = 'an address such as "postgresql://role@host:5432/database", without a password'
_TABLE: Final = re.compile(r"([a-z_][a-z0-9_]{0,62}\.)?[a-z_][a-z0-9_]{0,53}")  # room for what `changes` is called
_URL_WORDS: Final = "an https:// address, or http:// on this machine, without a password in it"


def check_certificates(settings: CertificateSettings, key: str, report: Report) -> None:
    """Check what is made of certificates."""
    pattern = None if settings.pattern is None else parse_pattern(settings.pattern)
    if isinstance(pattern, str):
        report.add(f"{key}.pattern", quoted(settings.pattern or ""), 'a pattern such as "{model}-{serial}"', pattern)
    if settings.username is not None:
        text = parse_text(settings.username)
        if isinstance(text, str):
            report.add(f"{key}.username", quoted(settings.username), 'a text such as "${serial}"', text)
        elif not isinstance(pattern, str):
            given = _names(pattern)
            lacking = [part.name for part in text if isinstance(part, Variable) and part.name not in given]
            if lacking:
                report.add(f"{key}.username", quoted(settings.username), "names that the pattern gives")
    if settings.ca is not None and settings.crl is None:
        report.add(f"{key}.crl", "nothing", "a list of revoked certificates, because ca is given")
    if settings.crl is not None and settings.ca is None:
        report.add(f"{key}.ca", "nothing", "the CA that has signed crl")
    for name in ("crl", "ca"):
        report.add_unreadable(f"{key}.{name}", getattr(settings, name))


def _names(pattern: AttributePattern | None) -> set[str | None]:
    return set() if pattern is None else {name for name, _ in pattern.parts}


def check_tokens(settings: TokenSettings, key: str, report: Report) -> None:
    """Check what tokens must be, and that each key is for one kind of algorithm."""
    for name in ("issuer", "audience", "username"):
        if not getattr(settings, name):
            report.add(f"{key}.{name}", '""', "a text that is not empty")
    if (settings.jwks is None) == (not settings.keys):
        found = "neither keys nor jwks" if settings.jwks is None else "keys and jwks"
        report.add(key, found, "either keys or jwks")
    if settings.jwks is not None:
        check_url(settings.jwks, f"{key}.jwks", report)
    if not settings.jwks_algorithms or any(one.startswith("HS") for one in settings.jwks_algorithms):
        hint = "what everybody can fetch is no secret"
        report.add(f"{key}.jwks_algorithms", str(list(settings.jwks_algorithms)), "algorithms with public keys", hint)
    report.add_unreadable(f"{key}.jwks_ca", settings.jwks_ca)
    for name, _ in settings.attributes:
        if not NAME.fullmatch(name):
            report.add(f"{key}.attributes", quoted(name), "a name of letters, digits and underscores")
    _check_keys(settings, f"{key}.keys", report)


def _check_keys(settings: TokenSettings, key: str, report: Report) -> None:
    seen: dict[str | None, int] = {}
    for index, entry in enumerate(settings.keys):
        place = f"{key}[{index}]"
        if (other := seen.setdefault(entry.id, index)) != index:
            report.add(f"{place}.id", quoted(entry.id or ""), "an id of its own", f"keys[{other}] has it")
        if len({_kind(one) for one in entry.algorithms}) != 1:
            found = str(list(entry.algorithms)) if entry.algorithms else "an empty list"
            report.add(f"{place}.algorithms", found, "algorithms of one kind of key")
        report.add_unreadable(f"{place}.file", entry.file)


def _kind(algorithm: str) -> str:
    """Return what kind of key an algorithm takes; each curve is one."""
    return {"HS": "secret", "RS": "RSA", "PS": "RSA"}.get(algorithm[:2], "Ed" if algorithm[:2] == "Ed" else algorithm)


def check_url(url: str, key: str, report: Report) -> None:
    """Check an address that is asked by HTTP: nobody on the way may answer for it, or read what it is asked."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        report.add(key, quoted(url), _URL_WORDS)
        return
    is_safe = parts.scheme == "https" or (parts.scheme == "http" and host in _HERE)
    if not (host and is_safe) or "@" in parts.netloc or parts.fragment or not url.isprintable() or " " in url:
        report.add(key, quoted(url.rpartition("@")[2] if "@" in url else url), _URL_WORDS)


def check_postgresql(settings: PostgresqlSettings, key: str, report: Report) -> None:
    """Check where a PostgreSQL server is, and what its table is called."""
    if settings.url is None:
        keys = ("password_file", "ca", "table", "connect_timeout", "statement_timeout")
        report.add_unwanted(key, settings, keys, "none, because url is not given")
        return
    if not _is_database(settings.url):
        shown = settings.url.rpartition("@")[2] if "@" in settings.url else settings.url
        report.add(f"{key}.url", quoted(shown), _DATABASE_WORDS)
    if not _TABLE.fullmatch(settings.table):
        words = "at most 54 lower case letters, digits and underscores, perhaps behind a schema and a dot"
        report.add(f"{key}.table", quoted(settings.table), words)
    for name in ("password_file", "ca"):
        report.add_unreadable(f"{key}.{name}", getattr(settings, name))


def _is_database(url: str) -> bool:
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return False
    is_whole = parts.scheme == "postgresql" and parts.username and host and len(parts.path) > 1
    has_more = parts.password is not None or parts.query or parts.fragment or not url.isprintable() or " " in url
    return bool(is_whole) and not has_more


def is_on_this_machine(url: str) -> bool:
    """Tell whether a PostgreSQL server is reached without a network: by loopback, or a socket in a folder."""
    host = (urlsplit(url).hostname or "").lower()  # which leaves what is behind a % as it is
    return host in _HERE or host.startswith("%2f")
