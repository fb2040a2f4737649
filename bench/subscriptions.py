"""Measure the table of subscriptions: `python bench/subscriptions.py`, or with other numbers of subscriptions.

In one process, without a network: what it costs to find the subscribers of a topic (not cached, and from the cache), to
subscribe and to unsubscribe, and the memory of each subscription. Of ten filters, seven are without wildcards, two have
a `+`, one ends in `#`; each device has ten. A topic matches three subscriptions, however many there are.
"""

import gc
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from time import perf_counter
from typing import Final

from mqttproxy.mqtt.packets import Message, Subscription
from mqttproxy.sessions import SubscriptionTable

SIZES: Final = (1_000, 100_000, 1_000_000)
EACH: Final = 10  # subscriptions of a device
PROBES: Final = 1000  # topics or subscriptions that a time is the mean of
STORM: Final = 20_000


class Device:
    """One that throws everything away."""

    __slots__ = ("client_id", "is_connected")

    def __init__(self, client_id: str) -> None:
        self.client_id = client_id
        self.is_connected = True

    def has_room_for(self, messages: Sequence[Message]) -> bool:  # noqa: ARG002 # all of them
        """Say yes."""
        return True

    def hold(self) -> None:
        """Do nothing: there is nothing to withhold."""

    def deliver(self, messages: Sequence[Message]) -> None:
        """Take messages."""


def filters_of(device: int) -> Iterator[str]:
    """Yield the filters of one device."""
    home = f"plant/{device % 100}/device/{device}"
    for number in range(EACH - 3):
        yield f"{home}/command/{number}"
    yield f"{home}/+/0"
    yield f"plant/+/device/{device}/command/1"
    yield f"{home}/#"


def topics(devices: int) -> list[str]:
    """Return a topic of each of some devices all over the table, which matches three subscriptions."""
    chosen = range(0, devices, max(1, devices // PROBES))
    return [f"plant/{device % 100}/device/{device}/command/1" for device in chosen]


def resident() -> int:
    """Return the bytes of memory of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS:"))


def micros(calls: int, work: Callable[[], object]) -> float:
    """Return the microseconds of each of the calls that some work makes."""
    began = perf_counter()
    work()
    return (perf_counter() - began) / calls * 1e6


def storm(table: SubscriptionTable, wanted: Sequence[str]) -> Callable[[], None]:
    """Return work that subscribes to a filter with a wildcard before each message, which empties the cache."""
    device = Device("storm")

    def work() -> None:
        for number in range(STORM):
            table.subscribe(device, Subscription(f"storm/{number}/#", 1))
            table.has_subscriber(wanted[number % len(wanted)])

    return work


def measure(size: int) -> None:
    """Print one row."""
    gc.collect()
    before = resident()
    table = SubscriptionTable()
    devices = [Device(f"device-{number}") for number in range(size // EACH)]

    def subscribe() -> None:
        for number, device in enumerate(devices):
            for topic_filter in filters_of(number):
                table.subscribe(device, Subscription(topic_filter, 1))

    subscribing = micros(size, subscribe)
    memory = (resident() - before) / size
    wanted = topics(len(devices))

    def match() -> None:
        for topic in wanted:
            table.has_subscriber(topic)

    matching, cached = micros(len(wanted), match), micros(len(wanted), match)
    messages = [Message(topic, b"") for topic in wanted]
    assert table.deliver(messages) == len(wanted)  # each goes to one device, by three of its subscriptions
    storming = micros(STORM, storm(table, wanted))

    def unsubscribe() -> None:
        for number, device in enumerate(devices[:PROBES]):
            for topic_filter in filters_of(number):
                table.unsubscribe(device.client_id, topic_filter)

    leaving = micros(min(PROBES, len(devices)) * EACH, unsubscribe)
    row = (
        f"{size:,}",
        *(f"{time:.1f}" for time in (matching, cached, subscribing, leaving, storming)),
        f"{memory:.0f}",
    )
    print("| " + " | ".join(row) + " |", flush=True)


def main() -> None:
    """Print the table."""
    print("| subscriptions | match µs | cached | subscribe µs | unsubscribe µs | both in a storm µs | bytes each |")
    print("|---|---|---|---|---|---|---|")
    for size in [int(text) for text in sys.argv[1:]] or SIZES:
        measure(size)


if __name__ == "__main__":
    main()
