"""The numbers of the house: plain ints that rooms add to once per batch, and the books that must balance.

How they are told to Prometheus stands with each number and is rendered by `exposition`. Labels are bounded: never a
client identifier, a topic or anything else that a device chooses. `BoundedCounter` keeps that promise for reasons.
"""

import time
from collections.abc import Callable, Iterable
from typing import Any, Final

from attrs import Factory, define, field

from mqttproxy.telemetry.counting import BoundedCounter, Histogram
from mqttproxy.telemetry.destination import DestinationSnapshot
from mqttproxy.telemetry.told import counter as _counter, gauge as _gauge, histogram as _histogram

VALIDATION_BUCKETS: Final = (1e-6, 2.5e-6, 5e-6, 1e-5, 2.5e-5, 5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 5e-3, 0.01, 0.05, 0.1)
LATENCY_BUCKETS: Final = (1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0)


def no_destinations() -> Iterable[DestinationSnapshot]:
    """Stand in until the upstream room is there."""
    return ()


@define(eq=False, kw_only=True)
class Metrics:
    """All numbers of one process. Rooms add to them with `+= n` or `.add(label, n)`, once per batch.

    Numbers that another object keeps (quarantine, audit, subscriptions) are copied in by the functions in `refresh`,
    which run before each rendering.
    """

    node: str = "mqttproxy"  # `[proxy] id`
    version: str = ""
    now: Callable[[], float] = time.monotonic
    started: float = Factory(lambda self: self.now(), takes_self=True)
    destinations: Callable[[], Iterable[DestinationSnapshot]] = no_destinations
    refresh: list[Callable[[], None]] = Factory(list)
    more: list[Any] = Factory(list)  # numbers of rooms that have a class of their own for them, told in the same way

    # Messages from devices: the books. Each counts under exactly one of routed, held, refused, dropped, waiting.
    received_by_qos: list[int] = field(
        factory=lambda: [0, 0, 0],
        metadata=_counter("mqtt_messages_received", "messages taken from devices", "qos"),
    )
    routed: int = field(
        default=0, metadata=_counter("mqtt_proxy_messages_routed", "messages judged and given to their destinations")
    )
    held: int = field(default=0, metadata=_counter("mqtt_proxy_messages_held", "messages committed to the quarantine"))
    refused: BoundedCounter = field(
        factory=BoundedCounter,
        metadata=_counter("mqtt_proxy_messages_refused", "messages refused and not kept", "reason"),
    )
    dropped: BoundedCounter = field(
        factory=BoundedCounter,
        metadata=_counter(
            "mqtt_proxy_messages_dropped", "messages that had no route, or whose device was lost", "reason"
        ),
    )
    waiting: int = field(
        default=0,
        metadata=_gauge(
            "mqtt_proxy_messages_waiting",
            "messages taken that wait for the quarantine commit",
        ),
    )

    # The judge.
    valid: int = field(
        default=0, metadata=_counter("mqtt_proxy_messages", "messages judged, by outcome", "status", "valid")
    )
    invalid: int = field(
        default=0, metadata=_counter("mqtt_proxy_messages", "messages judged, by outcome", "status", "invalid")
    )
    observed: int = field(
        default=0, metadata=_counter("mqtt_proxy_messages_observed", "invalid messages carried on: observed or dry run")
    )
    marked: int = field(
        default=0, metadata=_counter("mqtt_proxy_messages_marked", "invalid messages carried on with a mark")
    )
    policy_failures: BoundedCounter = field(
        factory=BoundedCounter,
        metadata=_counter("mqtt_proxy_policy_failures", "invalid messages by the policy that judged them", "policy"),
    )
    plugin_messages: BoundedCounter = field(
        factory=BoundedCounter,
        metadata=_counter("mqtt_proxy_plugin_messages", "messages that a plug-in check was asked about", "plugin"),
    )
    plugin_faults: BoundedCounter = field(
        factory=BoundedCounter,
        metadata=_counter(
            "mqtt_proxy_plugin_faults", "of those, messages that one could not judge, which failed for that", "fault"
        ),
    )
    plugin_starts: BoundedCounter = field(
        factory=BoundedCounter,
        metadata=_counter("mqtt_proxy_plugin_starts", "processes of plug-in checks that were started", "plugin"),
    )
    behaviour_states: int = field(
        default=0,
        metadata=_gauge("mqtt_proxy_behaviour_states", "devices, or their topics, that behaviour rules remember"),
    )
    behaviour_forgotten: int = field(
        default=0,
        metadata=_counter("mqtt_proxy_behaviour_forgotten", "of those, forgotten because there were too many"),
    )
    shadowed: dict[tuple[str, str], int] = field(
        factory=dict,
        metadata=_counter(
            "mqtt_proxy_shadow_messages",
            "messages by what a policy and its candidate said of them, or why they were not judged by it",
            ("policy", "outcome"),
        ),
    )
    shadow_waiting: int = field(
        default=0, metadata=_gauge("mqtt_proxy_shadow_waiting", "messages that wait for candidates")
    )
    silent: int = field(default=0, metadata=_gauge("mqtt_proxy_silent_devices", "devices that are silent, by any rule"))
    silences: BoundedCounter = field(
        factory=BoundedCounter, metadata=_counter("mqtt_proxy_silences", "silences of devices that began", "policy")
    )
    validation_seconds: Histogram = field(
        factory=lambda: Histogram(VALIDATION_BUCKETS),
        metadata=_histogram(
            "mqtt_proxy_validation_duration_seconds",
            "time to judge a message and find its way, as the mean of its batch",
        ),
    )
    latency_seconds: Histogram = field(
        factory=lambda: Histogram(LATENCY_BUCKETS),
        metadata=_histogram("mqtt_message_latency_seconds", "from reading a message to its being settled"),
    )

    # Connections of devices.
    listening: dict[str, int] = field(
        factory=dict, metadata=_gauge("mqtt_proxy_connection_status", "1: the listener accepts devices", "listener")
    )
    active_connections: BoundedCounter = field(
        factory=BoundedCounter, metadata=_gauge("mqtt_active_connections", "devices connected", "listener")
    )
    handshakes: int = field(
        default=0, metadata=_gauge("mqtt_proxy_handshakes", "connections between accept and CONNECT")
    )
    handshake_waits: int = field(
        default=0,
        metadata=_counter(
            "mqtt_proxy_handshake_waits", "connections that had to wait, because `limits.handshakes` were on"
        ),
    )
    handshakes_waiting: int = field(
        default=0, metadata=_gauge("mqtt_proxy_handshakes_waiting", "of the handshakes, those that wait for their turn")
    )
    connections_opened: BoundedCounter = field(
        factory=BoundedCounter, metadata=_counter("mqtt_proxy_connections_opened", "connections accepted", "listener")
    )
    connections_closed: BoundedCounter = field(
        factory=BoundedCounter, metadata=_counter("mqtt_proxy_connections_closed", "connections ended", "reason")
    )
    connections_refused: BoundedCounter = field(
        factory=BoundedCounter, metadata=_counter("mqtt_proxy_connections_refused", "connections not let in", "reason")
    )
    authentications: BoundedCounter = field(
        factory=BoundedCounter,
        metadata=_counter("mqtt_proxy_authentications", "devices whose credentials were looked at", "outcome"),
    )
    users_watched: dict[str, int] = field(
        factory=dict,
        metadata=_gauge("mqtt_proxy_users_watched", "1: its users can be looked up", "authenticator"),
    )
    access_denied: BoundedCounter = field(
        factory=BoundedCounter,
        metadata=_counter("mqtt_proxy_access_denied", "what the access rules did not allow", "what"),
    )
    protocol_errors: BoundedCounter = field(
        factory=BoundedCounter,
        metadata=_counter("mqtt_proxy_protocol_errors", "devices that broke MQTT, by reason code", "reason"),
    )
    bytes_in: int = field(default=0, metadata=_counter("mqtt_proxy_received_bytes", "bytes read from devices"))
    bytes_out: int = field(default=0, metadata=_counter("mqtt_proxy_sent_bytes", "bytes written to devices"))

    # Messages from upstreams: the books. Each counts under exactly one of carried, held, refused, waiting.
    received_down: int = field(
        default=0, metadata=_counter("mqtt_proxy_down_received", "messages taken from upstreams")
    )
    carried_down: int = field(
        default=0, metadata=_counter("mqtt_proxy_down_carried", "messages from upstreams given to their subscribers")
    )
    held_down: int = field(
        default=0, metadata=_counter("mqtt_proxy_down_held", "messages from upstreams committed to the quarantine")
    )
    refused_down: BoundedCounter = field(
        factory=BoundedCounter,
        metadata=_counter("mqtt_proxy_down_refused", "messages from upstreams given to nobody and not kept", "reason"),
    )
    waiting_down: int = field(
        default=0,
        metadata=_gauge("mqtt_proxy_down_waiting", "messages from upstreams that wait for the quarantine commit"),
    )

    # Towards devices.
    delivered_down: int = field(
        default=0, metadata=_counter("mqtt_proxy_deliveries", "messages handed to subscribed devices")
    )
    dropped_down: BoundedCounter = field(
        factory=BoundedCounter,
        metadata=_counter(
            "mqtt_proxy_deliveries_dropped", "messages that a subscribed device could not take", "reason"
        ),
    )
    subscriptions_refused: BoundedCounter = field(
        factory=BoundedCounter,
        metadata=_counter("mqtt_proxy_subscriptions_refused", "topic filters that devices did not get", "reason"),
    )
    subscriptions: int = field(default=0, metadata=_gauge("mqtt_proxy_subscriptions", "subscriptions of devices"))
    retained_messages: int = field(
        default=0, metadata=_gauge("mqtt_proxy_retained_messages", "retained messages of local topics")
    )
    retained_bytes: int = field(
        default=0, metadata=_gauge("mqtt_proxy_retained_bytes", "payload bytes of retained messages")
    )

    retained_expired: int = field(
        default=0, metadata=_counter("mqtt_proxy_retained_expired", "retained messages whose life was over")
    )
    retained_dropped: int = field(
        default=0,
        metadata=_counter("mqtt_proxy_retained_dropped", "retained messages that did not fit any more at the start"),
    )

    # Sessions.
    sessions: int = field(default=0, metadata=_gauge("mqtt_proxy_sessions", "sessions, connected or not"))
    sessions_disconnected: int = field(
        default=0, metadata=_gauge("mqtt_proxy_sessions_disconnected", "sessions whose device is not connected")
    )
    sessions_discarded: int = field(
        default=0, metadata=_counter("mqtt_proxy_sessions_discarded", "sessions that are over")
    )
    queued_down: int = field(
        default=0,
        metadata=_gauge("mqtt_proxy_queued_messages", "messages that wait for devices, or for their acknowledgement"),
    )
    queued_down_bytes: int = field(
        default=0, metadata=_gauge("mqtt_proxy_queued_bytes", "bytes of those, as limits.queues_bytes counts them")
    )
    journal_pending: int = field(
        default=0,
        metadata=_gauge("mqtt_proxy_journal_pending", "rows of sessions and spool that wait for a commit"),
    )
    journal_commits: int = field(
        default=0, metadata=_counter("mqtt_proxy_journal_commits", "commits of sessions and spool together")
    )
    journal_failures: int = field(
        default=0, metadata=_counter("mqtt_proxy_journal_failures", "commits that the disk refused")
    )
    journal_trouble: int = field(
        default=0, metadata=_gauge("mqtt_proxy_journal_trouble", "1: sessions and spool cannot be written")
    )

    journal_lost_commits: int = field(
        default=0,
        metadata=_counter("mqtt_proxy_journal_lost_commits", "commits that had been made and were missing at a start"),
    )

    # The spool.
    spool_messages: int = field(
        default=0, metadata=_gauge("mqtt_proxy_spool_messages", "messages that destinations still need")
    )
    spool_bytes: int = field(default=0, metadata=_gauge("mqtt_proxy_spool_bytes", "payload bytes of those"))
    spool_pending: int = field(
        default=0, metadata=_gauge("mqtt_proxy_spool_pending", "of those, messages that wait for their commit")
    )
    spool_waiting: int = field(
        default=0, metadata=_gauge("mqtt_proxy_spool_waiting", "messages that devices hold until the spool has room")
    )
    spool_committed: int = field(
        default=0, metadata=_counter("mqtt_proxy_spool_committed", "messages that went through the spool")
    )
    spool_full: int = field(default=0, metadata=_gauge("mqtt_proxy_spool_full", "1: it takes nothing more"))
    spool_damaged: int = field(
        default=0,
        metadata=_counter("mqtt_proxy_spool_damaged", "messages read back whose checksum did not fit, not delivered"),
    )
    spool_missing: int = field(
        default=0, metadata=_counter("mqtt_proxy_spool_missing", "messages that were not found where they should be")
    )

    # Wills and flapping.
    wills_pending: int = field(
        default=0,
        metadata=_gauge(
            "mqtt_proxy_wills_pending", "wills that wait for their delay, their turn or their destinations"
        ),
    )
    wills_bytes: int = field(default=0, metadata=_gauge("mqtt_proxy_wills_bytes", "bytes of those"))
    wills_published: int = field(default=0, metadata=_counter("mqtt_proxy_wills_published", "wills that were due"))
    wills_cancelled: int = field(
        default=0, metadata=_counter("mqtt_proxy_wills_cancelled", "wills whose devices came back in time")
    )
    wills_early: int = field(
        default=0,
        metadata=_counter(
            "mqtt_proxy_wills_early", "wills published at once, because too many or too large ones waited"
        ),
    )
    flapping_banned: int = field(
        default=0,
        metadata=_gauge("mqtt_proxy_flapping_banned", "client identifiers not let in, because they connect too often"),
    )
    flapping_bans: int = field(
        default=0, metadata=_counter("mqtt_proxy_flapping_bans", "client identifiers that were banned for that")
    )
    flapping_forgotten: int = field(
        default=0,
        metadata=_counter("mqtt_proxy_flapping_forgotten", "client identifiers no longer watched: there were too many"),
    )

    # Quarantine, audit, generations.
    quarantine_bytes: int = field(
        default=0, metadata=_gauge("mqtt_proxy_quarantine_size_bytes", "payload bytes in the quarantine")
    )
    quarantine_messages: int = field(
        default=0, metadata=_gauge("mqtt_proxy_quarantine_messages", "messages in the quarantine")
    )
    quarantine_expired: dict[str, int] = field(
        factory=dict,
        metadata=_counter("mqtt_proxy_quarantine_expired", "held messages removed by retention, see there", "bound"),
    )
    quarantine_trouble: int = field(
        default=0, metadata=_gauge("mqtt_proxy_quarantine_trouble", "1: the quarantine cannot be written")
    )
    quarantine_issues: dict[str, int] = field(
        factory=dict, metadata=_gauge("mqtt_proxy_quarantine_issues", "failures that are alike, as issues", "state")
    )
    quarantine_issues_forgotten: int = field(
        default=0,
        metadata=_counter("mqtt_proxy_quarantine_issues_forgotten", "issues let go of: there were too many"),
    )
    released: int = field(
        default=0, metadata=_counter("mqtt_proxy_quarantine_released", "held messages that were released")
    )
    release_failures: int = field(
        default=0,
        metadata=_counter(
            "mqtt_proxy_quarantine_release_failures", "held messages that were to be released and failed again"
        ),
    )
    release_running: int = field(
        default=0,
        metadata=_gauge("mqtt_proxy_quarantine_release_running", "number of the release under way, 0: there is none"),
    )
    audit_lines: int = field(default=0, metadata=_counter("mqtt_proxy_audit_lines", "lines in the audit trail"))
    audit_dropped: int = field(
        default=0, metadata=_counter("mqtt_proxy_audit_dropped", "audit lines lost: the disk could not keep up")
    )
    audit_trouble: int = field(
        default=0, metadata=_gauge("mqtt_proxy_audit_trouble", "1: the audit trail cannot be written")
    )
    generation: int = field(default=0, metadata=_gauge("mqtt_proxy_generation", "number of the configuration in force"))
    reloads: int = field(
        default=0, metadata=_counter("mqtt_proxy_reloads", "configurations put in force after the first")
    )
    reload_failures: int = field(
        default=0,
        metadata=_counter("mqtt_proxy_reload_failures", "configurations that were faulty and not put in force"),
    )
    rollbacks: int = field(
        default=0, metadata=_counter("mqtt_proxy_rollbacks", "configurations on trial that were taken back")
    )
    generation_on_trial: int = field(
        default=0,
        metadata=_gauge("mqtt_proxy_generation_on_trial", "1: it is rolled back unless it is confirmed in time"),
    )
    config_file_differs: int = field(
        default=0, metadata=_gauge("mqtt_proxy_config_file_differs", "1: the file is not what is in force")
    )

    @property
    def received(self) -> int:
        """Messages taken from devices, over all QoS."""
        return sum(self.received_by_qos)

    @property
    def uptime(self) -> float:
        """Seconds since the start."""
        return self.now() - self.started

    def books(self) -> tuple[int, int]:
        """Return received, and everything that became of it. They are equal or there is a bug (promise P9).

        Holds between two batches: a room that has taken a batch writes all of its numbers before its next await.
        """
        became = self.routed + self.held + self.refused.total() + self.dropped.total() + self.waiting
        return self.received, became

    def books_down(self) -> tuple[int, int]:
        """Return what was received from upstreams, and everything that became of it; as `books`."""
        became = self.carried_down + self.held_down + self.refused_down.total() + self.waiting_down
        return self.received_down, became
