"""A broker is killed with -9 while devices publish to both, and comes back: what was acknowledged is on both."""

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing
from itertools import pairwise
from pathlib import Path
from typing import Final

import pytest
from attrs import frozen

from tests.faults.ledger import Ledger, Stream
from tests.harness import RunningProxy, running_proxy, write_settings
from tests.scenarios.devices import PahoDevice, Place, Transport
from tests.scenarios.mosquitto import Mosquitto, running_brokers
from tests.scenarios.publishers import Killable, LedgerBroker, MosquittoWithEar, Publisher, Stored, parse
from tests.waiting import wait_until

SETTINGS: Final = """
[[upstreams]]
name = "a"
url = "{a}"

[[upstreams]]
name = "b"
url = "{b}"
version = "{version}"
backoff_first = "100ms"
backoff_ceiling = "200ms"
breaker_open = "300ms"

[[routes]]
topics = ["only-a/#"]
to = ["a"]

[[routes]]
topics = ["#"]
to = ["a", "b"]
ack = "all"
"""
TRANSPORTS: Final[tuple[Transport, ...]] = ("tcp", "tls", "ws")
WINDOW: Final = 20
PACE: Final = 0.01  # seconds between messages where a stall fills the windows in any case
OUTAGE: Final = 1.5  # seconds, at least
LONGEST_PAUSE: Final = 0.9  # of the outage, without a message at the broker that is well; mostly it is a thirtieth


@frozen
class Outage:
    """The other broker and its ear, the one to kill, and the proxy before both."""

    ear: PahoDevice
    killed: Killable
    proxy: RunningProxy
    stalls: bool  # before it is killed, so that everybody's window is on its way to it
    qos: int


@pytest.fixture(
    params=[
        "mosquitto-running-5",
        "mosquitto-stalled-3.1.1",
        "ours-forgetting-5",
        "ours-keeping-3.1.1",
        "ours-exactly_once-5",
    ]
)
def outage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Outage]:
    kind, _, version = str(request.param).rpartition("-")
    with ExitStack() as stack:
        (a,) = stack.enter_context(running_brokers(tmp_path, "a"))
        ear = stack.enter_context(closing(PahoDevice("ear", Place(a.port))))
        ear.subscribe("#", 0)
        killed: Killable = LedgerBroker(keeps_sessions=kind != "ours-forgetting", forgets=kind != "ours-exactly_once")
        if kind.startswith("mosquitto"):
            killed = MosquittoWithEar(Mosquitto(tmp_path / "b"))
        stack.enter_context(closing(killed)).start()
        text = SETTINGS.format(a=a.url, b=killed.url, version=version)
        proxy = stack.enter_context(running_proxy(write_settings(tmp_path, text, transports=TRANSPORTS)))
        proxy.wait_linked("a", "b")
        yield Outage(ear, killed, proxy, kind != "mosquitto-running", 2 if kind == "ours-exactly_once" else 1)


def test_X1_what_was_acknowledged_is_on_both_brokers_after_one_was_killed(outage: Outage) -> None:
    proxy, killed, ear = outage.proxy, outage.killed, outage.ear
    ca = proxy.file.parent / "tls" / "ca.pem"
    pace = PACE if outage.stalls else 0.0
    with ExitStack() as stack:
        both = [
            stack.enter_context(
                closing(
                    Publisher(
                        f"both-{i}", f"both/{i}", Place(proxy.port(road), road, ca), WINDOW, outage.qos, pace=pace
                    )
                )
            )
            for i, road in enumerate(TRANSPORTS)
        ]
        alone = stack.enter_context(closing(Publisher("alone", "only-a/1", Place(proxy.port()), WINDOW, pace=PACE)))
        everybody = [*both, alone]
        for publisher in everybody:
            publisher.wait_more(50)
        before = {publisher.name: len(publisher.acknowledged) for publisher in everybody}
        if outage.stalls:
            killed.stall()
            wait_until(lambda: proxy.metric("mqtt_proxy_in_flight_messages", destination="b") == WINDOW * len(both))
        killed.kill()
        killed_at = time.monotonic()
        wait_until(lambda: proxy.metric("mqtt_proxy_breaker_state", destination="b", state="open"), "an open breaker")
        wait_until(lambda: time.monotonic() > killed_at + OUTAGE)
        alone.wait_more(50)
        stuck = {publisher.name: publisher.sent - len(publisher.acknowledged) for publisher in both}
        back_at = time.monotonic()
        killed.start()
        for publisher in everybody:
            publisher.wait_more(50)
        for publisher in everybody:
            publisher.stop()
        for publisher in everybody:
            publisher.wait_all()
        sent = {publisher.name: publisher.sent for publisher in everybody}

    # During the outage: full windows wait for it, everything else goes on.
    assert stuck == dict.fromkeys(stuck, WINDOW)
    lasted = back_at - killed_at
    pause = longest_pause(ear, "only-a/1", killed_at, back_at)
    assert pause < LONGEST_PAUSE * lasted, f"{pause:.3f} s of {lasted:.3f} s"

    # Afterwards: the ledger.
    for publisher in everybody:
        assert publisher.acknowledged == list(range(1, publisher.sent + 1))
    wait_until(lambda: set(parse(ear.received)) >= everything(sent), "everything at a")
    check_ledger(parse(ear.received), sent, {})
    del sent["alone"]
    if isinstance(killed, LedgerBroker):
        assert bool(killed.forgotten) == killed.forgets
    wait_until(lambda: set(killed.stored()) >= everything(sent), "everything at b")
    in_flight = {name: range(before[name] + 1, sent[name] + 1) for name in sent}
    check_ledger(killed.stored(), sent, in_flight if outage.qos == 1 else {})

    # And the books.
    proxy.check_unharmed()
    total = sum(sent.values())
    assert proxy.metric("mqtt_messages_forwarded_total", destination="b") == total
    assert proxy.metric("mqtt_messages_forwarded_total", destination="a") == total + alone.sent
    assert proxy.metric("mqtt_proxy_messages_routed_total") == total + alone.sent
    assert proxy.metric("mqtt_proxy_destination_reconnects_total", destination="b") == 1


def everything(sent: dict[str, int]) -> set[tuple[str, int]]:
    return {(name, number) for name, count in sent.items() for number in range(1, count + 1)}


def check_ledger(stored: Stored, sent: dict[str, int], may_repeat: dict[str, range]) -> None:
    """Check one broker's side: nothing missing, in order, and repeated only what was in flight at the kill."""
    ledger = Ledger(["there"])
    payloads = {who: ledger.send(Stream(who[0], who[0], 1)) for who in sorted(everything(sent))}
    for payload in payloads.values():
        ledger.acknowledge(payload)
    for who in stored:
        ledger.receive("there", who[0], payloads[who])
    ledger.report().check(repeats=[1])
    for name, numbers in repeated(stored).items():
        assert len(numbers) <= WINDOW
        assert set(numbers) <= set(may_repeat.get(name, ()))
    assert max(Counter(stored).values()) <= 2


def repeated(stored: Stored) -> dict[str, list[int]]:
    """Return the numbers that came more than once, by publisher."""
    found: dict[str, list[int]] = {}
    for (name, number), times in Counter(stored).items():
        if times > 1:
            found.setdefault(name, []).append(number)
    return found


def longest_pause(ear: PahoDevice, topic: str, since: float, until: float) -> float:
    """Return the longest time without a message on a topic, in seconds."""
    arrivals = [at for at, message in zip(ear.times, ear.received, strict=False) if message.topic == topic]
    marks = [since, *(at for at in arrivals if since < at < until), until]
    return max(later - earlier for earlier, later in pairwise(marks))
