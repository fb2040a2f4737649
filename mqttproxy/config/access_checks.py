"""The cross-checks of `[access]`: chains, authenticators and rules. Those of attributes stand with the policies."""

from collections.abc import Iterator
from typing import Any, Final

from mqttproxy.config.admitting import AccessSettings, PasswordSettings, RuleSettings
from mqttproxy.config.authenticator_checks import check_certificates, check_postgresql, check_tokens, check_url
from mqttproxy.config.errors import quoted
from mqttproxy.config.model import ProxyConfig
from mqttproxy.config.policy_checks import check_when
from mqttproxy.config.report import Report
from mqttproxy.config.topic_templates import parse_text, parse_topic

AUTHENTICATORS: Final = ("passwords", "certificates", "tokens", "http")
_TEMPLATE_WORDS: Final = 'a topic filter such as "plant/${site}/#"'


def authenticators(access: AccessSettings) -> Iterator[tuple[str, Any]]:
    """Yield key and settings of every authenticator."""
    for table in AUTHENTICATORS:
        for index, settings in enumerate(getattr(access, table)):
            yield f"access.{table}[{index}]", settings


def check_access(config: ProxyConfig, report: Report) -> None:
    """Check all of `[access]` but the attributes."""
    access = config.access
    _check_names(access, report)
    names = [settings.name for _, settings in authenticators(access)]
    _check_chain(access.chain, "access.chain", names, report)
    _check_chains(config, names, report)
    for key, settings in authenticators(access):
        _check_client_id(settings.client_id, key, report)
    for index, passwords in enumerate(access.passwords):
        _check_passwords(passwords, f"access.passwords[{index}]", report)
    for index, certificates in enumerate(access.certificates):
        check_certificates(certificates, f"access.certificates[{index}]", report)
    for index, tokens in enumerate(access.tokens):
        check_tokens(tokens, f"access.tokens[{index}]", report)
    for index, http in enumerate(access.http):
        check_url(http.url, f"access.http[{index}].url", report)
        for name in ("ca", "token_file"):
            report.add_unreadable(f"access.http[{index}].{name}", getattr(http, name))
    for index, rule in enumerate(access.rules):
        _check_rule(rule, f"access.rules[{index}]", config, report)


def _check_names(access: AccessSettings, report: Report) -> None:
    first: dict[str, str] = {}
    for key, settings in authenticators(access):
        name = settings.name
        if not (name.isprintable() and name.strip() == name and 0 < len(name) <= 64):
            report.add(f"{key}.name", quoted(name), "1 to 64 printable characters")
        if (other := first.setdefault(name, key)) != key:
            report.add(f"{key}.name", quoted(name), "a name of its own", f"{other} has it")


def _check_chain(chain: tuple[str, ...], key: str, names: list[str], report: Report) -> None:
    for index, name in enumerate(chain):
        if name not in names:
            known = f"one of {', '.join(map(quoted, names))}" if names else "no authenticator, because there is none"
            report.add(f"{key}[{index}]", quoted(name), known)
        elif name in chain[:index]:
            report.add(f"{key}[{index}]", quoted(name), "each authenticator once")


def _check_chains(config: ProxyConfig, names: list[str], report: Report) -> None:
    listeners = [listener.name for listener in config.listeners]
    taken: dict[str, int] = {}
    for index, entry in enumerate(config.access.chains):
        key = f"access.chains[{index}]"
        _check_chain(entry.chain, f"{key}.chain", names, report)
        if not entry.listeners:
            report.add(f"{key}.listeners", "an empty list", "at least one listener")
        for place, name in enumerate(entry.listeners):
            if name not in listeners:
                known = f"one of {', '.join(map(quoted, listeners))}"
                report.add(f"{key}.listeners[{place}]", quoted(name), known)
            elif (other := taken.setdefault(name, index)) != index:
                report.add(f"{key}.listeners[{place}]", quoted(name), "one chain for each", f"chains[{other}] has it")


def _check_client_id(text: str | None, key: str, report: Report) -> None:
    if text is not None and isinstance(words := parse_text(text), str):
        report.add(f"{key}.client_id", quoted(text), 'a glob such as "${username}-*"', words)


def _check_passwords(settings: PasswordSettings, key: str, report: Report) -> None:
    given = {"file": settings.file, "database": settings.database, "postgresql.url": settings.postgresql.url}
    sources = [name for name, value in given.items() if value is not None]
    if len(sources) != 1:
        found = "nothing" if not sources else " and ".join(sources)
        report.add(key, found, "one of file, database and postgresql.url", "that is where the users are")
    report.add_unreadable(f"{key}.file", settings.file)
    check_postgresql(settings.postgresql, f"{key}.postgresql", report)


def _check_rule(rule: RuleSettings, key: str, config: ProxyConfig, report: Report) -> None:
    limits = config.limits
    if not rule.topics:
        report.add(f"{key}.topics", "an empty list", "at least one topic filter")
    for index, topic in enumerate(rule.topics):
        parsed = parse_topic(topic, max_bytes=limits.topic_bytes, max_levels=limits.topic_levels)
        if isinstance(parsed, str):
            report.add(f"{key}.topics[{index}]", quoted(topic), _TEMPLATE_WORDS, parsed)
    if rule.qos is not None and (not rule.qos or not set(rule.qos) <= {0, 1, 2}):
        report.add(f"{key}.qos", str(list(rule.qos)), "some of 0, 1 and 2")
    if rule.shared is not None:
        if not rule.shared or not all(rule.shared):
            report.add(f"{key}.shared", "an empty list or text", 'at least one glob such as "workers-*"')
        if rule.on != "subscribe":
            report.add(f"{key}.on", quoted(rule.on), '"subscribe", because shared is given')
    if rule.retain is not None and rule.on != "publish":
        report.add(f"{key}.on", quoted(rule.on), '"publish", because retain is given')
    check_when(rule.when, f"{key}.when", report)
