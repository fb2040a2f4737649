"""`mqttproxy sim`: devices that send good and bad messages made from a schema, and what became of those."""

import json as json_module
import random
import signal
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Annotated, Final, Literal

import trio
from cyclopts import Parameter, Token

from mqttproxy.cli.output import complain, say
from mqttproxy.config.units import DURATION_WORDS, parse_duration
from mqttproxy.mqtt.errors import RemoteProtocolError
from mqttproxy.mqtt.packets import ProtocolVersion
from mqttproxy.mqtt.topics import check_topic_name
from mqttproxy.sim.device import Identity, Orders
from mqttproxy.sim.fleet import MOST_DEVICES, Fleet
from mqttproxy.sim.instances import UnusableSchemaError
from mqttproxy.sim.tally import Outcome, Tally
from mqttproxy.transport.dial import parse_url
from mqttproxy.transport.stream import TransportError

PROGRESS_SECONDS: Final = 5.0
LARGEST_SCHEMA: Final = 16 * 1024 * 1024  # bytes
FASTEST: Final = 10_000.0  # messages of a device in a second
_CERTIFICATE: Final = "certificate.pem"  # as `mqttproxy cert issue` calls them
_KEY: Final = "private_key.pem"


class _UsedWronglyError(Exception):
    """An argument cannot be; in words."""


def _seconds(_type: object, tokens: Sequence[Token]) -> float:
    seconds = parse_duration(tokens[0].value)
    if not seconds:
        raise ValueError(f"{tokens[0].value!r} is not {DURATION_WORDS}")
    return seconds


def sim(
    url: str,
    /,
    *,
    schema: Path,
    topic: str,
    devices: int = 10,
    rate: float = 1.0,
    bad: float = 0.05,
    duration: Annotated[float | None, Parameter(converter=_seconds)] = None,
    messages: int | None = None,
    qos: Literal[0, 1, 2] = 1,
    version: Literal["5", "3.1.1"] = "5",
    client_id: str = "sim-{number}",
    username: str | None = None,
    password_file: Path | None = None,
    ca: Path | None = None,
    certificates: Path | None = None,
    certificate: Path | None = None,
    private_key: Path | None = None,
    insecure_skip_verify: bool = False,
    seed: int | None = None,
    quiet: bool = False,
    json: bool = False,
) -> int:
    """Send good and bad messages made from a schema by many devices, and tell what became of them.

    The exit code is 0 if every device that was started came in and every message above QoS 0 was answered, 1 if not.
    SIGINT and SIGTERM end it in order.

    Args:
        url: of the listener, such as mqtts://127.0.0.1:8883.
        schema: a JSON Schema.
        topic: where each device publishes; {device} stands for its client identifier, {number} for its number.
        devices: how many there are.
        rate: messages of each device in a second.
        bad: share of messages that the schema refuses, 0 to 1.
        duration: how long messages are sent, such as 30s or 2h; without it and `--messages`, until it is interrupted.
        messages: how many are sent by all devices together.
        qos: of the messages.
        version: of MQTT.
        client_id: of each device, with {number}.
        username: of all devices.
        password_file: a file with their password.
        ca: CA of the server in PEM; by default the system's, or that beside the certificates.
        certificates: a folder as `mqttproxy cert issue` fills it: for each folder in it that holds a certificate and a
            key, one device of that name; `--devices` and `--client-id` do not count then.
        certificate: one for all devices, in PEM.
        private_key: its key in PEM.
        insecure_skip_verify: accept any certificate of the server.
        seed: of the dice: the same payloads again.
        quiet: tell nothing until the end.
        json: tell the result for programs.

    """
    try:
        identities = _identities(certificates, devices, client_id, certificate, private_key)
        _check(url, topic, rate, bad)
        orders = Orders(
            url=url,
            topic=topic,
            version=ProtocolVersion.V5 if version == "5" else ProtocolVersion.V311,
            qos=qos,
            rate=rate,
            bad_share=bad,
            username=username,
            password=None if password_file is None else _read(password_file, 64 * 1024).rstrip(b"\r\n"),
            ca=ca or (None if certificates is None else _own_ca(identities)),
            insecure_skip_verify=insecure_skip_verify,
        )
        document = json_module.loads(_read(schema, LARGEST_SCHEMA))
    except _UsedWronglyError as error:
        complain(str(error))
        return 2
    except (ValueError, RecursionError) as error:
        complain(f"{schema}: not JSON: {error}")
        return 1
    seed = random.SystemRandom().getrandbits(32) if seed is None else seed
    try:
        fleet = Fleet(orders, identities, document, seed=seed, seconds=duration, messages=messages)
    except UnusableSchemaError as error:
        complain(f"{schema}: {error}")
        return 1
    seconds = trio.run(_run, fleet, None if quiet else len(identities))
    tally = fleet.tally
    if json:
        known = {"seed": seed, "seconds": round(seconds, 3), "devices": fleet.started}
        say(json_module.dumps(known | tally.as_json(), indent=2))
    else:
        for line in summary(tally, fleet.started, seconds, qos=qos):
            say(line)
    is_whole = len(tally.ever_connected) == fleet.started and not tally.good.unanswered + tally.bad.unanswered
    return 0 if is_whole else 1


async def _run(fleet: Fleet, told_of: int | None) -> float:
    """Run a fleet, and return how many seconds that took. `told_of`: devices, if progress is to be told."""
    began = trio.current_time()
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_stop_on_signal, signals, fleet.stopping)
            if told_of is not None:
                nursery.start_soon(_tell_progress, fleet.tally, told_of)
            await fleet.run()
            nursery.cancel_scope.cancel()
    return trio.current_time() - began


async def _stop_on_signal(signals: AsyncIterator[int], stopping: trio.Event) -> None:
    async for _ in signals:
        stopping.set()
        return


async def _tell_progress(tally: Tally, devices: int) -> None:
    while True:
        await trio.sleep(PROGRESS_SECONDS)
        good, bad = tally.good, tally.bad
        complain(
            f"{tally.connected} of {devices} devices; good {good.sent} sent, {good.acknowledged} acknowledged, "
            f"{good.refused.total()} refused; bad {bad.sent} sent, {bad.acknowledged} acknowledged, "
            f"{bad.refused.total()} refused"
        )


def summary(tally: Tally, devices: int, seconds: float, *, qos: int) -> list[str]:
    """Return the result in lines for people."""
    lines = [f"{len(tally.ever_connected)} of {devices} devices connected; {seconds:.1f} s"]
    lines += [_outcome("good", tally.good, qos), _outcome("bad", tally.bad, qos)]
    if tally.faults:
        lines.append(f"  what is wrong with them: {_counted(tally.faults)}")
    if tally.told:
        lines.append(f"error documents on the devices' own topics: {tally.told}")
    median, slow = tally.percentile(0.5), tally.percentile(0.99)
    if median is not None and slow is not None:
        lines.append(f"answers: half within {median * 1000:.1f} ms, 99% within {slow * 1000:.1f} ms")
    if tally.held_back:
        lines.append(f"not sent when due, as too many had no answer: {tally.held_back}")
    lines += [f"connections that failed: {_counted(tally.failed_connects)}"] if tally.failed_connects else []
    lines += [f"connections that were lost: {_counted(tally.lost)}"] if tally.lost else []
    return lines


def _outcome(name: str, outcome: Outcome, qos: int) -> str:
    if not qos:
        return f"{name}: {outcome.sent} sent"
    words = f"{name}: {outcome.sent} sent, {outcome.acknowledged} acknowledged, {outcome.refused.total()} refused"
    words += f" ({_counted(outcome.refused)})" if outcome.refused else ""
    return words + (f", {outcome.unanswered} without an answer" if outcome.unanswered else "")


def _counted(counter: Counter[str]) -> str:
    return ", ".join(f"{name} {number}" for name, number in counter.most_common())


def _identities(
    certificates: Path | None, devices: int, client_id: str, certificate: Path | None, private_key: Path | None
) -> list[Identity]:
    if certificates is not None:
        if certificate is not None or private_key is not None:
            raise _UsedWronglyError("give --certificates, or --certificate and --private-key")
        found = [
            Identity(number, folder.name, folder / _CERTIFICATE, folder / _KEY)
            for number, folder in enumerate(sorted(one.parent for one in certificates.glob(f"*/{_KEY}")), 1)
            if (folder / _CERTIFICATE).exists()
        ]
        if not found:
            raise _UsedWronglyError(f"{certificates}: no folder with {_CERTIFICATE} and {_KEY} in it")
        return found[:MOST_DEVICES]
    if not 0 < devices <= MOST_DEVICES:
        raise _UsedWronglyError(f"--devices must be 1 to {MOST_DEVICES}")
    if devices > 1 and "{number}" not in client_id:
        raise _UsedWronglyError("--client-id must have {number} in it: no two devices may have the same")
    if (certificate is None) is not (private_key is None):
        raise _UsedWronglyError("--certificate and --private-key belong together")
    return [
        Identity(number, client_id.replace("{number}", str(number)), certificate, private_key)
        for number in range(1, devices + 1)
    ]


def _own_ca(identities: Sequence[Identity]) -> Path | None:
    certificate = identities[0].certificate
    beside = None if certificate is None else certificate.with_name("ca.pem")
    return beside if beside is not None and beside.exists() else None


def _check(url: str, topic: str, rate: float, bad: float) -> None:
    try:
        parse_url(url)
        check_topic_name(topic.replace("{device}", "d").replace("{number}", "1"))
    except (TransportError, RemoteProtocolError) as error:
        raise _UsedWronglyError(str(error)) from error
    if not 0 < rate <= FASTEST:
        raise _UsedWronglyError(f"--rate must be more than 0 and at most {FASTEST:g}")
    if not 0 <= bad <= 1:
        raise _UsedWronglyError("--bad must be 0 to 1")


def _read(path: Path, largest: int) -> bytes:
    try:
        with path.open("rb") as source:
            data = source.read(largest + 1)
    except OSError as error:
        raise _UsedWronglyError(f"{path}: {(error.strerror or str(error)).lower()}") from error
    if len(data) > largest:
        raise _UsedWronglyError(f"{path}: more than {largest} bytes")
    return data
