import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from mqttproxy.cli.commands import app
from mqttproxy.config.model import Bytes, RecorderSettings
from mqttproxy.mqtt.packets import Properties
from mqttproxy.quarantine.database import quarantine_dir
from mqttproxy.recorder import Recorded
from mqttproxy.recorder.tape import DATABASE as RECORDED, Tape, recorder_dir
from tests.plugins import install
from tests.quarantine.examples import make_held, make_writer
from tests.recorder.examples import NOW, make, rows

CONFIG = """\
[proxy]
data_dir = "data"
[[access.attributes]]
pattern = "{model}-{fw}"
[[listeners]]
name = "plain"
bind = "127.0.0.1:0"
[[listeners]]
name = "other"
bind = "127.0.0.1:0"
[[upstreams]]
name = "a"
url = "mqtt://secret-user:secret-word@127.0.0.1"
[[upstreams.topics]]
local = "plant/{line}"
remote = "eu/{line}"
[[policies]]
name = "readings"
topics = ["plant/{line}"]
format = "json"
on_failure = ["refuse", "alert", "disconnect"]
[[policies]]
name = "later"
topics = ["plant/+"]
format = "json"
level = "observe"
[policies.when]
attributes = { fw = ">=2" }
[[policies]]
name = "down"
topics = ["plant/+"]
direction = "down"
format = "json"
"""


class Shell:
    """Asks for explanations, and remembers what was written."""

    def __init__(self, folder: Path, capture: pytest.CaptureFixture[str]) -> None:
        self.config = folder / "proxy.toml"
        self.config.write_text(CONFIG.replace("secret-user:secret-word@", ""))
        self.quarantine = quarantine_dir(folder / "data")
        self.out = self.err = ""
        self._capture = capture

    def __call__(self, *arguments: str) -> int:
        with pytest.raises(SystemExit) as end:
            app(["explain", "--config", str(self.config), *arguments])
        self.out, self.err = self._capture.readouterr()
        assert isinstance(end.value.code, int)
        return end.value.code

    def of(self, payload: str, *more: str, client: str = "tx-1", topic: str = "plant/7") -> int:
        return self("--client", client, "--topic", topic, "--payload", payload, *more)


@pytest.fixture
def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(tmp_path, capsys)


def test_a_message_that_is_not_carried_is_explained_step_by_step(shell: Shell) -> None:
    assert shell.of("{", client="tx-2", topic="plant/7") == 1
    assert shell.out.splitlines() == [
        "message  from a device on plant/7, 1 byte, QoS 1",
        "sender   client tx-2, listener plain",
        "         attributes model = tx, fw = 2",
        "topic    may be published; policies decide",
        "1.       policy readings: FAILED, enforced (level is enforce)",
        "           captures line = 7",
        "           (json): not JSON: unexpected end of data: line 1 column 2 (char 1)",
        "2.       policy later: FAILED, only observed (level is observe)",
        "           (json): not JSON: unexpected end of data: line 1 column 2 (char 1)",
        "3.       policy down: not asked (it is for messages down)",
        "verdict  refuse, by policy readings, with an alert",
        "goes to  nobody",
        "answer   PUBACK 0x99 payload format invalid (in MQTT 3.1.1 without the reason), at once",
        "         reason string: policy readings: not JSON: unexpected end of data: line 1 column 2 (char 1)",
        "         error document on $proxy/errors/tx-2",
        "         the connection is closed",
    ]


def test_one_that_is_carried_is_told_with_its_destinations(shell: Shell) -> None:
    assert shell.of("1", "--qos", "2", "--retain") == 0
    assert shell.out.splitlines()[0] == "message  from a device on plant/7, 1 byte, QoS 2, retained"
    assert shell.out.splitlines()[-3:] == [
        "verdict  forward, by policy readings",
        "goes to  upstream a, as eu/7",
        "answer   PUBREC 0x00 success, once it is on disk",
    ]
    assert "policy later: not asked (attribute fw" in shell.out


def test_for_programs_there_is_one_document_without_the_payload(shell: Shell) -> None:
    assert shell.of('{"secret":', "--json", "--qos", "0", "--username", "u") == 1
    document = json.loads(shell.out)
    assert (document["verdict"], document["carried"], document["policy"]) == ("refuse", False, "readings")
    assert [step["outcome"] for step in document["steps"]] == ["failed", "not asked", "not asked"]
    assert document["steps"][0]["captures"] == {"line": "7"}
    assert (document["reason_code"], document["destinations"], document["username"]) == (0x99, [], "u")
    assert "payload" not in document
    assert shell.of("1", "--json") == 0
    assert json.loads(shell.out)["destinations"] == [{"name": "a", "topic": "eu/7"}]


def test_a_payload_can_come_from_a_file_or_from_stdin(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "payload").write_bytes(b"12345")
    assert shell.of(f"@{tmp_path}/payload") == 0
    assert "5 bytes" in shell.out
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"\xff\x00")))
    assert shell.of("-") == 1
    assert "2 bytes" in shell.out
    assert shell.of("-5") == 0
    assert "2 bytes" in shell.out


def test_more_can_be_said_of_sender_and_message(shell: Shell) -> None:
    more = ["--listener", "other", "--attribute", "fw=3", "--attribute", "site=n", "--property", "expiry=60"]
    assert shell.of("1", *more, "--property", "content_type=a/b", "--user-property", "k=v=w", "--json") == 0
    document = json.loads(shell.out)
    assert document["attributes"] == {"model": "tx", "fw": "3", "site": "n"}
    assert document["listener"] == "other"
    assert document["steps"][1]["outcome"] == "passed"


def test_messages_from_upstreams_are_explained_too(shell: Shell) -> None:
    down = ["--topic", "plant/7", "--direction", "down", "--payload"]
    assert shell(*down, "1") == 0
    assert "sender   upstream a" in shell.out
    assert "goes to  devices that are subscribed to plant/7" in shell.out
    assert shell(*down, "{", "--listener", "upstream:a") == 1
    assert "verdict  hold, by policy down" in shell.out
    assert "answer   PUBACK 0x00 success, after the commit of the quarantine" in shell.out


@pytest.mark.parametrize(
    ("topic", "words"),
    [("$x", "topics that begin with $ are the server's"), ("other", "no policy covers this topic")],
)
def test_what_decides_beside_policies_is_told(topic: str, words: str, shell: Shell) -> None:
    shell.of("1", topic=topic)
    assert f"topic    {words}" in shell.out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "--topic and --payload are needed, or --id"),
        (["--topic", "t", "--payload", ""], "--client is needed"),
        (["--topic", "a/+", "--payload", "", "--client", "c"], "--topic: the topic name holds a wildcard"),
        (["--topic", "t", "--payload", "@/no/file", "--client", "c"], "No such file"),
        (["--topic", "t", "--payload", "", "--client", "c", "--attribute", "x"], "--attribute: 'x' is not NAME=VALUE"),
        (["--topic", "t", "--payload", "", "--client", "c", "--property", "x=1"], "--property x: known are"),
        (["--topic", "t", "--payload", "", "--client", "c", "--property", "expiry=x"], "'x' is not a whole number"),
        (["--topic", "t", "--payload", "", "--client", "c", "--listener", "x"], "there is no listener 'x'"),
        (["--topic", "t", "--payload", "", "--client", "c", "--listener", "upstream:a"], "--direction down"),
        (["--topic", "$SYS/x", "--payload", "", "--direction", "down"], "--listener is needed"),
        (["--id", "x", "--topic", "t"], "use either --id or what describes a message"),
        (["--id", "x"], "no such message is held, or was recorded; what is carried is recorded only while"),
        (["--qos", "3"], "--qos"),
    ],
)
def test_wrong_use_exits_with_two_and_says_what_is_wrong(arguments: list[str], words: str, shell: Shell) -> None:
    assert shell(*arguments) == 2
    assert words in shell.err
    assert not shell.out


def test_faults_of_the_file_are_told(shell: Shell) -> None:
    shell.config.write_text("[proxy]\nid = 5\n")
    assert shell.of("1") == 2
    assert shell.err == f"{shell.config}: proxy.id: found 5, expected a text\n"


def test_a_device_that_is_not_let_in_is_told(shell: Shell) -> None:
    assert shell.of("1", client="a+-1") == 1
    assert shell.err.startswith("the device is not let in (0x85 client identifier not valid): attribute model holds")


def test_what_a_device_sent_cannot_command_the_terminal(shell: Shell) -> None:
    assert shell.of("\x1b[31m", client="tx\u202e", topic="plant/\u202e7") == 1
    assert shell.out.isascii()
    assert "\x1b" not in shell.out


class TestHeld:
    def hold(self, shell: Shell, **facts: object) -> str:
        held = make_held(**{"topic": "plant/7", "client_id": "tx-2", "policy": "readings", "payload": b"{", **facts})
        writer = make_writer(shell.quarantine)
        writer.commit([held])
        writer.close()
        return held.id

    def test_a_held_message_is_explained_anew_from_what_is_stored(self, shell: Shell) -> None:
        identifier = self.hold(shell, properties=Properties(payload_format_indicator=1), qos=2)
        assert shell("--id", identifier.lower()) == 1
        assert "sender   client tx-2, user ada, listener plain" in shell.out
        assert "attributes model = tx, fw = 2" in shell.out
        assert "answer   PUBREC 0x99" in shell.out
        assert "note     held by policy readings; explained under the configuration as it is now" in shell.out

    def test_a_change_of_the_file_changes_what_is_explained(self, shell: Shell) -> None:
        identifier = self.hold(shell)
        shell.config.write_text(CONFIG.replace("secret-user:secret-word@", "").replace('"json"', '"text"'))
        assert shell("--id", identifier, "--json") == 0
        assert json.loads(shell.out)["verdict"] == "forward"

    def test_one_from_an_upstream_is_explained_by_the_way_down(self, shell: Shell) -> None:
        identifier = self.hold(shell, client_id="", username=None, address="a", listener="upstream:a")
        assert shell("--id", identifier) == 1
        assert "verdict  hold, by policy down" in shell.out

    def test_what_is_not_held_any_more_is_told(self, shell: Shell) -> None:
        self.hold(shell)
        assert shell("--id", "x\x1b") == 2
        assert shell.err.startswith("x\\x1b: no such message is held")

    def test_attributes_that_cannot_be_known_any_more_are_told(self, shell: Shell) -> None:
        text = '[[access.attributes]]\nsource = "connect_property"\nproperty = "fw"\npattern = "{fw}"\n'
        shell.config.write_text(shell.config.read_text() + text)
        assert shell("--id", self.hold(shell)) == 1
        assert "those that come from properties of CONNECT are missing here" in shell.out

    def test_the_attributes_are_those_of_then(self, shell: Shell) -> None:
        assert shell("--id", self.hold(shell, attributes={"model": "tx", "fw": "1"})) == 1
        assert "attributes model = tx, fw = 1" in shell.out
        assert "the sender's attributes are those that it had then" in shell.out


class TestRecorded:
    def record(self, shell: Shell, *recorded: Recorded) -> Tape:
        settings = RecorderSettings(enabled=True, keep_free=Bytes(0))
        tape = Tape(recorder_dir(shell.config.parent / "data"), settings, now=lambda: NOW)
        tape.write(rows(*recorded), {})
        return tape

    def test_what_became_of_it_is_told_and_what_would_today(self, shell: Shell) -> None:
        told: dict[str, Any] = {
            "client_id": "tx-2",
            "listener": "plain",
            "attributes": {"fw": "2"},
            "qos": 1,
            "generation": 4,
        }
        tape = self.record(shell, make(17, topic="plant/7", payload=b"{", destinations=("a", "local"), **told))
        assert shell("gw.1.17") == 1  # today
        assert shell.out.splitlines()[:4] == [
            "then     2023-11-14T22:13:20.000+00:00: forwarded, to a, local, under generation 4",
            "         mp-id gw.1.17",
            "message  from a device on plant/7, 1 byte, QoS 1",
            "sender   client tx-2, listener plain",
        ]
        assert "verdict  refuse, by policy readings" in shell.out
        assert "2.       policy later: FAILED, only observed" in shell.out  # by the attribute of then
        assert "the sender's attributes are those that it had then" in shell.out
        tape.close()  # it was read while the recorder had it open
        assert shell("--id", "r1") == 1

    def test_why_it_was_not_carried_is_told(self, shell: Shell) -> None:
        failures = (("/a", "type", "no number"),)
        self.record(
            shell, make(1, topic="plant/7", action="refused", policy="old", failures=failures, listener="gone")
        ).close()
        assert shell("gw.1.1", "--json") == 0
        document = json.loads(shell.out)
        assert document["verdict"] == "forward"
        assert document["then"] == {
            "id": "gw.1.1", "row": 1, "at": "2023-11-14T22:13:20.000+00:00", "action": "refused", "policy": "old",
            "schema": None, "failures": [{"pointer": "/a", "keyword": "type", "message": "no number"}],
            "destinations": [], "generation": 0, "masked": "no",
        }  # fmt: skip
        assert shell("gw.1.1") == 0
        assert "refused, by policy old, under generation 0" in shell.out
        assert "           at /a (type): no number" in shell.out

    @pytest.mark.parametrize(
        ("masked", "words"),
        [("partly", "may have been judged otherwise when it came"), ("wholly", "masked as a whole")],
    )
    def test_that_masks_may_change_the_answer_is_told(self, masked: str, words: str, shell: Shell) -> None:
        self.record(shell, make(1, topic="plant/7", masked=masked)).close()
        shell("gw.1.1")
        assert words in shell.out

    def test_a_damaged_file_is_told(self, shell: Shell) -> None:
        self.record(shell, make(1)).close()
        (recorder_dir(shell.config.parent / "data") / RECORDED).write_bytes(b"no database" * 1000)
        assert shell("gw.1.1") == 2
        assert "file is not a database" in shell.err


def test_bindings_are_told_with_why_they_do_not_fit(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "schemas/t").mkdir(parents=True)
    for version, kind in (("1", "number"), ("2", "string"), ("3", "object")):
        (tmp_path / f"schemas/t/{version}.json").write_text(f'{{"type": "{kind}"}}')
    bindings = "".join(
        f'[[policies.bindings]]\nschema = "t@{version}"\nwhen = {{ attributes = {{ fw = ">={version}" }} }}\n'
        for version in (3, 2)
    )
    shell.config.write_text(
        shell.config.read_text() + f'[[policies]]\nname = "bound"\ntopics = ["bound"]\nschema = "t@1"\n{bindings}'
    )
    assert shell.of("1", client="tx-2", topic="bound") == 1
    assert [line[9:] for line in shell.out.splitlines() if "bind" in line or "schema" in line][:4] == [
        "  binding to schema t@3: no, attribute fw '2' is not '>=3'",
        "  binding to schema t@2: holds",
        "  schema t@2",
        "hold, by policy bound, schema t@2",
    ]
    assert shell.of("1", "--json", topic="bound") == 0
    assert [bound["holds"] for bound in json.loads(shell.out)["steps"][3]["bindings"]] == [False, False]
    assert shell.of("1", client="tx-1", topic="bound") == 0
    assert "  no binding fits: the schema of the policy" in shell.out


def test_plug_in_checks_are_asked(shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = "def check(view):\n    return [('/a', view.captures['line'])] if view.payload == b'2' else []\n"
    install(tmp_path, monkeypatch, explained=source)
    shell.config.write_text(
        shell.config.read_text() + '[[policies]]\nname = "plugged"\ntopics = ["plugged/{line}"]\nformat = "json"\n'
        '[[policies.plugins]]\nname = "explained"\nbudget = "10s"\n'
    )
    assert shell.of("1", topic="plugged/7") == 0
    assert shell.of("2", topic="plugged/7") == 1
    assert "at /a (plugin): 7" in shell.out
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"2")))
    assert shell.of("-", topic="plugged/7") == 1
    assert "at /a (plugin): 7" in shell.out
