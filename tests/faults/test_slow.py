"""Slow connections in hundreds: `python -m tests.faults.slow` does it with thousands, for longer.

The proxy has far fewer places for handshakes than there are attackers, as it has by default when there are thousands.
"""

import resource
import socket
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import pytest
import trio

from tests.faults.attackers import KINDS, sources
from tests.faults.forms import LONG
from tests.faults.guests import Guests
from tests.faults.slow import HEADS, Plan, besiege, cells, processor_seconds
from tests.harness import running_proxy, write_settings
from tests.waiting import PATIENCE, wait_until

COUNT: Final = 1000 if LONG else 300
SECONDS: Final = 10.0 if LONG else 2.5
LIMITS: Final = 'handshakes = 30\nconnect_deadline = "2s"\n'
WITHIN: Final = 5.0  # seconds to CONNACK: a test does not measure a machine that does something else too
MEMORY: Final = 250_000_000

IDS: Final = {
    "silent": "E7",
    "connect-bytewise": "E7",
    "tls-silent": "E1",
    "tls-half": "E1",
    "tls-then-silent": "E1",
    "ws-bytewise": "E5",
    "ws-then-silent": "E5",
    "never-reads": "C",
    "half-publish": "A",
}


@pytest.mark.parametrize("origin", ["hundred", *(("one", "each") if LONG else ())])
@pytest.mark.parametrize("kind", IDS)
def test_E1_E5_E7_good_clients_come_in_beside_slow_ones_and_all_is_given_back(
    tmp_path: Path, kind: str, origin: str
) -> None:
    plan = Plan(kind=kind, origin=origin, count=COUNT, rate=COUNT, seconds=SECONDS, guests=5)
    result = besiege(tmp_path, plan, LIMITS)
    result.check(within=WITHIN, memory=MEMORY)
    assert result.most_open >= 0.8 * COUNT or origin == "one"  # who is sent away comes again
    assert result.served >= 5
    assert len(cells(result)) == len(HEADS)


@pytest.mark.parametrize("kind", [name for name, kind in KINDS.items() if kind.hangs_up])
def test_E6_hundreds_that_connect_and_hang_up_each_second_are_survived(tmp_path: Path, kind: str) -> None:
    plan = Plan(kind=kind, rate=2000 if LONG else 500, seconds=SECONDS, guests=5)
    result = besiege(tmp_path, plan, LIMITS)
    result.check(within=WITHIN, memory=MEMORY)
    assert result.attacks > 100


def test_E6_attackers_that_take_all_descriptors_make_room_for_others(tmp_path: Path) -> None:
    file = write_settings(tmp_path, '[limits]\nconnect_deadline = "1h"')
    with running_proxy(file) as proxy, ExitStack() as stack:
        resource.prlimit(proxy.pid, resource.RLIMIT_NOFILE, (128, 128))
        for source in sources(200):
            stack.enter_context(
                socket.create_connection(("127.0.0.1", proxy.port()), timeout=PATIENCE, source_address=(source, 0))
            )
        wait_until(lambda: proxy.log("accept_failed"), "no descriptors")
        guests = Guests(proxy.url())
        trio.run(guests.visit)
        assert not guests.failures
        before, began = processor_seconds(proxy.pid), time.monotonic()
        time.sleep(1.0)  # long enough to see that it is at rest
        share = (processor_seconds(proxy.pid) - before) / (time.monotonic() - began)
        assert share < 0.5, f"busy: {share:.0%} of a processor"
        assert len(proxy.log("accept_failed")) <= 2 + (time.monotonic() - began + 10), "a line for each"
