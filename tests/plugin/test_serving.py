from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from mqttproxy.plugin import Properties, Sender, View
from mqttproxy.plugin.serving import answer, serve
from mqttproxy.plugin.view import ENCODER, HEADER, LONGEST_TEXT, MOST_FAILURES, REPLIES, Reply, Request, framed
from tests.plugins import install

SENDER = Sender("d", None, "192.0.2.7", "default", {"model": "tx"})


def view(payload: bytes = b'{"a": 1}', **changes: Any) -> View:
    known: dict[str, Any] = {
        "topic": "t/1", "captures": {"n": "1"}, "properties": Properties(1, False), "sender": SENDER,
        "has_document": True,
    }  # fmt: skip
    return View(payload=payload, **(known | changes))


def replies(stream: BytesIO) -> list[Reply]:
    data, found = stream.getvalue(), []
    while data:
        end = HEADER + int.from_bytes(data[:HEADER])
        found.append(REPLIES.decode(data[HEADER:end]))
        data = data[end:]
    return found


def test_the_document_is_that_of_the_payload_or_its_own_text() -> None:
    assert view().document == {"a": 1}
    assert view(b"\x01", text=b'{"b": 2}').document == {"b": 2}
    with pytest.raises(ValueError, match="no document"):
        _ = view(has_document=False).document


def test_a_view_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        view().topic = "x"  # type: ignore[misc] # that is what is tested


def test_pairs_of_pointer_and_text_are_failures_and_nothing_is_none() -> None:
    assert answer(lambda _: None, Request(1, view())) == Reply()
    assert answer(lambda _: [], Request(1, view())) == Reply()
    assert answer(lambda one: [("/a", one.captures["n"])], Request(1, view())) == Reply(None, (("/a", "1"),))


@pytest.mark.parametrize("found", [[("/a", 1)], [1], 1, [("/a",)], "no"])
def test_anything_else_is_a_fault(found: Any) -> None:
    assert answer(lambda _: found, Request(1, view())).fault


def test_what_it_raises_is_a_fault_with_its_words() -> None:
    def check(one: View) -> list[tuple[str, str]]:
        raise KeyError(one.document["name"])

    assert answer(check, Request(1, view(b'{"name":"celsius"}'))) == Reply("KeyError: 'celsius'")


def test_what_it_says_is_cut() -> None:
    reply = answer(lambda _: [("/" + "x" * 5000, "y" * 5000)] * 100, Request(1, view()))
    assert len(reply.failures) == MOST_FAILURES
    assert {len(text) for pair in reply.failures for text in pair} == {LONGEST_TEXT}


def test_it_greets_and_answers_until_there_is_nothing_more_to_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, monkeypatch, serves="def check(view):\n    return [('', view.topic)]\n")
    requests = BytesIO(framed(ENCODER.encode(Request(1, view()))) * 2)
    written = BytesIO()
    assert serve("serves", requests, written) == 0
    assert replies(written) == [Reply(), Reply(None, (("", "t/1"),)), Reply(None, (("", "t/1"),))]


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("1/0", "ZeroDivisionError: division by zero"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("check = 1", "cannot be called"),
    ],
)
def test_one_that_cannot_be_loaded_says_why_and_ends(
    source: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"broken{len(source)}"
    install(tmp_path, monkeypatch, **{name: source})
    written = BytesIO()
    assert serve(name, BytesIO(), written) == 1
    (reply,) = replies(written)
    assert words in str(reply.fault)


def test_one_that_is_not_installed_says_so() -> None:
    written = BytesIO()
    assert serve("nowhere", BytesIO(), written) == 1
    assert "no entry point 'nowhere'" in str(replies(written)[0].fault)
