"""The rows of the catalogue of faults, and the tests that are named after them: `test_X<n>_...`."""

from typing import Final

from attrs import frozen


@frozen
class Row:
    """One fault.

    Attributes:
        what: the world does to us.
        where: files below `tests/` that test it. Empty: nothing does yet, and no test may have its name.
        lacks: what of the row no test shows yet.
        long: what its tests do only in their long form, see forms.py.

    """

    what: str
    where: tuple[str, ...] = ()
    lacks: str = ""
    long: str = ""


_SESSIONS: Final = "what waits for subscribers that are away as the store: it shares the spool's database and commits"

ROWS: Final = {
    "X1": Row(
        "a broker is killed and started again, with its state and without",
        ("faults/test_kills.py", "faults/test_outage.py", "scenarios/test_outage.py", "upstream/test_mosquitto.py"),
        long="6 seconds away, not 2; 1,000 messages a second, not 300",
    ),
    "X2": Row(
        "a reset after any byte", ("faults/test_network.py",), lacks="packets of ours besides those of publishing"
    ),
    "X3": Row(
        "a black hole, half open, in one direction only",
        ("faults/test_network.py", "upstream/test_supervisor.py"),
    ),
    "X4": Row(
        "a slow broker, a window of nothing",
        (
            "faults/test_network.py",
            "scenarios/test_backpressure.py",
            "upstream/test_mosquitto.py",
            "upstream/test_supervisor.py",
        ),
    ),
    "X5": Row("CONNACK refuses, and then accepts", ("upstream/test_refused.py",)),
    "X6": Row("another client takes our session", ("upstream/test_refused.py",)),
    "X7": Row("the broker has kept the session, or lost it", ("upstream/test_link.py", "upstream/test_supervisor.py")),
    "X8": Row(
        "the broker acknowledges and drops",
        ("scenarios/test_refusing.py",),
        lacks="a tool to compare what brokers have; that it is lost there is no promise of ours",
    ),
    "X9": Row("the broker refuses one message", ("scenarios/test_refusing.py", "upstream/test_refused.py")),
    "X10": Row(
        "the broker's certificate is not what it should be", ("transport/test_tls.py", "upstream/test_certificates.py")
    ),
    "X11": Row(
        "the broker's name is not found, or slowly",
        ("transport/test_dial.py", "upstream/test_host_names.py", "upstream/test_supervisor.py"),
    ),
    "X12": Row(
        "the disk is full",
        (
            "faults/test_disk.py",
            "faults/test_syscalls.py",
            "quarantine/test_store.py",
            "quarantine/test_writer.py",
        ),
        long=_SESSIONS,
    ),
    "X13": Row(
        "one write or sync fails",
        (
            "faults/test_disk.py",
            "faults/test_syscalls.py",
            "quarantine/test_store.py",
            "quarantine/test_writer.py",
        ),
        long=_SESSIONS,
    ),
    "X14": Row("the disk is slow", ("faults/test_disk.py",)),
    "X15": Row(
        "files are torn, cut, flipped, lost, or opened twice",
        (
            "faults/test_corruption.py",
            "faults/test_damage.py",
            "quarantine/test_lock.py",
            "scenarios/test_starting.py",
            "spool/test_reader.py",
        ),
        lacks="flipped bits in the tables of sessions and of cursors: their rows have no checksums",
    ),
    "X16": Row(
        "SQLite is locked, damaged or newer",
        ("faults/test_databases.py", "quarantine/test_store.py", "quarantine/test_writer.py"),
        long=_SESSIONS,
    ),
    "X17": Row(
        "the proxy is killed under load",
        ("faults/test_kills.py", "quarantine/test_store.py", "scenarios/test_signals.py"),
        lacks="a start with a spool of 1 GB: the largest measured had 1.2 million messages",
        long="1,000 messages a second, not 300",
    ),
    "X18": Row("power is lost", ("faults/test_power.py",), long=f"6 times each, not 2; {_SESSIONS}"),
    "X19": Row("SIGTERM under load, twice, while it starts", ("scenarios/test_signals.py",)),
    "X20": Row("a kill at each system call", ("faults/test_syscalls.py",)),
    "X21": Row(
        "a reload of something broken, or without an upstream",
        ("faults/test_reloads.py", "scenarios/test_changes.py", "scenarios/test_reloading.py"),
    ),
    "X22": Row("the clock of the wall jumps", ("faults/test_machine.py", "test_clock.py"), long=_SESSIONS),
    "X23": Row("no descriptor is left", ("faults/test_machine.py",)),
    "X24": Row(
        "memory is short",
        ("faults/test_machine.py", "test_apart.py", "transport/test_dial.py"),
        lacks="that it sheds before it ends",
    ),
    "X25": Row(
        "the proxy stands still for a while",
        ("downstream/test_keepalive.py", "faults/test_machine.py", "faults/test_network.py"),
        lacks="a cluster",
    ),
    "X30": Row("a device does not read", ("downstream/test_device.py", "faults/test_network.py")),
    "X31": Row(
        "all devices come back at once",
        ("downstream/test_door.py", "faults/test_network.py"),
        long="1,000 devices, not 200",
    ),
    "X32": Row(
        "a validator dies or hangs",
        ("test_apart.py", "test_asking.py", "test_reload.py"),
    ),
    "X33": Row("an error of ours in any task", ("downstream/test_device_end.py",), lacks="tasks that are no device's"),
}
