"""What transforms and masks cost: `python -m bench.transforms`.

Each row is one message of about 1 KB, carried by `TopicCarrier` as a link does it. The ratio is to a bare
orjson.loads and orjson.dumps of the same payload in the same turn, because machines differ; the table has medians of
the turns. Times are those of the CPU: what else runs on the machine does not count. Exit 1: a 99th percentile is not
below 1 ms.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Final

import orjson

from bench.judging import MEDIUM, SLOWEST
from bench.speed import machine
from mqttproxy.config.kinds import JsonValue
from mqttproxy.config.model import LimitSettings, PayloadSettings, ProxyConfig, TopicPattern
from mqttproxy.config.transforms import (
    Cast,
    CopyTopic,
    JsonPointer,
    Mask,
    MaskSettings,
    Move,
    Rename,
    Set,
    SetTopic,
    Step,
    Template,
    Unit,
)
from mqttproxy.mqtt.packets import Message
from mqttproxy.validation.transforms import TopicCarrier, make_masker
from mqttproxy.validation.transforms.carrying import Carrier, json_codec
from mqttproxy.validation.transforms.transform import compile_steps

KEY: Final = b"a key of sixteen"
TOPIC: Final = "plant/7/temperature"
P: Final = JsonPointer

RENAME: Final = Rename(from_=P("/celsius"), to=P("/temperature"))
UNIT: Final = Unit(path=P("/celsius"), from_="C", to="F")
HASH: Final = Mask(path=P("/device"), how="hash")
COPY: Final = CopyTopic(from_=Template("{line}"), to=P("/line"))
MANY: Final[tuple[Step, ...]] = (
    Set(path=P("/source/kind"), value=JsonValue("gateway")),
    RENAME,
    Unit(path=P("/temperature"), from_="C", to="F", digits=1),
    Move(from_=P("/at"), to=P("/source/at")),
    Cast(path=P("/source/at"), type="string"),
    COPY,
    HASH,
    SetTopic(to=Template("acme/{line}/{/unit}")),
)
ROWS: Final[tuple[tuple[str, tuple[Step, ...] | None], ...]] = (
    ("another topic: nothing is said of it", None),
    ("rename", (RENAME,)),
    ("unit", (UNIT,)),
    ("mask, hash", (HASH,)),
    ("copy_topic", (COPY,)),
    ("eight steps, one of each but remove", MANY),
    ("unit of 30 readings", (Unit(path=P("/readings/*/celsius"), from_="C", to="F"),)),
)


def measure(call: Callable[[], object], calls: int) -> list[float]:
    """Return the seconds of each of many calls, sorted."""
    now, times = time.thread_time, []
    for _ in range(calls):
        began = now()
        call()
        times.append(now() - began)
    return sorted(times)


def main() -> int:
    """Measure and print; exit 1 if a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=3000, help="of each row in one turn")
    parser.add_argument("--repeat", type=int, default=5, help="turns; the table has medians")
    arguments = parser.parse_args()
    message = Message(TOPIC, orjson.dumps(MEDIUM), 1)
    masker = make_masker(ProxyConfig(masks=(MaskSettings(paths=(P("/device"), P("/readings/*/at"))),)), KEY)
    calls: list[tuple[str, Callable[[], object]]] = []
    for name, steps in ROWS:
        patterns = (TopicPattern("plant/{line}/temperature" if steps is not None else "other"),)
        transform = compile_steps(steps or (), KEY)
        carrier = TopicCarrier(
            [(patterns, transform)], Carrier(json_codec(PayloadSettings()), LimitSettings().payload_size)
        )
        calls.append((name, partial(carrier.carry, message)))
    calls.append(("[[masks]], two paths, one in 30 readings", partial(masker.payload, message.payload, TOPIC)))
    print(f"{machine()}, {len(message.payload)} bytes\n")
    print("| what | µs a message | of loads and dumps | p99 µs |\n|---|---|---|---|")
    missed = []
    for name, call in calls:
        medians, ratios, tails = [], [], []
        for _ in range(arguments.repeat):
            bare = measure(lambda: orjson.dumps(orjson.loads(message.payload)), arguments.calls)
            whole = measure(call, arguments.calls)
            medians.append(whole[len(whole) // 2])
            ratios.append(whole[len(whole) // 2] / bare[len(bare) // 2])
            tails.append(whole[len(whole) * 99 // 100])
        median, ratio, tail = (statistics.median(figures) for figures in (medians, ratios, tails))
        print(f"| {name} | {median * 1e6:.2f} | {ratio:.2f} | {tail * 1e6:.1f} |", flush=True)
        if tail >= SLOWEST:
            missed.append(f"{name}: the 99th percentile is {tail * 1e3:.2f} ms")
    print("\n" + ("missed: " + "; ".join(missed) if missed else "all below 1 ms"))
    return 1 if missed else 0


if __name__ == "__main__":
    raise SystemExit(main())
