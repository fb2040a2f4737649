"""The commands on a quarantine, called as from a shell."""

import json
from pathlib import Path

import pytest

from mqttproxy.cli.quarantine import quarantine_app
from mqttproxy.quarantine.database import quarantine_dir
from mqttproxy.quarantine.model import Held
from tests.quarantine.examples import SMALL_INLINE, make_writer


class Shell:
    """Runs commands on the quarantine of a configuration, and remembers what they wrote."""

    def __init__(self, folder: Path, capture: pytest.CaptureFixture[str]) -> None:
        self.config = folder / "proxy.toml"
        self.config.write_text('[proxy]\ndata_dir = "data"\n')
        self.directory = quarantine_dir(folder / "data")
        self.out = ""
        self.err = ""
        self._capture = capture

    def __call__(self, *arguments: str) -> int:
        with pytest.raises(SystemExit) as end:
            quarantine_app([*arguments, "--config", str(self.config)])
        self.out, self.err = self._capture.readouterr()
        assert isinstance(end.value.code, int)
        return end.value.code

    def hold(self, *held: Held) -> None:
        writer = make_writer(self.directory, SMALL_INLINE)
        writer.commit(held)
        writer.close()

    def ids(self) -> list[str]:
        assert self("list", "--json") == 0
        return [json.loads(line)["id"] for line in self.out.splitlines()]
