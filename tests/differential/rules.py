"""Every known difference between the proxy alone and Mosquitto 2.0.11, by name: `docs/differences.md` tells the same.

A difference that shows in one place is levelled: `level` makes both sides' words the same. One that changes all that
comes after it is kept out of made-up conversations by `narrowed`, and is shown by a conversation of its own only.
"""

from typing import Final

from attrs import evolve, frozen

from tests.bad_input.wire import V311
from tests.conformance.packets import Kind
from tests.differential.bent import Verdict
from tests.differential.sides import CLOSED, Heard, Said
from tests.model.steps import Answer, Connect, Cut, LastWill, Publish, Step, Subscribe, Wanted

NO_MATCHING_SUBSCRIBERS: Final = 0x10
TOLD_WHY: Final = "Why a connection is closed, which is told or not"
APART: Final = ("a", "a/+", "b/#")  # no two of them match one topic
KEPT: Final = 1000  # seconds: longer than any test


@frozen
class Difference:
    """One difference.

    Attributes:
        title: its heading on the page.
        ours, theirs: what the proxy and what Mosquitto does.
        why: who is right, and what follows for a device that changes from one to the other.
        shown: a conversation that goes otherwise with both.

    """

    title: str
    ours: str
    theirs: str
    why: str
    shown: tuple[Step, ...]


_x = Connect("x")

DIFFERENCES: Final = (
    Difference(
        "A message that nobody subscribes to",
        "PUBACK and PUBREC say 0x00.",
        "They say 0x10, No matching subscribers.",
        "The standard leaves it open. The proxy may carry the message to brokers, whose subscribers it does not know;"
        " and for a device there is nothing to do about it.",
        (_x, Publish("x", "a", 1)),
    ),
    Difference(
        "A client identifier that comes again",
        "The older connection is told 0x8E, Session taken over, and closed (MQTT 5).",
        "It is closed without a word.",
        "[MQTT-3.1.4-3] asks for the DISCONNECT.",
        (_x, _x),
    ),
    Difference(
        "A client's own will at a takeover",
        "The older connection hears nothing more. A session that goes on gets the will over the new connection.",
        "The older connection still gets the will, if the client subscribes to its topic.",
        "The standard leaves it open. What goes to a connection that is being closed is lost, or comes twice.",
        (Connect("x", will=LastWill("a", 1)), Subscribe("x", (Wanted("a", 1),)), _x),
    ),
    Difference(
        "Subscriptions that overlap",
        "One copy, at the highest QoS of those that match, with the identifiers of all.",
        "One copy too, but at the QoS of whichever subscription it comes to first.",
        "[MQTT-3.3.4-2] and, in 3.1.1, [MQTT-3.3.5-1] ask for the highest.",
        (
            Connect("x", V311, clean=True),
            Subscribe("x", (Wanted("+", 1), Wanted("a", 1))),
            Subscribe("x", (Wanted("a", 0),)),
            Publish("x", "a", 1),
        ),
    ),
    Difference(
        "Subscribing to the same filter again, with other options",
        "The new subscription replaces the old one.",
        "QoS and identifier are replaced; No Local and Retain As Published stay as they were at first.",
        "[MQTT-3.8.4-3] asks for the replacement.",
        (
            _x,
            Subscribe("x", (Wanted("a", 0),)),
            Subscribe("x", (Wanted("a", 0, no_local=True),)),
            Publish("x", "a", 0),
        ),
    ),
    Difference(
        "When a message at QoS 2 is handed on",
        "When it comes, before PUBREC.",
        "When PUBREL comes.",
        "The standard allows both (4.3.3, methods A and B). The proxy's is quicker by a round trip; none doubles it.",
        (_x, Subscribe("x", (Wanted("a", 2),)), Publish("x", "a", 2, is_released=False)),
    ),
    Difference(
        "Which member of a group gets a message",
        "The one that the sender's client identifier chooses, so that its messages stay in order;"
        " `sessions.shared` changes that.",
        "Each in turn.",
        "The standard leaves it open.",
        (
            _x,
            Connect("y"),
            *(Subscribe(client, (Wanted("$share/g/a", 0),)) for client in "xy"),
            *[Publish("x", "a", 0)] * 2,
        ),
    ),
)


@frozen
class Bending:
    """One difference in what is made of a packet that is none, or odd.

    Attributes:
        ours: how the words begin in which our state machine refuses it; empty: it takes it.
        is_closed: Mosquitto closes the connection.
        why: as on the page.

    """

    ours: str
    is_closed: bool
    why: str


BENDINGS: Final[tuple[Bending, ...]] = (Bending("no packet starts with", is_closed=False, why="x"),)


def level(heard: dict[str, Heard]) -> tuple[dict[str, Heard], set[str]]:
    """Return what was heard in a step without what is known to differ, and the titles of that."""
    levelled, titles = {}, set()
    for client, one in heard.items():
        answers = []
        for said in one.answers:
            if said.says == (NO_MATCHING_SUBSCRIBERS,):
                titles.add(DIFFERENCES[0].title)
                answers.append(Said(said.kind, (0,)))
            elif said.kind == Kind.DISCONNECT.name:
                titles.add(DIFFERENCES[1].title if client.startswith("the older") else TOLD_WHY)
            elif said.kind == Kind.CONNACK.name and said.says[0]:
                titles.add(TOLD_WHY)
            else:
                answers.append(said)
        levelled[client] = Heard(answers, one.messages)
    return levelled, titles


def explained(verdict: Verdict | None, theirs: dict[str, Heard]) -> str:
    """Return what explains a difference that a bent packet has made, nothing: it is not known.

    Args:
        verdict: of our state machine on the packet; None: there was none.
        theirs: what was heard of Mosquitto.

    """
    if verdict is None:
        return ""
    is_closed = any(said.kind == CLOSED for one in theirs.values() for said in one.answers)
    for one in BENDINGS:
        if is_closed == one.is_closed and (verdict.words.startswith(one.ours) if one.ours else not verdict.words):
            return one.why
    return ""


def narrowed(step: Step, last: Connect | None, *, is_online: bool) -> list[Step]:
    """Return a step without what is known to change everything that comes after it.

    Args:
        step: as it was made up.
        last: the last CONNECT of its client.
        is_online: its client is connected.

    """
    match step:
        case Connect():
            # Subscriptions keep what their version had of options, so a client keeps its version. No Receive Maximum:
            # which retained message is the first to be sent is open.
            version = last.version if last else step.version
            step = evolve(step, version=version, window=0, expiry=step.expiry and KEPT)
            return [Cut(step.client), step] if last and last.will and is_online else [step]
        case Subscribe():
            wanted = [
                evolve(one, no_local=one.topic_filter == "a/+", as_published=one.topic_filter == "b/#")
                for one in step.wanted
            ]
            return [evolve(step, wanted=tuple(wanted))]
        case Publish():
            return [evolve(step, is_released=True)]
        case Answer():  # in which order different topics come is open, so is which of them are the first
            return [Answer(step.client)]
    return [step]


def page() -> str:
    """Return `docs/differences.md`."""
    return "\n".join(
        [
            _TOP,
            *(
                f"## {one.title}\n\n- **mqttproxy:** {one.ours}\n- **Mosquitto:** {one.theirs}\n\n{one.why}\n"
                for one in DIFFERENCES
            ),
        ]
    )


_TOP: Final = """# Differences from Mosquitto

<!-- Written by `python -m tests.differential.written` from tests/differential/rules.py: change the list there. -->

Without upstreams the proxy is a broker by itself, and a device should not notice which one it talks to. So
`tests/differential/` makes up conversations of two clients in MQTT 3.1.1 and 5.0, holds each with the proxy and with
Mosquitto 2.0.11 at the same time, over sockets, and compares after every step: reason codes and Session
Present, and every message with its QoS, flags, identifiers and order for each topic and QoS. Packet identifiers and the
order of properties may differ.

Some things are left out of these conversations, because they change all that comes after them or are open anyway: the
differences below, as far as they do; Receive Maximum; filters that overlap; subscribing again with other No Local or
Retain As Published; the passing of time; answers to some deliveries and not to others. `tests/model/` has them, for the
proxy only.

These are all the differences that came up. Each is shown by a short conversation that a test plays to both; a
difference between the two that is not in this list fails the tests. Those in single packets and malformed ones are
told in [Conformance](conformance.md). `DIFFERENTIAL_EXAMPLES=1000 pytest tests/differential` looks for more.
"""
