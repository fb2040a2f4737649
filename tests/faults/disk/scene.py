"""A proxy with a disk that can be made to fail, and its devices: what the tests and scripts of this folder share."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from attrs import define, field

from tests.faults.disk.failing import Failing
from tests.faults.disk.load import Place, Sender
from tests.harness import RunningProxy, start_proxy, write_settings
from tests.waiting import PATIENCE, wait_until


@define(eq=False)
class Scene:
    """A proxy that is ended and started again on the same folder, under the same faults."""

    file: Path
    place: Place
    faults: Failing
    senders: list[Sender] = field(factory=list)
    _proxy: RunningProxy | None = None

    @property
    def proxy(self) -> RunningProxy:
        assert self._proxy is not None
        return self._proxy

    @property
    def data(self) -> Path:
        return self.file.parent / "data"

    def launch(self) -> RunningProxy:
        """Start the proxy; it need not get ready."""
        self._proxy = start_proxy(self.file, environment=self.faults.environment)
        return self._proxy

    def start(self) -> None:
        """Start the proxy, and let every sender come back."""
        assert self.launch().ready
        for sender in self.senders:
            sender.connect(self.proxy.port())

    def sender(self, name: str = "", **how: Any) -> Sender:
        """Connect a device that publishes."""
        sender = Sender(name or f"s{len(self.senders)}", expected=self.place.reason, **how)
        sender.connect(self.proxy.port())
        self.senders.append(sender)
        return sender

    def restart(self) -> None:
        """As `kill -9`, and a new start: what counts is what is on disk."""
        self.proxy.kill()
        self.start()

    def readiness(self) -> tuple[bool, str]:
        """Return whether /ready says yes, and the whole of what it says."""
        status, body = self.proxy.get("/ready")
        return status == 200, json.dumps(json.loads(body))

    def wait_ready(self, patience: float = PATIENCE) -> None:
        wait_until(lambda: self.readiness()[0], "/ready", patience)

    def wait_unready(self, *words: str) -> None:
        """Wait until /ready says no, with one of these words in its reasons."""

        def is_named() -> bool:
            is_ready, reasons = self.readiness()
            return not is_ready and any(word in reasons for word in words)

        wait_until(is_named, f"/ready to name {words}")

    def check(self) -> None:
        """Kill, start, and fail if anything that was acknowledged is not there, or is there twice."""
        self.restart()
        arrivals = self.place.collect(self.proxy)
        for sender in self.senders:
            sender.check(arrivals)
        assert not self.faults.trusted, "a descriptor was synchronised again after that had failed"

    def close(self) -> None:
        self.faults.heal()
        for sender in self.senders:
            sender.cut()
        if self._proxy is not None:
            self._proxy.kill()
        self.place.close()


def write_place(folder: Path, place: Place, more: str = "", **how: Any) -> Path:
    """Write the settings of a proxy with this place."""
    folder.mkdir(parents=True, exist_ok=True)
    file = write_settings(folder, place.settings + more, **how)
    (folder / "schemas" / "never").mkdir(parents=True, exist_ok=True)
    (folder / "schemas" / "never" / "1.json").write_text('{"type": "object", "required": ["nothing"]}')
    return file


@contextmanager
def opened(
    folder: Path,
    place: Place,
    more: str = "",
    *,
    log: Path | None = None,
    before: Callable[[Failing], None] | None = None,
    **how: Any,
) -> Iterator[Scene]:
    """Run a proxy with a place that is prepared, on a disk that is well.

    Args:
        folder: for everything.
        place: where acknowledged messages must be.
        more: tables of the configuration.
        log: of everything that reaches the disk.
        before: makes something wrong with a first start, which may or may not end by it.
        how: as `write_settings` takes it.

    """
    file = write_place(folder, place, more, **how)
    scene = Scene(file, place, Failing(folder, file.parent / "data", log=log))
    try:
        if before is not None:
            before(scene.faults)
            proxy = scene.launch()
            wait_until(lambda: proxy.process.poll() is not None or proxy.log("ready"), "an end or a beginning")
            proxy.kill()
            scene.faults.heal()
        scene.start()
        place.prepare(scene.proxy)
        yield scene
        if scene.proxy.process.poll() is None:
            scene.proxy.check_unharmed()
    finally:
        scene.close()
