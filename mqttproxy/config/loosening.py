"""Whether a change of one setting loosens what is asked of devices and messages, or tightens it. A table of rules.

A rule looks at the two values only, so that the other direction has the other answer. What has no rule is told by its
table: in tables that decide about messages an unknown change may do either, in the others it does neither.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, Literal

from attrs import frozen

from mqttproxy.config.model import Quorum
from mqttproxy.config.units import parse_address

Effect = Literal["loosens", "tightens", "either", "neither"]

OTHER_WAY: Final[Mapping[Effect, Effect]] = {
    "loosens": "tightens",
    "tightens": "loosens",
    "either": "either",
    "neither": "neither",
}

# Tables that decide what is let in and through; a change of theirs without a rule may loosen or tighten.
DECIDING: Final = frozenset(
    {
        "listeners",
        "listeners.proxy_protocol",
        "access",
        "topics",
        "payload",
        "policies",
        "behaviours",
        "default",
        "audit",
        "masking",
        "masks",
    }
)
# Tables known not to; a table that is in neither set is taken for one that decides.
CARRYING: Final = frozenset(
    {
        "proxy",
        "sessions",
        "schemas",
        "upstreams",
        "upstreams.topics",
        "routes",
        "spool",
        "quarantine",
        "recorder",
        "telemetry",
        "tests",
        "shadow",
        "policies.shadow",
        "overload",
    }
)
_LOOPBACK: Final = ("127.", "::1", "localhost")

Judge = Callable[[Any, Any], Effect]


@frozen
class Rule:
    """How one setting is judged, and what either direction means."""

    judge: Judge
    loosens: str = ""
    tightens: str = ""

    def words(self, effect: Effect) -> str:
        """Say what an effect means here."""
        return {"loosens": self.loosens, "tightens": self.tightens}.get(effect, "")


def ranked(rank: Callable[[Any], Any]) -> Judge:
    """Judge by a rank: the higher, the looser. A value that has none (None) can be either way."""

    def judge(before: Any, after: Any) -> Effect:
        low, high = rank(before), rank(after)
        if low is None or high is None:
            return "either"
        if low == high:
            return "neither"
        return "loosens" if high > low else "tightens"

    return judge


def in_order(*values: Any) -> Judge:
    """Judge by a list from the strictest to the loosest."""
    return ranked(lambda value: values.index(value) if value in values else None)


MORE_IS_LOOSER: Final = ranked(lambda value: value)
MORE_IS_STRICTER: Final = ranked(lambda value: -value)
# A bound that may be left out is looser then.
BOUND: Final = ranked(lambda value: float("inf") if value is None else value)


def covers(general: str, special: str) -> bool:
    """Tell whether every topic that `special` matches is matched by `general`. Names in braces are single levels."""
    levels, wanted = _levels(general), _levels(special)
    if wanted[0].startswith("$") and levels[0] in ("+", "#"):
        return False
    for position, level in enumerate(levels):
        if level == "#":
            return True
        if position == len(wanted) or wanted[position] == "#" or level not in ("+", wanted[position]):
            return False
    return len(levels) == len(wanted)


def _levels(topic_filter: str) -> list[str]:
    return ["+" if level.startswith("{") and level.endswith("}") else level for level in topic_filter.split("/")]


def _all_covered(filters: Iterable[str], by: Iterable[str]) -> bool:
    return all(any(covers(one, wanted) for one in by) for wanted in filters)


def wider_is(looser: bool) -> Judge:
    """Judge topic filters by what they match."""

    def judge(before: tuple[str, ...], after: tuple[str, ...]) -> Effect:
        more, less = _all_covered(before, after), _all_covered(after, before)
        if more and less:
            return "neither"
        if more:
            return "loosens" if looser else "tightens"
        if less:
            return "tightens" if looser else "loosens"
        return "either"

    return judge


def _fate(actions: Iterable[str]) -> tuple[int, bool, bool]:
    """Rank what happens to a message that failed: carried, kept, or refused; and to its device."""
    words = set(actions)
    fate = 0 if words & {"hold", "refuse"} else 2 if "mark" in words else 0
    kept = "hold" in words and fate == 0
    return fate, kept, "disconnect" not in words


def allowing(before: Any, after: Any) -> Effect:
    """Judge what is allowed: nothing said is everything."""
    if before == after:
        return "neither"
    if before is None or after is None:
        return "loosens" if after is None else "tightens"
    if not isinstance(before, tuple):
        return "either"
    more, less = set(before) <= set(after), set(after) <= set(before)
    return "neither" if more and less else "loosens" if more else "tightens" if less else "either"


def demanding(before: Any, after: Any) -> Effect:
    """Judge what must be there: nothing said is nothing."""
    return OTHER_WAY[allowing(before or (), after or ())]


def _everybody(before: Any, after: Any) -> Effect:
    """Judge whom a policy is for: nothing said is everybody, for whom it is stricter."""
    return OTHER_WAY[allowing(before, after)]


def _directions(before: str, after: str) -> Effect:
    if before == after:
        return "neither"
    return "tightens" if after == "both" else "loosens" if before == "both" else "either"


def _ack(value: object) -> float:
    """Rank when a device is acknowledged: the less must be sure by then, the higher."""
    if isinstance(value, Quorum):
        return -value.destinations
    return {"memory": 2.0, "spool": 1.0, "any": -1.0, "all": -1000.0}[str(value)]


def _bind(value: str | None) -> int | None:
    """Rank an address: this machine only, or others too."""
    if not value:
        return 0
    address = parse_address(value)
    return None if address is None else 1 if address[0].startswith(_LOOPBACK) else 2


def demanding_one(before: object, after: object) -> Effect:
    """Judge what is there or not."""
    if (before is None) is (after is None):
        return "either"
    return "loosens" if after is None else "tightens"


def _balancers(before: tuple[str, ...], after: tuple[str, ...]) -> Effect:
    """Judge who may say who is there. Without any, nobody is asked, and everybody can connect."""
    return allowing(before, after) if before and after else "either"


def _secure(url: str) -> int:
    return 0 if url.startswith(("mqtts:", "wss:")) else 1


_ON_FAILURE: Final = Rule(
    ranked(_fate), "a message that fails is treated more mildly", "a message that fails is treated more strictly"
)
_LIMIT: Final = Rule(MORE_IS_LOOSER, "a limit is raised", "a limit is lowered")
_REVERSE: Final = Rule(MORE_IS_STRICTER, "a limit is lowered that is stricter when high", "a limit is raised")

RULES: Final[Mapping[tuple[str, str], Rule]] = {
    ("access", "allow_anonymous"): Rule(
        MORE_IS_LOOSER, "devices may connect without credentials", "devices need credentials"
    ),
    ("access", "no_match"): Rule(in_order("deny", "allow"), "what no rule names is allowed", "it is denied"),
    ("access", "refusal_delay"): Rule(MORE_IS_STRICTER),
    ("access", "failures"): _LIMIT,
    ("access", "failure_window"): _REVERSE,
    ("access", "failure_ban"): _REVERSE,
    ("access", "remember"): Rule(lambda _before, _after: "neither"),
    ("access", "password_bytes"): Rule(lambda _before, _after: "neither"),
    ("access", "token_bytes"): Rule(lambda _before, _after: "neither"),
    ("access", "check_threads"): Rule(lambda _before, _after: "neither"),
    ("access.chains", "allow_anonymous"): Rule(
        MORE_IS_LOOSER, "devices may connect without credentials", "devices need credentials"
    ),
    ("listeners", "enabled"): Rule(MORE_IS_LOOSER, "another way in", "one way in less"),
    ("listeners", "bind"): Rule(ranked(_bind), "other machines can reach it", "only this machine can reach it"),
    ("listeners", "transport"): Rule(
        ranked({"tls": 0, "wss": 0, "tcp": 1, "ws": 1}.get),
        "what devices send can be read on the way",
        "what devices send is encrypted",
    ),
    ("listeners", "client_certificate"): Rule(
        in_order("required", "optional", "none"), "fewer devices must show a certificate", "devices must show one"
    ),
    ("listeners", "crl"): Rule(demanding_one, "revoked certificates are not looked for", "certificates may be revoked"),
    ("listeners", "tls_minimum"): Rule(in_order("1.3", "1.2"), "TLS 1.2 is spoken too", "only TLS 1.3 is spoken"),
    ("listeners", "certificate"): Rule(lambda _before, _after: "neither"),
    ("listeners", "private_key"): Rule(lambda _before, _after: "neither"),
    ("listeners", "path"): Rule(lambda _before, _after: "neither"),
    ("listeners", "origins"): Rule(allowing, "more web pages may connect", "fewer web pages may connect"),
    ("listeners.proxy_protocol", "from_"): Rule(_balancers, "more are believed who is there", "fewer are believed"),
    ("listeners.proxy_protocol", "header_timeout"): _LIMIT,
    ("listeners.proxy_protocol", "header_bytes"): _LIMIT,
    ("topics", "allowed"): Rule(wider_is(looser=True), "devices may publish to more", "devices may publish to less"),
    ("topics", "on_failure"): _ON_FAILURE,
    ("default", "action"): Rule(
        in_order("refuse", "hold", "forward"),
        "topics without a policy are treated more mildly",
        "topics without a policy are treated more strictly",
    ),
    ("default", "unrouted"): Rule(lambda _before, _after: "neither"),
    ("policies", "level"): Rule(
        in_order("enforce", "observe", "off"), "what fails it is carried on", "what fails it is not carried on any more"
    ),
    ("policies", "topics"): Rule(wider_is(looser=False), "it applies to fewer topics", "it applies to more topics"),
    ("policies", "on_failure"): _ON_FAILURE,
    ("policies", "direction"): Rule(_directions, "it judges one direction only", "it judges both directions"),
    ("policies", "percent"): Rule(
        MORE_IS_STRICTER, "it is enforced for fewer devices", "it is enforced for more devices"
    ),
    ("policies", "strategy"): Rule(in_order("all", "any"), "one check that passes is enough", "all checks must pass"),
    ("policies.when", "*"): Rule(_everybody, "it is for fewer devices", "it is for more devices"),
    ("policies.require", "qos"): Rule(allowing, "more is allowed", "less is allowed"),
    ("policies.require", "retain"): Rule(allowing, "more is allowed", "less is allowed"),
    ("policies.require", "content_type"): Rule(allowing, "more is allowed", "less is allowed"),
    ("policies.require", "user_properties"): Rule(demanding, "less must be there", "more must be there"),
    ("policies.require", "max_expiry"): Rule(BOUND, "a limit is raised", "a limit is lowered"),
    ("policies.require", "max_bytes"): Rule(BOUND, "a limit is raised", "a limit is lowered"),
    ("policies.require", "min_bytes"): Rule(MORE_IS_STRICTER, "a limit is lowered", "a limit is raised"),
    ("payload", "*"): _LIMIT,
    ("limits", "*"): _LIMIT,
    ("limits", "flapping_connects"): Rule(
        ranked(lambda value: value or float("inf")), "devices may connect more often", "devices may connect less often"
    ),
    ("limits", "flapping_window"): _REVERSE,
    ("limits", "flapping_ban"): _REVERSE,
    ("limits", "receive_maximum_exceeded"): Rule(in_order("disconnect", "wait")),
    ("limits", "queue_when_full"): Rule(lambda _before, _after: "neither"),
    ("schemas", "check_time"): _LIMIT,
    ("upstreams", "insecure_skip_verify"): Rule(
        MORE_IS_LOOSER, "INSECURE: any certificate is accepted", "its certificate is checked"
    ),
    ("upstreams", "url"): Rule(ranked(_secure), "what is sent can be read on the way", "what is sent is encrypted"),
    ("upstreams", "loop_guard"): Rule(ranked(lambda value: not value), "loops are not noticed", "loops are cut"),
    ("upstreams", "spool_bytes"): Rule(BOUND, "a limit is raised", "a limit is lowered"),
    ("routes", "ack"): Rule(
        ranked(_ack), "devices are acknowledged before as much is sure", "devices are acknowledged when more is sure"
    ),
    ("routes", "on_ack_timeout"): Rule(
        in_order("withhold", "accept"), "devices are acknowledged all the same", "devices are not acknowledged then"
    ),
    ("routes", "when_full"): Rule(
        ranked(lambda value: value != "wait"), "messages may be dropped", "messages are not dropped"
    ),
    ("spool", "durability"): Rule(
        in_order("fsync", "process"), "a power failure loses what is acknowledged", "it survives a power failure"
    ),
    ("audit", "decisions"): Rule(in_order("all", "exceptions"), "less is written down", "more is written down"),
    ("audit", "keep_files"): Rule(MORE_IS_STRICTER, "less is kept", "more is kept"),
    ("audit", "rotate_bytes"): Rule(MORE_IS_STRICTER, "less is kept", "more is kept"),
    ("telemetry", "metrics_bind"): Rule(
        ranked(_bind), "other machines can read the metrics", "other machines cannot read the metrics any more"
    ),
}


def effect_of(table: str, key: str, before: Any, after: Any) -> tuple[Effect, str]:
    """Return what a change of a setting does, and what that means, as far as it can be said."""
    rule = RULES.get((table, key)) or RULES.get((table, "*"))
    if rule is not None:
        try:
            effect = rule.judge(before, after)
        except (TypeError, KeyError, AttributeError):  # values of a kind that the rule does not know
            return "either", ""
        return effect, rule.words(effect)
    return ("neither" if table in CARRYING else "either"), ""


# One more table of a kind, and one less.
_ITEMS: Final[Mapping[str, tuple[tuple[Effect, str], tuple[Effect, str]]]] = {
    "listeners": (("loosens", "another way in"), ("tightens", "one way in less")),
    "limits.rates": (("tightens", "one more limit"), ("loosens", "one limit less")),
}


def effect_of_item(table: str, item: Any, *, added: bool) -> tuple[Effect, str]:
    """Return what it does that one more table of a kind is there, or one less."""
    if not getattr(item, "enabled", True):
        return "neither", ""
    if table in _ITEMS:
        return _ITEMS[table][0 if added else 1]
    if table == "policies":
        if getattr(item, "level", "enforce") != "enforce":
            return "neither", ""
        if added:
            return "tightens", "messages are judged that were not, or by one more"
        return "loosens", "what it stopped is not stopped any more"
    return ("neither" if table in CARRYING else "either"), ""
