"""One message on its way, explained: by the same rules, routes and names as the live walk in `pipeline`."""

from typing import Final, Literal

from attrs import field, frozen

from mqttproxy.access import NOT_ALLOWED, Acl, error_topic, make_acl, may_publish
from mqttproxy.config.cases import Fate
from mqttproxy.config.masking import key_of
from mqttproxy.config.model import LOCAL, ProxyConfig, Quorum
from mqttproxy.config.units import write_duration
from mqttproxy.mqtt.packets import Message
from mqttproxy.mqtt.reasons import ReasonCode
from mqttproxy.shaping import shapes_of
from mqttproxy.upstream.callbacks import Shape, Unshaped
from mqttproxy.upstream.guard import LOOP, admit
from mqttproxy.upstream.mapping import TopicMap, topic_map
from mqttproxy.upstream.routing import Route, RouteTable
from mqttproxy.validation import Action, Generation, Identity, Verdict
from mqttproxy.validation.answers import reason_string
from mqttproxy.validation.plugins import Answers
from mqttproxy.validation.trace import Trace, trace

Direction = Literal["up", "down"]

_FATES: Final[dict[Action, Fate]] = {Action.FORWARD: "mark", Action.HOLD: "hold", Action.REFUSE: "refuse"}


@frozen
class Premises:
    """What messages are explained under: a configuration, and what was made of it."""

    config: ProxyConfig
    generation: Generation
    answers: Answers = field(factory=Answers)  # of plug-ins; those that are missing are noted there
    routes: RouteTable = field(init=False)
    names: dict[str, TopicMap] = field(init=False)  # by upstream
    acl: Acl | None = field(init=False)
    shapes: dict[str, Shape] = field(init=False)  # by upstream, of those that do not get messages as they are

    @routes.default
    def _make_routes(self) -> RouteTable:
        return RouteTable(self.config)

    @acl.default
    def _make_acl(self) -> Acl | None:
        return make_acl(self.config.access)

    @names.default
    def _make_names(self) -> dict[str, TopicMap]:
        return {upstream.name: topic_map(upstream) for upstream in self.config.upstreams}

    @shapes.default
    def _make_shapes(self) -> dict[str, Shape]:
        return shapes_of(self.config, key_of(self.config)) if self.config.upstreams else {}

    def to(self, upstream: str, message: Message) -> "Destination":
        """Return how an upstream gets a message."""
        shape = self.shapes.get(upstream)
        shaped = message if shape is None else shape(message)
        if isinstance(shaped, Unshaped):
            place = f" at {shaped.pointer}" if shaped.pointer else ""
            return Destination(upstream, None, None, f"its transforms cannot be done: {shaped.words}{place}")
        topic = self.names[upstream].to_remote(shaped.topic)
        if topic is None:
            return Destination(upstream, None, None, "where the topic has no name")
        return Destination(upstream, topic, shaped.payload)


@frozen
class Destination:
    """One place that gets the message. `topic`: what it calls it; None: it does not get it, and it is held for it."""

    name: str
    topic: str | None
    payload: bytes | None = None
    why_not: str = ""


@frozen(kw_only=True)
class Explanation:
    """What becomes of a message, and each step that leads to it."""

    message: Message
    identity: Identity
    direction: Direction
    trace: Trace
    fate: Fate
    why: str = ""  # the fate, where the verdict does not tell it
    reason: ReasonCode = ReasonCode.SUCCESS  # for the sender
    words: str = ""  # the reason string
    ack: str  # when the sender is acknowledged
    destinations: tuple[Destination, ...] = ()
    error_topic: str | None = None  # where the device is told, if it is

    @property
    def is_carried(self) -> bool:
        """Tell whether anybody gets the message now."""
        return self.fate in ("forward", "mark", "observed")


def explain(message: Message, identity: Identity, premises: Premises, direction: Direction = "up") -> Explanation:
    """Return what becomes of a message.

    Args:
        message: under its local name, with a checked topic name.
        identity: of its sender.
        premises: what it is judged and routed by.
        direction: up: a device sends it; down: an upstream does.

    """
    if direction == "down":
        return _explain_down(message, identity, premises)
    settings = premises.config.proxy
    admitted = admit(message, settings.id, settings.hop_limit)
    traced = trace(message if admitted is LOOP else admitted, identity, premises.generation, premises.answers)
    explained = _Maker(message, identity, "up", traced)
    if admitted is LOOP:
        return explained.make("drop", "it was here before: a loop of proxies", ack="at once")
    if refusal := _access_refusal(message, traced.verdict.changed, identity, premises.acl):
        return explained.refused(ReasonCode.NOT_AUTHORIZED, refusal)
    route = premises.routes.route_for(explained.carried.topic)
    if route is None:
        return explained.unrouted(premises.config.default.unrouted)
    return _explain_routed(explained, route, premises)


def _access_refusal(message: Message, changed: Message | None, identity: Identity, acl: Acl | None) -> str:
    """Return why a device may not publish this, empty: it may."""
    if may_publish(message.topic):
        return "topics that begin with $ are the server's"
    if acl is None or acl.rights_of(identity).allow(message):
        return "" if acl is None or changed is None or acl.rights_of(identity).allow(changed) else NOT_ALLOWED
    return NOT_ALLOWED


def _explain_routed(explained: "_Maker", route: Route, premises: Premises) -> Explanation:
    message = explained.carried
    fate = _fate(explained.trace.verdict)
    if fate == "hold":
        return explained.judged(fate, "after the commit of the quarantine")
    if fate == "refuse":
        return explained.judged(fate, "at once")
    is_local = premises.routes.home_of(message.topic) == LOCAL
    destinations = [premises.to(name, message) for name in route.destinations if name != LOCAL]
    if is_local:
        destinations.append(Destination(LOCAL, message.topic, message.payload))
    return explained.make(fate, destinations=tuple(destinations), ack=_ack_words(route, is_local=is_local))


def _explain_down(message: Message, identity: Identity, premises: Premises) -> Explanation:
    traced = trace(message, identity, premises.generation.down)
    explained = _Maker(message, identity, "down", traced)
    home = premises.routes.home_of(message.topic)
    if home != identity.address:
        return explained.make("drop", f"subscriptions to this topic are served by {home}", ack="at once")
    fate = _fate(traced.verdict)
    if fate == "refuse":
        return explained.judged(fate, "at once")
    if fate == "hold":  # the broker cannot mend it
        return explained.make(fate, ack="after the commit of the quarantine")
    local = Destination(LOCAL, explained.carried.topic, explained.carried.payload)
    ack = "after the commit of sessions that must keep it, otherwise at once"
    return explained.make(fate, destinations=(local,), ack=ack)


@frozen
class _Maker:
    message: Message
    identity: Identity
    direction: Direction
    trace: Trace

    @property
    def carried(self) -> Message:
        """What is carried, if it is: the message, or what policies make of it."""
        return self.trace.verdict.changed or self.message

    def make(
        self,
        fate: Fate,
        why: str = "",
        *,
        ack: str,
        reason: ReasonCode = ReasonCode.SUCCESS,
        words: str = "",
        destinations: tuple[Destination, ...] = (),
    ) -> Explanation:
        told = self.direction == "up" and fate in ("hold", "refuse")
        return Explanation(
            message=self.message,
            identity=self.identity,
            direction=self.direction,
            trace=self.trace,
            fate=fate,
            why=why,
            reason=reason,
            words=words,
            ack=ack if self.message.qos else "never: QoS 0 has no acknowledgement",
            destinations=destinations,
            error_topic=error_topic(self.identity.client_id) if told else None,
        )

    def judged(self, fate: Fate, ack: str) -> Explanation:
        verdict = self.trace.verdict
        return self.make(fate, ack=ack, reason=verdict.reason, words=reason_string(verdict))

    def refused(self, reason: ReasonCode, why: str) -> Explanation:
        return self.make("refuse", why, ack="at once", reason=reason, words=f"topic rules: {why}")

    def unrouted(self, action: str) -> Explanation:
        why = "no route leads anywhere from this topic"
        if action == "drop":
            return self.make("drop", f"{why} (default.unrouted)", ack="at once")
        return self.refused(ReasonCode.TOPIC_NAME_INVALID, why)


def _fate(verdict: Verdict) -> Fate:
    if not verdict.failures:
        return "forward"
    if verdict.observed:
        return "observed"
    return _FATES[verdict.action]


def _ack_words(route: Route, *, is_local: bool) -> str:
    """Return when a device is acknowledged; see `handover.make_plan`."""
    upstreams = [name for name in route.destinations if name != LOCAL]
    if route.ack == "memory":
        return "at once: a crash loses what was not yet carried"
    if not upstreams:
        return "after the commit of sessions that must keep it, otherwise at once"
    if route.ack == "spool" or (route.ack == "any" and is_local):
        return "once it is on disk"
    if isinstance(route.ack, Quorum):
        who = f"{min(route.ack.destinations, len(upstreams))} of {', '.join(upstreams)} have"
    else:
        who = f"{' and '.join(upstreams)} have" if route.ack == "all" else f"one of {', '.join(upstreams)} has"
    late = f", or is on disk for {write_duration(route.patience)}" if route.patience is not None else ""
    return f"once it is on disk and {who} acknowledged it{late}"
