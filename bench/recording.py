"""What the recorder costs for each message: `python -m bench.recording`.

First in the thread that serves: taking notes of a batch, of which all, or nearly none, are recorded. Then in the
recorder's own: masking, encoding, writing. Times are processor time of the thread, in microseconds for each message,
medians of the turns. While the recorder is off a batch costs one look, told last; a message costs nothing.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import orjson

from bench.speed import machine
from mqttproxy.apart import IN_THREAD
from mqttproxy.config.load import parse_config
from mqttproxy.config.model import RecorderSettings
from mqttproxy.handover import Plan
from mqttproxy.mqtt.packets import Message
from mqttproxy.mqtt.reasons import ReasonCode
from mqttproxy.recorder.tape import Tape, recorder_dir
from mqttproxy.recording import Circumstances, Note, Notes, Preparing, Recording, make_recording
from mqttproxy.ruleset import Ruleset
from mqttproxy.telemetry.logs import RateLimited, get_log
from mqttproxy.telemetry.metrics import Metrics
from mqttproxy.upstream.routing import RouteTable
from mqttproxy.validation import Action, Identity, Verdict, build_generation
from mqttproxy.validation.transforms import make_masker

BATCH: Final = 100
PASSED: Final = Verdict(action=Action.FORWARD)
IDENTITY: Final = Identity("tx9-2.1-0001", "plant-1", "192.0.2.1", "tls", {"model": "tx9", "firmware": "2.1"})
PAYLOAD: Final = orjson.dumps(
    {"celsius": 21.5, "operator": "Ada", "readings": [{"at": at, "c": 20.5} for at in range(10)]}
)
MASKS: Final = '[[masks]]\npaths = ["/operator"]\n'
PLAN: Final = Plan((), True, "wait", 0, ReasonCode.SUCCESS, False, ("local",))


def recording_in(folder: Path, settings: str) -> Recording:
    """Return a way to a recorder that nobody runs."""
    text = f'[proxy]\ndata_dir = "{folder}"\n[recorder]\nenabled = true\n{settings}'
    config = parse_config(text, "proxy.toml", folder)
    ruleset = Ruleset(config, build_generation(1, config), RouteTable(config), masker=make_masker(config))
    circumstances = Circumstances("gw-1", lambda: 1, time.time, lambda: 0.5)
    return make_recording(ruleset, Metrics(), circumstances, now=time.monotonic, to_thread=IN_THREAD)


def median(call: Callable[[], int], turns: int) -> float:
    """Return microseconds for each message; `call` returns how many there were."""
    found = []
    for _ in range(turns):
        began = time.thread_time()
        count = call()
        found.append((time.thread_time() - began) / count * 1e6)
    return statistics.median(found)


def noting(recording: Recording, budget: float, kept: list[Note]) -> Callable[[], int]:
    """Return what takes notes of a batch."""
    messages = [Message("sensor/kitchen/temperature", PAYLOAD) for _ in range(BATCH)]
    items = [(message, None) for message in messages]

    def take(notes: list[Note], _size: int) -> None:
        kept[:] = notes

    recording.recorder.offer = take  # type: ignore[method-assign, assignment] # the queue is not what is measured

    def turn() -> int:
        recording._budget = budget  # noqa: SLF001 # so that the same is recorded in each turn
        notes = Notes(recording, 0.0)
        for message in messages:
            notes.add(message, IDENTITY, PASSED, PLAN, is_carried=True)
        notes.numbered(items, PLAN, 0, 0)
        notes.end()
        return BATCH

    return turn


def main() -> None:
    """Measure, and tell."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=200)
    turns = parser.parse_args().turns
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        plain, masked = recording_in(folder, ""), recording_in(folder, MASKS)
        print(machine())
        kept: list[Note] = []
        print(f"serving thread, all recorded        {median(noting(plain, BATCH, kept), turns):8.3f} µs")
        preparing = Preparing(RateLimited(log=get_log()))
        notes = list(kept)
        rows = preparing(notes)
        print(f"serving thread, rate is used up     {median(noting(plain, 0, []), turns):8.3f} µs")
        print(f"recorder's thread, encoding         {median(lambda: len(preparing(notes)), turns):8.3f} µs")
        hidden: list[Note] = []
        noting(masked, BATCH, hidden)()
        print(f"recorder's thread, with a mask too  {median(lambda: len(preparing(hidden)), turns):8.3f} µs")
        tape = Tape(recorder_dir(folder), plain.settings, now=time.time, free=lambda _: 1 << 50)

        def write() -> int:
            tape.write(rows, {})
            return len(rows)

        write()
        print(f"recorder's thread, writing          {median(write, turns):8.3f} µs")
        tape.close()
        off = recording_in(folder, "")
        off.settings = RecorderSettings()

        def look() -> int:
            for _ in range(BATCH):
                off.notes(0.0)
            return BATCH

        print(f"off, for each batch                 {median(look, turns):8.3f} µs")


if __name__ == "__main__":
    main()
