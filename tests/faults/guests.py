"""Good clients, a new one again and again: how long each waits for CONNACK, and for the answer to what it publishes.

They come at times of their own, whether those before have been served or not: a proxy that serves nobody for five
seconds makes all of them wait that came in these five seconds.
"""

from pathlib import Path
from typing import Final

import trio
from attrs import define, field

from mqttproxy.transport.dial import dial
from mqttproxy.transport.stream import ByteStream, TransportError
from tests.bad_input.wire import V5, connect, frame, publish

PATIENCE: Final = 30.0  # seconds that a guest waits for all of it
DISCONNECT: Final = frame(0xE0)
CONNACK, PUBACK = 0x20, 0x40


@define(eq=False)
class Guests:
    """See the module.

    Attributes:
        url: where they come in.
        ca: for TLS.
        connected: seconds from the first SYN to CONNACK, of each that was served.
        acknowledged: seconds from PUBLISH to PUBACK.
        failures: what happened to the others, in words.

    """

    url: str
    ca: Path | None = None
    connected: list[float] = field(factory=list)
    acknowledged: list[float] = field(factory=list)
    failures: list[str] = field(factory=list)
    _number: int = 0

    async def run(self, rate: float) -> None:
        """Send so many a second, until cancelled; those who are under way then are not counted."""
        began = trio.current_time()
        async with trio.open_nursery() as nursery:
            while True:
                self._number += 1
                nursery.start_soon(self._visit, f"guest-{self._number}")
                await trio.sleep_until(began + self._number / rate)

    async def visit(self) -> None:
        """Send one, and wait until it has been served."""
        self._number += 1
        await self._visit(f"guest-{self._number}")

    async def _visit(self, client_id: str) -> None:
        began = trio.current_time()
        try:
            with trio.fail_after(PATIENCE):
                stream = await dial(self.url, ca=self.ca)
                try:
                    await _answer(stream, connect(V5, client_id), CONNACK)
                    greeted = trio.current_time()
                    await _answer(stream, publish(V5, f"good/{client_id}", b"1", qos=1), PUBACK)
                    answered = trio.current_time()
                    stream.send_nowait(DISCONNECT)
                finally:
                    await stream.aclose()
        except trio.TooSlowError:
            self.failures.append(f"{client_id}: not served within {PATIENCE:g} s")
        except (TransportError, AssertionError) as error:
            self.failures.append(f"{client_id}: {error}")
        else:
            self.connected.append(greeted - began)
            self.acknowledged.append(answered - greeted)


async def _answer(stream: ByteStream, packet: bytes, first: int) -> None:
    stream.send_nowait(packet)
    data = bytes(await stream.receive())
    assert data[:1] == bytes([first]), f"{data[:20].hex(' ')} instead of an answer of type {first:#x}"
    if first == CONNACK:
        assert data[3] == 0, f"refused with {data[3]:#x}"
