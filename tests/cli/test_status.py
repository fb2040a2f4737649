"""`mqttproxy status`: what it asks, what it prints, and its exit codes."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from mqttproxy.cli.status import status
from mqttproxy.cli.status_output import rough, tabulate

CONNECTED: dict[str, Any] = {
    "name": "a",
    "kind": "mqtt",
    "url": "mqtt://a",
    "connected": True,
    "since": 7384.2,
    "last_error": None,
    "next_try": None,
    "breaker": {"state": "closed", "reason": None, "next_trial": None},
    "paused": None,
    "resumes": None,
    "contested": False,
    "insecure": False,
    "suspects": 0,
    "queued": 3,
    "in_flight": 12,
}
REFUSED = "connection refused"
DOWN = {
    **CONNECTED,
    "name": "backup",
    "connected": False,
    "since": 61.0,
    "last_error": REFUSED,
    "next_try": 20.4,
    "breaker": {"state": "open", "reason": REFUSED, "next_trial": 20.4},
    "queued": 1000,
}
WELL: dict[str, Any] = {
    "version": "0.1.0",
    "node": "gw-1",
    "ready": True,
    "reasons": [],
    "uptime": 90_061.0,
    "listeners": {"plain": "tcp://127.0.0.1:1883"},
    "destinations": [CONNECTED, DOWN],
}


@contextmanager
def answering(body: bytes, code: int = 200) -> Iterator[int]:
    """Answer everything so; gives the port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # the base class's name
            self.send_response(code if self.path == "/status" else 404)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:  # not into the tests' output
            return

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def file_with(folder: Path, bind: str, name: str = "gw-1") -> Path:
    path = folder / "proxy.toml"
    path.write_text(f'[proxy]\nid = "{name}"\n[telemetry]\nmetrics_bind = "{bind}"\n')
    return path


def asked(folder: Path, document: object, *, json: bool = False) -> int:
    body = document if isinstance(document, bytes) else _dump(document)
    with answering(body) as port:
        return status(file_with(folder, f"0.0.0.0:{port}"), json=json)


def _dump(document: object) -> bytes:
    return json.dumps(document).encode()


def test_a_ready_proxy_is_told_in_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert asked(tmp_path, WELL) == 0
    out, err = capsys.readouterr()
    assert not err
    assert out.splitlines() == [
        "gw-1: ready, mqttproxy 0.1.0, up 1d 1h",
        "  listens on tcp://127.0.0.1:1883 (plain)",
        "",
        "destination  state      for    breaker  queued  in flight",
        "a            connected  2h 3m  closed   3       12",
        "backup       down       1m 1s  open     1000    12         connection refused; next trial in 20s",
    ]


def test_a_proxy_that_is_not_ready_is_told_with_its_reasons(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ill = {**WELL, "ready": False, "reasons": ["upstreams: no upstream is connected"], "destinations": []}
    assert asked(tmp_path, ill) == 1
    assert capsys.readouterr().out.splitlines()[:2] == [
        "gw-1: NOT READY, mqttproxy 0.1.0, up 1d 1h",
        "  upstreams: no upstream is connected",
    ]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"paused": "quota exceeded", "resumes": 4.0}, "the broker says: quota exceeded, tried again in 4s"),
        ({"contested": True}, "somebody else uses our client identifier"),
        ({"insecure": True}, "INSECURE: its certificate is not checked"),
        ({"suspects": 2}, "2 messages go one by one, because links were lost with them"),
        ({"connected": False, "next_try": 3.0}, "dialled again in 3s"),
        ({"last_error": "gone\x1b[31m"}, "gone\\x1b[31m"),
        ({"breaker": {"state": "open", "reason": "why", "next_trial": None}}, "breaker: why"),
    ],
)
def test_what_is_wrong_is_told_at_the_end_of_the_line(
    changes: dict[str, Any], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked(tmp_path, {**WELL, "destinations": [{**CONNECTED, **changes}]})
    assert capsys.readouterr().out.splitlines()[-1].endswith(words)


def test_programs_read_the_document_itself(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert asked(tmp_path, WELL, json=True) == 0
    assert json.loads(capsys.readouterr().out) == WELL


def test_nobody_there_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with answering(b"") as port:
        pass
    path = file_with(tmp_path, f"127.0.0.1:{port}")
    assert status(path) == 1
    assert capsys.readouterr() == ("", f"{path}: no proxy answers at 127.0.0.1:{port}: connection refused\n")


@pytest.mark.parametrize("document", [b"hello", [1], {"ok": True}])
def test_something_else_there_is_told(document: object, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert asked(tmp_path, document) == 1
    assert "is no mqttproxy of this version (HTTP 200)" in capsys.readouterr().err


def test_another_proxy_there_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with answering(_dump(WELL)) as port:
        assert status(file_with(tmp_path, f"127.0.0.1:{port}", name="gw-2")) == 1
    assert ": 'gw-1', not 'gw-2'" in capsys.readouterr().err


@pytest.mark.parametrize(("bind", "words"), [("", "metrics_bind is empty"), ("127.0.0.1:0", "has port 0")])
def test_a_proxy_that_cannot_be_asked_is_told(
    bind: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert status(file_with(tmp_path, bind)) == 1
    assert words in capsys.readouterr().err


def test_a_faulty_file_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert status(tmp_path / "gone.toml") == 1
    assert "no such file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(None, ""), (0.2, "0s"), (59.4, "59s"), (60, "1m"), (3661, "1h 1m"), (86_400, "1d"), (200_000, "2d 7h")],
)
def test_durations_are_rough(seconds: float | None, words: str) -> None:
    assert rough(seconds) == words


@pytest.mark.parametrize(
    ("configuration", "line"),
    [
        ({"file_differs": False, "on_trial": None}, "generation 7 of proxy.toml"),
        ({"file_differs": True, "on_trial": None}, "generation 7 of proxy.toml, which has been changed since"),
        (
            {"file_differs": True, "on_trial": {"called": "new.toml", "seconds_left": 61.0}},
            "generation 7 of new.toml, on trial for 1m 1s more",
        ),
    ],
)
def test_what_is_in_force_is_told(configuration: dict[str, Any], line: str) -> None:
    document = {**WELL, "configuration": {"generation": 7, "file": "proxy.toml", **configuration}}
    assert f"  {line}" in list(tabulate(document))
