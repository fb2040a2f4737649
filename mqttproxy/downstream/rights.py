"""What connected devices and their sessions may do, held against rules that change while they are connected.

Who publishes is looked at in the pipeline, message by message. Here is the other direction: subscriptions, what waits,
and who may stay at all.
"""

from collections.abc import Container, Sequence
from functools import partial
from typing import TYPE_CHECKING, Final, Literal, NoReturn

import trio
from attrs import frozen

from mqttproxy.access.acl import Acl, Rights
from mqttproxy.access.credentials import Authenticator, BackEndDownError
from mqttproxy.access.rules import error_topic
from mqttproxy.config.topic_templates import UnsafeValueError
from mqttproxy.downstream.refusing import note_refused, rule_of, shown_name
from mqttproxy.mqtt.packets import Subscription
from mqttproxy.mqtt.reasons import ReasonCode
from mqttproxy.pipeline import Pipeline
from mqttproxy.sessions import Session
from mqttproxy.sessions.forbidding import forbid
from mqttproxy.validation import Identity

if TYPE_CHECKING:
    from mqttproxy.downstream.device import Device
    from mqttproxy.downstream.premises import Premises

WATCH_EVERY: Final = 0.5  # seconds between two looks at databases of users
LOOK_AGAIN: Final = 3600.0  # seconds; the wall clock may be set meanwhile
SLICE: Final = 100  # devices looked at before others have their turn


@frozen
class MayReceive:
    """Whether a device may have messages on a topic, by the rules in force when it is asked."""

    _pipeline: Pipeline
    _identity: Identity

    def __call__(self, topic: str) -> bool:
        """Tell it of one topic."""
        acl = self._pipeline.ruleset.acl
        return acl is None or acl.rights_of(self._identity).may_receive(topic)


def may_subscribe_to(acl: Acl | None, identity: Identity, subscription: Subscription) -> bool:
    """Tell whether the rules let a device subscribe to this. It may always be told why its messages were refused."""
    if acl is None or subscription.topic_filter == error_topic(identity.client_id):
        return True
    rights: Rights = acl.rights_of(identity)
    return rights.on_subscribe(subscription.topic_filter, subscription.qos).allows


def give_rights(premises: "Premises", session: Session, identity: Identity) -> None:
    """Hold a session against the rules for who has it now: at CONNECT, and when rules have changed."""
    acl = premises.pipeline.ruleset.acl
    if acl is None:
        session.may_receive = None
        return
    session.may_receive = MayReceive(premises.pipeline, identity)
    table, client_id = premises.pipeline.table, session.client_id
    for entry in table.entries_of(client_id):
        topic_filter = entry.subscription.topic_filter
        if may_subscribe_to(acl, identity, entry.subscription):
            continue
        if table.unsubscribe(client_id, topic_filter):
            premises.sessions.unsubscribed(session, topic_filter)
            premises.homes.leave(client_id, topic_filter)
            premises.metrics.access_denied.add("subscription")
            premises.pipeline.refusal.audit.write(
                {
                    "event": "subscription_revoked",
                    "client_id": client_id,
                    "username": identity.username,
                    "topic_filter": topic_filter,
                }
            )
    forbid(session, session.may_receive)


def close_later(premises: "Premises", links: Sequence[Authenticator]) -> None:
    """Close authenticators that are asked no more, once nobody can be waiting for their answers."""

    async def close() -> None:
        await trio.sleep(premises.limits.connect_deadline)
        for link in links:
            await link.aclose()

    if premises.nursery is not None and links:
        premises.nursery.start_soon(close)


def recheck_soon(premises: "Premises", *, admissions: bool) -> None:
    """Hold all devices against what is in force now, in the background. `admissions`: also whether they may stay."""
    if premises.nursery is not None:
        premises.nursery.start_soon(partial(recheck, premises, admissions=admissions))


async def watch_users(premises: "Premises") -> NoReturn:
    """Notice that users have changed without a reload, and hold their devices against it."""
    gate = premises.gate
    await gate.watching.wait()
    before = await _stamps(premises)
    while True:
        await trio.sleep(WATCH_EVERY)
        now = await _stamps(premises)
        if now != before:
            before = now
            await recheck_admissions(premises)
        elif gate.unsure:
            await recheck_admissions(premises, gate.unsure)


async def _stamps(premises: "Premises") -> dict[str, object]:
    """Ask the gate, and tell whom it cannot ask."""
    gate = premises.gate
    stamps = await gate.stamps()
    premises.metrics.users_watched = {name: int(name not in gate.down) for name in stamps}
    for name, why in gate.down.items():
        premises.alerts.warning("users_unwatched", "users_unwatched", authenticator=name, error=why)
    return stamps


async def recheck(premises: "Premises", *, admissions: bool) -> None:
    """Do it: rights first, as that asks nobody."""
    devices: Sequence[Device] = [*premises.connected()]
    for number, device in enumerate(devices):
        if number % SLICE == SLICE - 1:
            await trio.lowlevel.checkpoint()
        if not device.ended:
            _recheck_rights(premises, device)
    for number, session in enumerate([*premises.sessions]):
        if number % SLICE == SLICE - 1:
            await trio.lowlevel.checkpoint()
        if not session.is_connected and session.may_receive is not None and not session.is_over:
            forbid(session, session.may_receive)
    if admissions:
        await recheck_admissions(premises)


async def recheck_admissions(premises: "Premises", of: Container[str] | None = None) -> None:
    """End the connections of devices that would not be let in as they were.

    Whose authenticator cannot be asked now stays, and `watch_users` asks again.

    Args:
        premises: of all devices.
        of: authenticators whose devices are meant; None: all, and anonymous ones.

    """
    down: set[str] = set()
    for device in premises.connected():
        by = device.admission.by
        if by in down or (of is not None and by not in of):
            continue
        try:
            await _recheck_admission(premises, device)
        except BackEndDownError:
            down.add(by)  # not waited for again, for each of its devices
    premises.gate.unsure = frozenset(down)


async def end_at_expiry(premises: "Premises", device: "Device") -> None:
    """End the connection of a device when what it was let in by expires."""
    while True:
        seconds = device.admission.expires_at - premises.gate.wall()
        if seconds <= 0:
            break
        await trio.sleep(min(seconds, LOOK_AGAIN))
    end_stay(premises, device, "expired", "the credentials have expired")


def end_stay(
    premises: "Premises", device: "Device", action: Literal["expired", "revoked"], words: str, rule: str = ""
) -> None:
    """End the connection of a device that may not stay: it is told, written down, and among the refused clients.

    Args:
        premises: of all devices.
        device: whose connection is ended, unless it has ended already.
        action: what became of its credentials.
        words: why, for the device too.
        rule: what says so, if it is not the device's authenticator.

    """
    if device.ended:
        return
    device.disconnect(ReasonCode.NOT_AUTHORIZED, words)
    identity, by = device.identity, device.admission.by
    note_refused(premises, identity, ReasonCode.NOT_AUTHORIZED, rule or rule_of(by), words)
    premises.pipeline.refusal.audit.write(
        {
            "event": "authentication",
            "action": action,
            "authenticator": by,
            "why": words,
            "client_id": identity.client_id,
            "username": shown_name(identity.username),
            "address": identity.address,
            "listener": identity.listener,
        }
    )


def _recheck_rights(premises: "Premises", device: "Device") -> None:
    acl = premises.pipeline.ruleset.acl
    try:
        if acl is not None:
            acl.make_rights(device.identity)
    except UnsafeValueError as error:
        end_stay(premises, device, "revoked", str(error), "access.rules")
    else:
        give_rights(premises, device.session, device.identity)


async def _recheck_admission(premises: "Premises", device: "Device") -> None:
    """End the connection of a device that would not be let in as it was. Raises BackEndDownError."""
    allowed = device.admission
    chain = premises.gate.chains.of(device.identity.listener)
    if not allowed.by:
        stays = chain.lets_anonymous_in(premises.access) and (not chain.links or device.identity.username is None)
    else:
        link = next((link for link in chain.links if link.settings.name == allowed.by), None)
        stays = link is not None and await link.still(allowed)
    if not stays:
        end_stay(premises, device, "revoked", "what this device was let in by does not hold any more")
