"""Hypothesis strategies for everything that MQTT can say: texts, topics, properties and packets of both versions.

Each is made once: most of the time went into making them, draw by draw.
"""

from collections.abc import Callable
from functools import cache

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from mqttproxy.mqtt.grammar import PROPERTIES, REASONS, SUBACK_311, Kind, PacketType, Property
from mqttproxy.mqtt.packets import (
    NO_PROPERTIES,
    Auth,
    ConnAck,
    Connect,
    Disconnect,
    Packet,
    PingReq,
    PingResp,
    Properties,
    ProtocolVersion,
    PubAck,
    PubComp,
    Publish,
    PubRec,
    PubRel,
    RetainHandling,
    SubAck,
    Subscribe,
    Subscription,
    UnsubAck,
    Unsubscribe,
    Will,
)
from mqttproxy.mqtt.reasons import CONNACK_311, REASON_OF_CONNACK_311, ReasonCode
from mqttproxy.mqtt.wire import unwanted_character

V311 = ProtocolVersion.V311
V5 = ProtocolVersion.V5

versions = st.sampled_from(ProtocolVersion)
packet_ids = st.integers(1, 65_535)
payloads = st.binary(max_size=300)


@cache
def texts(max_size: int = 20) -> SearchStrategy[str]:
    """Texts that may stand in a packet, with a liking for edges: BOM, letters of 2, 3 and 4 bytes."""
    characters = st.one_of(
        st.sampled_from("a/ Zé\u00a0\ufeff€\U0001f600\U0010fffd"),
        st.characters(exclude_categories=["Cs", "Cc"]).filter(lambda text: unwanted_character(text) is None),
    )
    return st.text(characters, max_size=max_size)


_NO_SYNTAX = {ord("/"): None, ord("+"): None, ord("#"): None}
# Few letters, so that topics and filters meet; the odd ones stand for everything else.
levels = st.one_of(st.sampled_from(["a", "b", "", "$a"]), texts(5).map(lambda text: text.translate(_NO_SYNTAX)))
topic_names = st.lists(levels, min_size=1, max_size=5).map("/".join).filter(bool)


@cache
@st.composite
def topic_filters(draw: st.DrawFn) -> str:
    """Draw a valid, not shared topic filter."""
    parts = draw(st.lists(st.one_of(st.just("+"), levels), max_size=5))
    if not parts or draw(st.booleans()):
        parts.append("#")
    return "/".join(parts) or "+"


_OF_FIELD: dict[str, SearchStrategy[object]] = {"response_topic": topic_names, "topic_alias": st.integers(1, 65_535)}
_OF_KIND: dict[Kind, SearchStrategy[object]] = {
    Kind.STRING: texts(),
    Kind.BINARY: st.binary(max_size=20),
    Kind.PAIR: st.lists(st.tuples(texts(8), texts(8)), min_size=1, max_size=4).map(tuple),
    Kind.VARINT: st.lists(st.integers(1, 268_435_455), min_size=1, max_size=3).map(tuple),
}


@cache
def property_values(row: Property) -> SearchStrategy[object]:
    """Return the values that one property can have."""
    if row.field in _OF_FIELD:
        return _OF_FIELD[row.field]
    if row.kind in _OF_KIND:
        return _OF_KIND[row.kind]
    return st.integers(row.low, min(row.high, 256**row.kind - 1))


@cache
def _rows(place: PacketType) -> SearchStrategy[list[Property]]:
    rows = [row for row in PROPERTIES if place in row.packets and row.field != "topic_alias"]
    return st.lists(st.sampled_from(rows), unique_by=lambda row: row.field, max_size=len(rows))


@cache
@st.composite
def properties(draw: st.DrawFn, place: PacketType) -> Properties:
    """Draw properties that may stand in `place`; never a topic alias, which a decoder resolves."""
    chosen = draw(_rows(place))
    values = {row.field: draw(property_values(row)) for row in chosen}
    if "authentication_data" in values or place is PacketType.AUTH:
        values.setdefault("authentication_method", "SCRAM-SHA-256")
    if place is PacketType.SUBSCRIBE and "subscription_identifiers" in values:
        values["subscription_identifiers"] = (draw(st.integers(1, 268_435_455)),)
    return Properties(**values) if values else NO_PROPERTIES  # type: ignore[arg-type]  # the table gives the types


@cache
def _properties(place: PacketType, version: ProtocolVersion) -> SearchStrategy[Properties]:
    return properties(place) if version is V5 else st.just(NO_PROPERTIES)


@cache
def _reasons(packet: PacketType) -> SearchStrategy[ReasonCode]:
    return st.sampled_from(sorted(REASONS[packet]))


@cache
def wills(version: ProtocolVersion) -> SearchStrategy[Will]:
    """Return wills."""
    return st.builds(
        Will,
        topic=topic_names,
        payload=payloads,
        qos=st.integers(0, 2),
        retain=st.booleans(),
        properties=_properties(PacketType.WILL, version),
    )


@cache
@st.composite
def connects(draw: st.DrawFn, version: ProtocolVersion) -> Connect:
    """Draw a CONNECT."""
    client_id = draw(texts())
    username = draw(st.none() | texts())
    return Connect(
        client_id=client_id,
        version=version,
        clean_start=draw(st.booleans()) or (version is V311 and not client_id),
        keep_alive=draw(st.integers(0, 65_535)),
        username=username,
        password=None if version is V311 and username is None else draw(st.none() | st.binary(max_size=20)),
        will=draw(st.none() | wills(version)),
        properties=draw(_properties(PacketType.CONNECT, version)),
    )


@cache
@st.composite
def connacks(draw: st.DrawFn, version: ProtocolVersion) -> ConnAck:
    """Draw a CONNACK; in 3.1.1 with a reason that survives its return code."""
    reasons = sorted(REASON_OF_CONNACK_311.values()) if version is V311 else sorted(REASONS[PacketType.CONNACK])
    assert version is V5 or set(reasons) <= set(CONNACK_311)
    reason = draw(st.sampled_from(reasons))
    return ConnAck(reason, not reason and draw(st.booleans()), draw(_properties(PacketType.CONNACK, version)))


@cache
@st.composite
def publishes(draw: st.DrawFn, version: ProtocolVersion) -> Publish:
    """Draw a PUBLISH with its whole topic name."""
    qos = draw(st.integers(0, 2))
    return Publish(
        draw(topic_names),
        draw(payloads),
        qos,
        draw(st.booleans()),
        draw(_properties(PacketType.PUBLISH, version)),
        draw(packet_ids) if qos else 0,
        bool(qos) and draw(st.booleans()),
    )


@cache
def acknowledgements(version: ProtocolVersion) -> SearchStrategy[Packet]:
    """Return PUBACK, PUBREC, PUBREL and PUBCOMP."""
    kinds: list[tuple[PacketType, Callable[..., Packet]]] = [
        (PacketType.PUBACK, PubAck),
        (PacketType.PUBREC, PubRec),
        (PacketType.PUBREL, PubRel),
        (PacketType.PUBCOMP, PubComp),
    ]
    plain = [st.builds(make, packet_ids) for _, make in kinds]
    if version is V311:
        return st.one_of(plain)
    return st.one_of(
        plain + [st.builds(make, packet_ids, _reasons(packet), properties(packet)) for packet, make in kinds]
    )


@cache
@st.composite
def subscriptions(draw: st.DrawFn, version: ProtocolVersion) -> Subscription:
    """Draw one subscription, shared or not, its filter sometimes ill-formed as devices may send it."""
    shared = draw(st.sampled_from(["", "", "$share/group/"]))
    topic_filter = shared + draw(st.one_of(topic_filters(), texts()))
    if version is V311:
        return Subscription(topic_filter, draw(st.integers(0, 2)))
    return Subscription(
        topic_filter,
        draw(st.integers(0, 2)),
        draw(st.booleans()) and not topic_filter.startswith("$share/"),
        draw(st.booleans()),
        draw(st.sampled_from(RetainHandling)),
    )


@cache
def subscribes(version: ProtocolVersion) -> SearchStrategy[Subscribe]:
    """Return SUBSCRIBEs."""
    wanted = st.lists(subscriptions(version), min_size=1, max_size=4).map(tuple)
    return st.builds(Subscribe, packet_ids, wanted, _properties(PacketType.SUBSCRIBE, version))


@cache
def subacks(version: ProtocolVersion) -> SearchStrategy[SubAck]:
    """Return SUBACKs."""
    reason = st.sampled_from(sorted(SUBACK_311 if version is V311 else REASONS[PacketType.SUBACK]))
    reasons = st.lists(reason, min_size=1, max_size=4).map(tuple)
    return st.builds(SubAck, packet_ids, reasons, _properties(PacketType.SUBACK, version))


@cache
def unsubscribes(version: ProtocolVersion) -> SearchStrategy[Unsubscribe]:
    """Return UNSUBSCRIBEs."""
    filters = st.lists(topic_filters(), min_size=1, max_size=4).map(tuple)
    return st.builds(Unsubscribe, packet_ids, filters, _properties(PacketType.UNSUBSCRIBE, version))


@cache
def unsubacks(version: ProtocolVersion) -> SearchStrategy[UnsubAck]:
    """Return UNSUBACKs."""
    if version is V311:
        return st.builds(UnsubAck, packet_ids)
    reasons = st.lists(_reasons(PacketType.UNSUBACK), min_size=1, max_size=4).map(tuple)
    return st.builds(UnsubAck, packet_ids, reasons, properties(PacketType.UNSUBACK))


@cache
def disconnects(version: ProtocolVersion) -> SearchStrategy[Disconnect]:
    """Return DISCONNECTs."""
    if version is V311:
        return st.just(Disconnect())
    return st.just(Disconnect()) | st.builds(
        Disconnect, _reasons(PacketType.DISCONNECT), properties(PacketType.DISCONNECT)
    )


@cache
def auths() -> SearchStrategy[Auth]:
    """Return AUTHs, of MQTT 5 only."""
    return st.just(Auth()) | st.builds(Auth, _reasons(PacketType.AUTH), properties(PacketType.AUTH))


@cache
def packets(version: ProtocolVersion) -> SearchStrategy[Packet]:
    """Return every packet of a version."""
    kinds: list[SearchStrategy[Packet]] = [
        connects(version),
        connacks(version),
        publishes(version),
        acknowledgements(version),
        subscribes(version),
        subacks(version),
        unsubscribes(version),
        unsubacks(version),
        st.builds(PingReq),
        st.builds(PingResp),
        disconnects(version),
    ]
    if version is V5:
        kinds.append(auths())
    return st.one_of(kinds)


@cache
def _greetings(version: ProtocolVersion) -> SearchStrategy[list[Connect]]:
    return st.lists(connects(version), max_size=1)


@cache
def _behind_a_greeting(version: ProtocolVersion) -> SearchStrategy[list[Packet]]:
    return st.lists(packets(version).filter(lambda packet: not isinstance(packet, Connect)), max_size=6)


@cache
@st.composite
def conversations(draw: st.DrawFn) -> tuple[ProtocolVersion, list[Packet]]:
    """Draw some packets of one version, as one peer may send them in a row; CONNECT stands first if at all."""
    version = draw(versions)
    greeting: list[Packet] = list(draw(_greetings(version)))
    rest = draw(_behind_a_greeting(version))
    return version, greeting + rest
