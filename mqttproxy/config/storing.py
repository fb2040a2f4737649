"""The settings of `[spool]` and `[quarantine]`: what stands on disk, and for how long."""

from typing import Literal

from attrs import frozen

from mqttproxy.config.kinds import Bytes, Count, Seconds, setting


@frozen(kw_only=True)
class SpoolSettings:
    """`[spool]`: what is acknowledged and not yet at all its destinations, on disk under `proxy.data_dir`.

    Messages of QoS 1 and 2 go through it, but for routes with `ack = "memory"`.
    """

    max_bytes: Bytes = setting(
        Bytes(1024**3), "payload bytes that may wait for all destinations; then the `when_full` of the route applies"
    )
    max_age: Seconds = setting(Seconds(86_400.0), "how long a message may wait for a destination; then it is dropped")
    durability: Literal["fsync", "process"] = setting(
        "fsync",
        "what is acknowledged survives: fsync: a power failure too; process: the end of this process, however sudden. "
        "Holds for sessions, retained messages and wills as well; read at start only",
    )
    queue_messages: Count = setting(Count(50_000), "messages that may wait for the commit; then devices wait")
    queue_bytes: Bytes = setting(Bytes(64 * 1024 * 1024), "the same in payload bytes")


@frozen(kw_only=True)
class QuarantineSettings:
    """`[quarantine]`: what was refused and why. Whichever bound is reached first removes the oldest."""

    max_age: Seconds = setting(Seconds(30 * 86_400.0), "how long a held message is kept")
    max_bytes: Bytes = setting(Bytes(10 * 1024**3), "bytes of payloads, properties and failures kept in all")
    max_messages: Count = setting(Count(1_000_000), "messages kept in all")
    client_share: float = setting(
        0.1,
        "share of `max_bytes` and `max_messages` that is left to one user (who is not authenticated: one address, of "
        "IPv6 a /64) when the whole is full: then the oldest of those who have more go first. While there is room, "
        "anybody may have more. 1: the oldest of all go",
    )
    keep_free: Bytes | None = setting(
        None,
        "free space on the disk that is left to the spool: below it nothing is held, and whoever sent it waits; by "
        "default 128 MiB, and of a disk below 2.5 GiB a twentieth",
    )
    max_issues: Count = setting(
        Count(1000), "issues kept in all: failures that are alike, with what was decided on them"
    )
    inline_bytes: Bytes = setting(Bytes(16 * 1024), "larger payloads go to a file of their own beside the database")
    queue_messages: Count = setting(Count(10_000), "held messages that may wait for the commit; then devices wait")
    queue_bytes: Bytes = setting(Bytes(64 * 1024 * 1024), "the same in bytes of payloads, properties and failures")
