"""Every known difference between the proxy alone and Mosquitto 2.0.11, by name: `docs/differences.md` tells the same.

A difference that shows in one place is levelled: `level` makes both sides' words the same. One that changes all that
comes after it is kept out of made-up conversations by `narrowed`, and is shown by a conversation of its own only.
"""

from collections.abc import Callable
from typing import Final

from attrs import evolve, frozen

from tests.bad_input.wire import V311
from tests.conformance.packets import Kind
from tests.differential.bent import Verdict
from tests.differential.sides import CLOSED, Heard, Said
from tests.model.steps import Answer, Connect, Cut, LastWill, Publish, Step, Subscribe, Wanted

NO_MATCHING_SUBSCRIBERS: Final = 0x10
HANDED_ON: Final = "When a message at QoS 2 is handed on"
SECOND_CONNECT: Final = "a second CONNECT, or a packet that begins as one, from a client with a will"
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
        HANDED_ON,
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
    """One difference in what is made of a packet that is none, or odd; after it the two are not in the same state.

    Attributes:
        what: is sent.
        ours, theirs: what the proxy and what Mosquitto does.
        right: the statement that the proxy goes by, or that the standard leaves it open.
        explains: tells whether a difference is of this kind, by the verdict of our state machine on the packet, and
            what its sender has heard of each.

    """

    what: str
    ours: str
    theirs: str
    right: str
    explains: Callable[[Verdict, Heard, Heard], bool]


def _refused(*words: str) -> Callable[[Verdict, Heard, Heard], bool]:
    """Return what holds where our state machine refuses a packet in such words."""
    return lambda verdict, _ours, _theirs: verdict.words.startswith(words)


def _answered(kind: Kind, ours: tuple[int, ...], theirs: tuple[int, ...]) -> Callable[[Verdict, Heard, Heard], bool]:
    """Return what holds where the answers differ in these reasons only."""

    def explains(verdict: Verdict, our: Heard, their: Heard) -> bool:
        pairs = [(one, other) for one, other in zip(our.answers, their.answers, strict=False) if one != other]
        return (
            not verdict.words
            and len(our.answers) == len(their.answers)
            and all(one.kind == other.kind == kind.name and len(one.says) == len(other.says) for one, other in pairs)
            and all(
                mine in ours and yours in theirs
                for one, other in pairs
                for mine, yours in zip(one.says, other.says, strict=True)
                if mine != yours
            )
        )

    return explains


def _closed(*kinds: Kind) -> Callable[[Verdict, Heard, Heard], bool]:
    """Return what holds where Mosquitto closes the connection over what the proxy answers."""
    names = {kind.name for kind in kinds}
    return lambda verdict, ours, theirs: (
        not verdict.words and Said(CLOSED) in theirs.answers and bool(names & {said.kind for said in ours.answers})
    )


_PUBREL: Final = Said(Kind.PUBREL.name, (0,))
_CLOSES: Final = "closes the connection"
_TAKES: Final = "takes it, or passes over it"
_OPEN: Final = "open"

BENDINGS: Final = (
    Bending(
        "a remaining length with a byte too many", _CLOSES, _TAKES, "1.5.5-1", _refused("the remaining length is not")
    ),
    Bending(
        "a packet that there is not, or with flags that are reserved",
        _CLOSES,
        _TAKES,
        "2.1.2-1, 2.1.3-1",
        _refused("no packet starts with"),
    ),
    Bending(
        SECOND_CONNECT,
        "closes the connection, and publishes the will",
        "closes the connection, and forgets the will",
        "3.1.2-8",
        lambda _verdict, _ours, _theirs: False,  # it may show only later, so the conversation ends: see talking.py
    ),
    Bending(
        "a packet that is larger than allowed",
        "closes the connection at the length, `limits.packet_size`",
        "waits for the rest; it has no limit of its own",
        _OPEN,
        _refused("a packet of"),
    ),
    Bending(
        "CONNECT with the protocol level 0x84, by which bridges of Mosquitto make themselves known",
        _CLOSES,
        "takes it for 3.1.1",
        "3.1.2-2",
        lambda verdict, _ours, _theirs: "4d 51 54 54 84" in verdict.sent,
    ),
    Bending(
        "a packet that only a server sends",
        _CLOSES,
        _TAKES,
        _OPEN,
        lambda verdict, _ours, _theirs: (
            verdict.words.endswith(" while open") or verdict.words.startswith(("SUBACK", "UNSUBACK", "CONNACK"))
        ),
    ),
    Bending(
        "an acknowledgement with a reason that it does not have",
        _CLOSES,
        _TAKES,
        "3.4.2-1, 3.5.2-1, 3.6.2-1, 3.7.2-1",
        _refused("PUBACK with", "PUBREC with", "PUBREL with", "PUBCOMP with"),
    ),
    Bending("bytes behind the last field of a packet", _CLOSES, _TAKES, "2.1.4", _refused("bytes follow the last")),
    Bending(
        "a topic filter that is none",
        "refuses that filter in SUBACK and UNSUBACK",
        _CLOSES,
        _OPEN,
        _closed(Kind.SUBACK, Kind.UNSUBACK),
    ),
    Bending(
        "a share name with a wildcard, or none",
        "refuses that filter in SUBACK",
        "takes it",
        "4.8.2-1, 4.8.2-2",
        _answered(Kind.SUBACK, (0x80, 0x8F), (0, 1, 2)),
    ),
    Bending(
        "half of a packet that is no CONNECT, at first",
        "waits for the rest, `limits.connect_deadline` at most, then closes",
        "closes the connection at once",
        _OPEN,
        lambda verdict, _ours, theirs: (
            not verdict.words and not verdict.is_whole and verdict.sent[0] != "1" and Said(CLOSED) in theirs.answers
        ),
    ),
    Bending(
        "UNSUBSCRIBE from a group that the client is not in",
        "says 0x11, No subscription existed",
        "says 0x00",
        "3.11.3",
        _answered(Kind.UNSUBACK, (0x11,), (0,)),
    ),
    Bending(
        "PUBREC for an unknown packet identifier",
        "says 0x92",
        "says 0x00",
        _OPEN,
        _answered(Kind.PUBREL, (0x92,), (0,)),
    ),
    Bending(
        "PUBREC for an unknown packet identifier, in 3.1.1",
        "says nothing",
        "answers with PUBREL",
        _OPEN,
        lambda verdict, ours, theirs: not verdict.words and {*theirs.answers} - {*ours.answers} == {_PUBREL},
    ),
    Bending(
        "PUBREL for an unknown packet identifier",
        "says 0x92",
        "says 0x00",
        _OPEN,
        _answered(Kind.PUBCOMP, (0x92,), (0,)),
    ),
)


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


def explained(verdict: Verdict | None, ours: dict[str, Heard], theirs: dict[str, Heard]) -> str:
    """Return what explains a difference that a bent packet has made, nothing: it is not known.

    Args:
        verdict: of our state machine on the packet; None: there was none.
        ours, theirs: what was heard, levelled.

    """
    if verdict is None:
        return ""
    none = Heard()
    differ = [client for client in sorted(ours.keys() | theirs.keys()) if ours.get(client) != theirs.get(client)]
    for one in BENDINGS:
        if all(one.explains(verdict, ours.get(client, none), theirs.get(client, none)) for client in differ):
            return one.what
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
            _BENT,
            *(f"| {one.what} | {one.ours} | {one.theirs} | {one.right} |" for one in BENDINGS),
            "",
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

Besides, clients publish at the same time, and send packets with some bytes bent, after which their connection ends: of
those the answers are compared, whether the connection was closed because of them, and what others got.

These are all the differences that came up. Each is shown by a short conversation that a test plays to both; a
difference between the two that is not in this list fails the tests. Those in single packets and malformed ones are
told in [Conformance](conformance.md). `make differential SECONDS_EACH=3600` looks for more, and
counts how often each came up.
"""

_BENT: Final = """## Packets that are none, or odd

Whether a connection is closed is compared, and not with which words: in MQTT 5 the proxy says why, in CONNACK or
DISCONNECT, and Mosquitto mostly does not. "open": the standard leaves it open, or says nothing of it; else the
statement of MQTT 5 that the proxy goes by is named.

| what is sent | mqttproxy | Mosquitto | statement |
|---|---|---|---|"""
