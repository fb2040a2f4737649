"""Every setting of `proxy.toml`: its name, type, default, unit and meaning, as frozen classes.

One class for each table. The text given to `setting` is the setting's only description: the reference page and
`proxy.toml.example` are held against it by tests. Durations are seconds, sizes bytes, paths relative to the file
(the loader makes them absolute).
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from attrs import Factory, field, frozen

from mqttproxy.config.admitting import AccessSettings, AttributeSettings
from mqttproxy.config.behaviours import BehaviourSettings
from mqttproxy.config.cases import CaseFolderSettings
from mqttproxy.config.kinds import (
    LOCAL,
    MOST_DESTINATIONS,
    REQUIRED,
    Ack,
    Address,
    Bytes,
    Conditions,
    Count,
    Labels,
    Network,
    PolicyTopic,
    Quorum,
    Seconds,
    TopicFilter,
    TopicPattern,
    Windows,
    inner_tables,
    setting,
    table_class,
)  # fmt: skip
from mqttproxy.config.limiting import OverloadSettings, RateSettings
from mqttproxy.config.listening import ListenerSettings, ProxyProtocolSettings
from mqttproxy.config.observing import AuditSettings, RecorderSettings, TelemetrySettings
from mqttproxy.config.policies import (
    BindingSettings,
    ExpressionSettings,
    PluginSettings,
    PolicySettings,
    RequireSettings,
    ShadowSettings,
    WhenSettings,
)
from mqttproxy.config.storing import QuarantineSettings, SpoolSettings
from mqttproxy.config.transforms import DestinationTransforms, MaskingSettings, MaskSettings

__all__ = [  # of other modules: everybody looks for them here
    "LOCAL", "MOST_DESTINATIONS", "REQUIRED", "AccessSettings", "Ack", "Address", "AttributeSettings",
    "AuditSettings", "BehaviourSettings", "BindingSettings", "Bytes", "CaseFolderSettings", "Conditions", "Count",
    "ExpressionSettings", "Labels", "ListenerSettings", "Network", "PluginSettings", "PolicySettings", "PolicyTopic",
    "ProxyProtocolSettings", "QuarantineSettings", "Quorum", "RateSettings", "RecorderSettings",
    "RequireSettings", "Seconds",
    "ShadowSettings", "SpoolSettings", "TelemetrySettings", "TopicFilter", "TopicPattern", "WhenSettings",
    "Windows", "table_class",
]  # fmt: skip


@frozen(kw_only=True)
class ProxySettings:
    """`[proxy]`: the process itself."""

    id: str = setting("mqttproxy", "name of this node in metrics and in client identifiers towards upstreams")
    data_dir: Path = setting(Path("data"), "folder for quarantine, audit and whatever else must survive a restart")
    watch: bool = setting(
        False,
        "true: a change of this file, below `schemas.directory` or of a listener's certificates is put in force by "
        "itself, as on SIGHUP",
    )
    server_reference: str | None = setting(
        None, "after SIGTERM: other servers for MQTT 5 devices, as in `other.example:1883`, told in their DISCONNECT"
    )
    hop_limit: int = setting(
        1, "against loops: a message from a device that has passed more proxies than this is dropped, counted"
    )
    drain_grace: Seconds = setting(
        Seconds(10.0), "after SIGTERM: how long messages already taken may still be carried and acknowledged"
    )


@frozen(kw_only=True)
class LimitSettings:
    """`[limits]`: what bounds each buffer and wait on the devices' side."""

    connections: Count = setting(Count(100_000), "connections in total; one more is closed at once")
    connections_per_address: Count = setting(Count(256), "connections from one IP address, or from one /64 of IPv6")
    connect_deadline: Seconds = setting(
        Seconds(10.0), "from accept to a complete CONNECT, TLS and WebSocket handshake included"
    )
    handshakes: Count = setting(
        Count(10_000),
        "connections between their first byte and CONNECT at once; those beyond it wait, see denial-of-service.md",
    )
    handshake_patience: Seconds = setting(
        Seconds(0.5),
        "while others wait for one of these places: how long a peer may keep one and say nothing, in the handshake of "
        "TLS or WebSocket and again before CONNECT; then it is sent away. If very many wait, two fifths of it",
    )
    packet_size: Bytes = setting(Bytes(1024 * 1024), "largest packet from a device, checked on the fixed header")
    packet_size_before_connect: Bytes = setting(Bytes(64 * 1024), "the same for the CONNECT packet")
    payload_size: Bytes = setting(Bytes(256 * 1024), "largest payload of a PUBLISH")
    topic_bytes: Count = setting(Count(1024), "longest topic name or filter, in UTF-8 bytes")
    topic_levels: Count = setting(Count(128), "most levels in a topic name or filter")
    client_id_bytes: Count = setting(Count(128), "longest client identifier, in UTF-8 bytes")
    user_properties: Count = setting(Count(64), "most user properties in a packet")
    plugin_queue: Count = setting(
        Count(1000),
        "messages that may wait for a plug-in check; then devices wait, as they do for their messages' turn",
    )
    keep_alive: Seconds = setting(Seconds(3600.0), "longest keep alive; a device that asks for none gets this one")
    receive_maximum: Count = setting(Count(256), "QoS 1 and 2 messages a device may have unacknowledged")
    receive_maximum_exceeded: Literal["disconnect", "wait"] = setting(
        "disconnect",
        "a device that sends more of them: disconnect: its connection ends with 0x93, as the standard says; wait: "
        "it is not read until it is acknowledged, for clients that send all they have saved up when they come back",
    )
    unacknowledged_bytes: Bytes = setting(
        Bytes(1024 * 1024), "payload bytes a device may have unacknowledged before its socket is not read"
    )
    unsent_bytes: Bytes = setting(
        Bytes(256 * 1024 * 1024),
        "bytes that may wait for all devices' sockets before no more is taken from their queues: each may have an "
        "equal part, 16 KiB at least and 256 KiB at most",
    )
    qos2_awaiting_release: Count = setting(Count(100), "QoS 2 messages of a device that wait for PUBREL")
    topic_alias_maximum: int = setting(32, "topic aliases a device may use, 0: none")
    topic_aliases_to_device: int = setting(
        32, "topic aliases used towards a device that takes them, for topics that repeat; 0: none"
    )
    subscriptions_per_packet: Count = setting(Count(100), "topic filters in one SUBSCRIBE or UNSUBSCRIBE")
    subscriptions_per_client: Count = setting(Count(1000), "subscriptions of one client")
    subscribe_wait: Seconds = setting(
        Seconds(5.0),
        "how long a SUBACK waits for that of the upstream; one that is away, or slower, gets the subscription later",
    )
    queue_messages: Count = setting(
        Count(1000), "messages that wait for one slow or absent device; `queue_when_full` tells what is dropped then"
    )
    queue_bytes: Bytes = setting(Bytes(16 * 1024 * 1024), "the same in payload bytes")
    queue_when_full: Literal["drop_newest", "drop_oldest"] = setting(
        "drop_newest", "what a device's full queue loses: the message that comes, or those that wait longest"
    )
    in_flight: Count = setting(
        Count(1000), "QoS 1 and 2 messages sent to one device and not acknowledged, if its receive maximum is larger"
    )
    in_flight_bytes: Bytes = setting(
        Bytes(16 * 1024 * 1024), "about as many bytes of those; the others wait in the device's queue"
    )
    queues_bytes: Bytes = setting(
        Bytes(256 * 1024 * 1024),
        "bytes of all that waits for all devices or is on its way to them, with topics and properties",
    )
    sessions: Count = setting(Count(1_000_000), "sessions in all, of connected and absent devices; one more is refused")
    session_expiry: Seconds = setting(
        Seconds(7 * 86_400.0),
        "longest time a session is kept for an absent device; for MQTT 3.1.1 it is this long",
    )
    write_timeout: Seconds = setting(Seconds(30.0), "a device that takes no bytes for this long is disconnected")
    retained_messages: Count = setting(Count(100_000), "retained messages of local topics; one more is refused")
    retained_bytes: Bytes = setting(Bytes(64 * 1024 * 1024), "the same in payload bytes")
    wills_per_second: Count = setting(Count(1000), "wills published in a second when very many are due at once")
    wills_pending: Count = setting(
        Count(100_000), "wills that wait for their delay or their turn; one more is published at once"
    )
    wills_bytes: Bytes = setting(Bytes(64 * 1024 * 1024), "the same in bytes")
    will_grace: Seconds = setting(
        Seconds(30.0), "after a restart: devices that come back within this time have their wills cancelled"
    )
    flapping_connects: int = setting(
        15, "connections of one client identifier within `flapping_window`; one more, and it is banned. 0: no bans"
    )
    flapping_window: Seconds = setting(Seconds(60.0), "counted from the first of them")
    flapping_ban: Seconds = setting(Seconds(300.0), "how long it is not let in; trying does not prolong it")
    behaviour_devices: Count = setting(Count(100_000), "devices, or their topics, that each behaviour rule remembers")
    rate_keys: Count = setting(
        Count(100_000), "clients, addresses and so on that each rate remembers, beside those that are connected"
    )
    bans: Count = setting(Count(10_000), "bans by `mqttproxy ban`; one more is refused")
    refused_clients: Count = setting(
        Count(1000), "refused clients that `mqttproxy refused` can tell of; those refused longest ago are forgotten"
    )
    rates: tuple[RateSettings, ...] = setting((), "how much may come in how much time")


@frozen(kw_only=True)
class SessionSettings:
    """`[sessions]`: how messages reach those who subscribed. What bounds that stands in `[limits]`."""

    shared: Literal["hash", "round_robin"] = setting(
        "hash",
        "which connected member of a shared subscription gets a message: by hash of the sender's client identifier, "
        "whose messages so stay in order; or each in turn",
    )


@frozen(kw_only=True)
class TopicSettings:
    """`[topics]`: which topics devices may publish to at all. A message elsewhere fails with reason 0x90."""

    allowed: tuple[TopicFilter, ...] = setting((TopicFilter("#"),), "topic filters; `#` does not cover `$` topics")
    on_failure: tuple[Literal["hold", "alert", "refuse", "disconnect"], ...] = setting(
        ("hold",), "what happens to a message on another topic, as in a policy"
    )


@frozen(kw_only=True)
class SchemaSettings:
    """`[schemas]`: where contracts are kept."""

    directory: Path = setting(
        Path("schemas"), "folder of <subject>/<version>.json, .proto or .avsc, and <subject>/subject.toml"
    )
    check_time: Seconds = setting(Seconds(5.0), "longest time one schema may take to be checked and compiled")


@frozen(kw_only=True)
class PayloadSettings:
    """`[payload]`: what a JSON payload must be before its schema is looked at."""

    json_depth: Count = setting(Count(64), "deepest nesting of arrays and objects")
    json_items: Count = setting(Count(10_000), "most values in one payload, so that no payload holds the loop")


@frozen(kw_only=True)
class DefaultSettings:
    """`[default]`: topics that no policy or route names."""

    action: Literal["forward", "refuse", "hold"] = setting("forward", "topics without a policy")
    unrouted: Literal["refuse", "drop"] = setting("refuse", "topics without a route, when there are upstreams")


@frozen(kw_only=True)
class TopicMapping:
    """`[[upstreams.topics]]`: what some topics are called at the upstream above. Others keep their names.

    `{name}` stands for one level and a trailing `#` for the rest; both sides have the same ones, each once.
    """

    local: TopicPattern = setting(REQUIRED, "as devices, policies and routes call it")
    remote: TopicPattern = setting(REQUIRED, "as the upstream calls it")


@frozen(kw_only=True)
class UpstreamSettings:
    """`[[upstreams]]`: brokers that messages are carried to. Without any, the proxy is a broker by itself."""

    name: str = setting(REQUIRED, "unique name, in routes, logs and metrics; not `local`")
    url: str = setting(REQUIRED, "mqtt://host:1883, mqtts://host:8883, ws://host:8084/mqtt or wss://host:8085/mqtt")
    version: Literal["5", "3.1.1"] = setting("5", "MQTT version spoken to it")
    enabled: bool = setting(True, "false: not connected; routes skip it")
    client_id: str | None = setting(None, "client identifier; by default <proxy.id>-<name>")
    username: str | None = setting(None, "user name")
    password: str | None = setting(None, "password, or `${NAME}` of the environment; better in a file", secret=True)
    password_file: Path | None = setting(None, "file that holds the password, read at start and reload")
    ca: Path | None = setting(None, "CA for its certificate in PEM; by default the system's")
    certificate: Path | None = setting(None, "client certificate chain in PEM")
    private_key: Path | None = setting(None, "its key in PEM")
    insecure_skip_verify: bool = setting(False, "INSECURE: accept any certificate; shown wherever the link shows")
    keep_alive: Seconds = setting(Seconds(60.0), "keep alive towards the broker")
    clean_start: bool = setting(False, "true: forget the session at every connect")
    session_expiry: Seconds = setting(Seconds(86_400.0), "how long the broker keeps our session, MQTT 5")
    connect_timeout: Seconds = setting(Seconds(10.0), "from name look-up to CONNACK")
    ack_timeout: Seconds = setting(
        Seconds(30.0),
        "no progress of acknowledgements, or no byte taken, for this long: link is dropped and dialled anew",
    )
    in_flight: Count = setting(
        Count(1000), "QoS 1 and 2 messages sent and not yet acknowledged; the broker's Receive Maximum lowers it"
    )
    queue_messages: Count = setting(Count(1000), "messages that wait for the link")
    queue_bytes: Bytes = setting(Bytes(16 * 1024 * 1024), "the same in payload bytes")
    qos0_patience: Seconds = setting(
        Seconds(0.1), "how long QoS 0 messages wait for a full outbox of a live link before they are dropped"
    )
    backoff_first: Seconds = setting(Seconds(1.0), "first wait before dialling again; doubles, with full jitter")
    backoff_ceiling: Seconds = setting(Seconds(120.0), "longest such wait")
    backoff_reset: Seconds = setting(Seconds(30.0), "a link that lasted this long starts again at the first wait")
    breaker_failures: Count = setting(Count(5), "failures in a row that open the breaker")
    breaker_ratio: float = setting(0.5, "share of failures that opens it, of at least 20 attempts within 30 s")
    breaker_open: Seconds = setting(Seconds(30.0), "how long it stays open at first; doubles up to 300 s")
    loop_guard: bool = setting(
        True,
        "MQTT 5: messages tell it by user properties how many proxies they have passed and which was the first; "
        "false: they do not, and a loop over it is not noticed",
    )
    receive_maximum: Count = setting(
        Count(1000), "QoS 1 and 2 messages the broker may send before we have acknowledged them"
    )
    receive_bytes: Bytes = setting(
        Bytes(16 * 1024 * 1024), "the same in payload bytes; from then on the broker is not read until we have"
    )
    in_flight_bytes: Bytes = setting(
        Bytes(16 * 1024 * 1024), "payload bytes sent and not yet acknowledged; the message that reaches it still goes"
    )
    spool_bytes: Bytes | None = setting(
        None,
        "payload bytes of the spool that may wait for this upstream; without it, `spool.max_bytes` bounds them",
    )
    message_ids: bool = setting(
        True,
        "MQTT 5: each message gets the user property `mp-id`, which stays the same when it is sent again: "
        "`<proxy.id>.<start of the proxy>.<number>`",
    )
    topics: tuple[TopicMapping, ...] = setting((), "topics that have other names there")
    transforms: tuple[DestinationTransforms, ...] = setting((), "what messages become for it")


@frozen(kw_only=True)
class RouteSettings:
    """`[[routes]]`: which messages go where. The first route whose filter matches applies.

    Without any, every topic goes to all upstreams, or is local when there are none.
    """

    topics: tuple[TopicFilter, ...] = setting(REQUIRED, "topic filters")
    to: tuple[str, ...] = setting(REQUIRED, "names of upstreams, or `local`")
    ack: Ack = setting(
        "spool",
        "when the device is acknowledged: spool: the message is on disk; all, any, or `{ quorum = 2 }`: it is on disk, "
        "and so many destinations have acknowledged; memory: at once, so that a crash loses what was not yet carried",
    )
    ack_timeout: Seconds = setting(
        Seconds(30.0), "with all, any or a quorum: how long destinations have for it, before `on_ack_timeout` applies"
    )
    on_ack_timeout: Literal["withhold", "accept"] = setting(
        "withhold",
        "withhold: the device is acknowledged whenever enough destinations have; accept: it is now, as with spool",
    )
    when_full: Literal["wait", "drop_oldest", "drop_newest"] = setting(
        "wait",
        "when the spool has no more room (with memory: when an outbox is full or its breaker open): withhold and stop "
        "reading the device, or drop, counted and told",
    )
    home: str | None = setting(
        None,
        "where subscriptions to these topics are served: an upstream's name or `local`; "
        "by default the first upstream of `to`",
    )
    max_age: Seconds | None = setting(
        None, "messages from upstreams that a device did not get within this time are dropped, counted"
    )


def every_table(kind: Any = None, within: str = "") -> Iterator[tuple[str, str, Any]]:
    """Yield name, heading and class of each table of the file, those within a table after it."""
    for name, inner, is_many in inner_tables(kind or ProxyConfig):
        full = f"{within}{name}"
        yield full, f"[[{full}]]" if is_many else f"[{full}]", inner
        yield from every_table(inner, f"{full}.")


def _default_listeners() -> tuple[ListenerSettings, ...]:
    return (ListenerSettings(name="default", bind=Address("127.0.0.1:1883")),)


@frozen(kw_only=True)
class ProxyConfig:
    """The whole of `proxy.toml`."""

    proxy: ProxySettings = field(default=ProxySettings())
    listeners: tuple[ListenerSettings, ...] = field(default=Factory(_default_listeners))
    limits: LimitSettings = field(default=LimitSettings())
    overload: OverloadSettings = field(default=OverloadSettings())
    sessions: SessionSettings = field(default=SessionSettings())
    access: AccessSettings = field(default=AccessSettings())
    topics: TopicSettings = field(default=TopicSettings())
    schemas: SchemaSettings = field(default=SchemaSettings())
    payload: PayloadSettings = field(default=PayloadSettings())
    policies: tuple[PolicySettings, ...] = field(default=())
    shadow: ShadowSettings = field(default=ShadowSettings())
    behaviours: tuple[BehaviourSettings, ...] = field(default=())
    tests: CaseFolderSettings = field(default=CaseFolderSettings())
    default: DefaultSettings = field(default=DefaultSettings())
    upstreams: tuple[UpstreamSettings, ...] = field(default=())
    routes: tuple[RouteSettings, ...] = field(default=())
    spool: SpoolSettings = field(default=SpoolSettings())
    quarantine: QuarantineSettings = field(default=QuarantineSettings())
    telemetry: TelemetrySettings = field(default=TelemetrySettings())
    audit: AuditSettings = field(default=AuditSettings())
    recorder: RecorderSettings = field(default=RecorderSettings())
    masking: MaskingSettings = field(default=MaskingSettings())
    masks: tuple[MaskSettings, ...] = field(default=())
