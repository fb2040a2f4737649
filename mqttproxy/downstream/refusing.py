"""A refused CONNECT or SUBSCRIBE, told to whoever can act on it (promise P10): device, audit trail, metrics.

The state machine leaves out of an answer what the device does not want or cannot take.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import orjson
from attrs import frozen
from msgspec.structs import replace

from mqttproxy.access import error_topic
from mqttproxy.mqtt.packets import Message, Properties
from mqttproxy.mqtt.reasons import ReasonCode
from mqttproxy.validation import Identity
from mqttproxy.validation.words import MESSAGE_LENGTH, cut, printable

if TYPE_CHECKING:
    from mqttproxy.downstream.premises import Premises

FILTERS_TOLD: Final = 16  # of one packet
FILTER_LENGTH: Final = 200  # characters of each, as it is told
TOKEN: Final = 64  # characters; what is longer and has two dots may be one


@frozen
class RefusedFilter:
    """One filter that a device does not get. `rule` is the setting, or the upstream, that refuses it."""

    topic_filter: str
    reason: ReasonCode
    rule: str
    words: str

    @property
    def shown(self) -> str:
        """The filter, short and printable: an invalid one may hold anything."""
        return printable(cut(self.topic_filter, FILTER_LENGTH), MESSAGE_LENGTH)


def explained(refused: Sequence[RefusedFilter]) -> Properties:
    """Return what a SUBACK carries: the first reason as a sentence, and filter and rule of each; at least one."""
    first = refused[0]
    more = f" (and {len(refused) - 1} more)" if len(refused) > 1 else ""
    facts = [
        (name, text) for one in refused[:FILTERS_TOLD] for name, text in (("filter", one.shown), ("rule", one.rule))
    ]
    return Properties(reason_string=f"{first.rule}: {first.words}: {first.shown}{more}", user_properties=tuple(facts))


def refuse_filters(premises: "Premises", identity: Identity, refused: Sequence[RefusedFilter]) -> Properties:
    """Tell of filters that a device does not get; returns what its SUBACK carries.

    Args:
        premises: of all devices.
        identity: of the device.
        refused: at least one.

    """
    refusal = premises.pipeline.refusal
    for one in refused:
        premises.metrics.subscriptions_refused.add(one.reason.name.lower())
    told = [
        {"filter": one.shown, "reason_code": int(one.reason), "rule": one.rule, "reason": one.words}
        for one in refused[:FILTERS_TOLD]
    ]
    refusal.audit.write(
        {
            "event": "subscribe",
            "action": "refused",
            "reason": refused[0].reason.name.lower(),
            **_who(identity),
            "filters": told,
            "filters_refused": len(refused),
            "generation": refusal.generation,
        }
    )
    topic = error_topic(identity.client_id)
    if refusal.table.has_subscriber(topic):
        at = datetime.fromtimestamp(refusal.wall(), UTC).isoformat(timespec="milliseconds")
        document = {"at": at, "action": "refused", "packet": "SUBSCRIBE", **told[0], "filters": told}
        refusal.table.deliver((Message(topic, orjson.dumps(document), 1),))
    return explained(refused)


def shown_name(name: str | None) -> str | None:
    """Return a user name as it may be written down: some devices show a token there."""
    return "(a token)" if name is not None and len(name) > TOKEN and name.count(".") == 2 else name


def rule_of(authenticator: str) -> str:
    """Return what says that a device may not come in, or not stay."""
    return f"authenticator {authenticator}" if authenticator else "access"


def note_refused(premises: "Premises", identity: Identity, reason: ReasonCode, rule: str, words: str) -> None:
    """Put a device into the list of refused clients: it did not come in, or may not stay."""
    who = replace(identity, username=shown_name(identity.username))
    premises.refused.add(who, reason, rule, words, premises.pipeline.refusal.wall())


def note_connect(premises: "Premises", identity: Identity, reason: ReasonCode, rule: str, words: str) -> None:
    """Write down that a device was not let in. It has no session, and so nowhere to read a document."""
    refusal = premises.pipeline.refusal
    note_refused(premises, identity, reason, rule, words)
    refusal.audit.write(
        {
            "event": "connect",
            "action": "refused",
            "reason": reason.name.lower(),
            **_who(identity),
            "rule": rule,
            "words": words,
            "generation": refusal.generation,
        }
    )


def _who(identity: Identity) -> dict[str, object]:
    return {
        "client_id": identity.client_id,
        "username": shown_name(identity.username),
        "address": identity.address,
        "listener": identity.listener,
    }
