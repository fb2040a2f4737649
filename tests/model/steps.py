"""What clients do in a conversation, and how hypothesis makes conversations up. Used here and in tests/differential."""

from collections.abc import Sequence
from functools import cache
from typing import Any, cast

from attrs import evolve, frozen
from hypothesis import strategies as st

from tests.bad_input.wire import V5, V311

CLIENTS = ("x", "y", "z")
TOPICS = ("a", "a/b", "b", "b/b")
FILTERS = ("a", "a/b", "b/b", "+", "+/b", "a/#", "#")
SHARED = ("$share/g/a/#", "$share/g/+/b", "$share/h/a/b")
NO_WINDOW = 0  # of Connect.window: no Receive Maximum is asked for


@frozen
class LastWill:
    """The will in a CONNECT."""

    topic: str
    qos: int = 0
    retain: bool = False


@frozen
class Connect:
    """Connect, whether connected already or not. In 3.1.1 `expiry` and `window` are not said."""

    client: str
    version: int = V5
    clean: bool = False
    expiry: int = 0
    window: int = NO_WINDOW
    will: LastWill | None = None


@frozen
class Leave:
    """DISCONNECT; `keeps_will`: with reason 0x04, if the version has reasons."""

    client: str
    keeps_will: bool = False


@frozen
class Cut:
    """The connection is lost."""

    client: str


@frozen
class Wanted:
    """One filter of a SUBSCRIBE; the fields other than QoS are left out in 3.1.1."""

    topic_filter: str
    qos: int = 0
    no_local: bool = False
    as_published: bool = False
    handling: int = 0

    @property
    def options(self) -> int:
        return self.qos | self.no_local << 2 | self.as_published << 3 | self.handling << 4

    def in_version(self, version: int) -> "Wanted":
        return self if version == V5 else Wanted(self.topic_filter, self.qos)


@frozen
class Subscribe:
    """`identifier` 0: none."""

    client: str
    wanted: tuple[Wanted, ...]
    identifier: int = 0


@frozen
class Unsubscribe:
    client: str
    topic_filter: str


@frozen
class Publish:
    """Publish `times` messages in one write and, unless `is_released` is False, go on to PUBREL at QoS 2."""

    client: str
    topic: str
    qos: int = 0
    retain: bool = False
    is_empty: bool = False
    is_released: bool = True
    times: int = 1

    def payloads(self, number: int) -> list[bytes]:
        """Return what is published, where `number` is that of the step."""
        return [b"" if self.is_empty else b"%d.%d" % (number, time) for time in range(self.times)]


@frozen
class Again:
    """Send the messages of QoS 2 that were not released once more, as they were, with DUP."""

    client: str


@frozen
class Release:
    """Send PUBREL for them."""

    client: str


@frozen
class Answer:
    """Answer the oldest `count` packets that wait for an answer: with PUBACK, PUBREC or PUBCOMP."""

    client: str
    count: int = 1000


@frozen
class Wait:
    """Time passes."""

    seconds: int


Step = Connect | Leave | Cut | Subscribe | Unsubscribe | Publish | Again | Release | Answer | Wait


def told_apart(step: Step) -> Step:
    """Let messages tell by which subscription they came: by an identifier. That takes MQTT 5."""
    match step:
        case Connect():
            return evolve(step, version=V5)
        case Subscribe():
            wanted = step.wanted[0]
            return evolve(step, wanted=(wanted,), identifier=1 + (*FILTERS, *SHARED).index(wanted.topic_filter))
        case Publish():
            return evolve(step, is_empty=False)
    return step


def finale(connections: dict[str, Connect]) -> list[Step]:
    """Return what brings to light all that sessions still hold: everybody comes back and takes everything.

    Args:
        connections: the last one of each client.

    """
    steps: list[Step] = []
    for client, last in connections.items():
        steps += [Leave(client), evolve(last, clean=False, expiry=1000, window=NO_WINDOW, will=None)]
    # At QoS 2 there are two things to answer in each exchange; and room is made for what waits.
    return steps + [Answer(client) for client in connections for _ in range(3)]


# Times that never add up to an expiry exactly: what happens in that very moment is nobody's business.
EXPIRIES = (0, 10, 60, 1000)
WAITS = (7, 26)

Kind = type[Step]

# What happens, by how often it does.
KINDS: tuple[Kind, ...] = (
    *[Connect, Leave, Cut, Unsubscribe, Again, Release, Wait],
    *[Connect, Answer] * 2,
    *[Subscribe] * 4,
    *[Publish] * 8,
)

levels = st.sampled_from((1, 2, 0))
rarely = st.sampled_from((False, False, False, True))
mostly = rarely.map(lambda one: not one)
connects = st.builds(
    Connect,
    st.sampled_from(CLIENTS),
    version=st.sampled_from((V5, V311)),
    clean=rarely,
    expiry=st.sampled_from(EXPIRIES),
    window=st.sampled_from((NO_WINDOW, 1, 2)),
    will=st.none() | st.builds(LastWill, st.sampled_from(TOPICS), levels, st.booleans()),
)


def _wanted(filters: Sequence[str]) -> st.SearchStrategy[tuple[Wanted, ...]]:
    # No Local of a shared subscription is a protocol error.
    wanted = st.builds(Wanted, st.sampled_from(filters), levels, rarely, rarely, st.integers(0, 2)).map(
        lambda one: evolve(one, no_local=one.no_local and not one.topic_filter.startswith("$share"))
    )
    return st.lists(wanted, min_size=1, max_size=2, unique_by=lambda one: one.topic_filter).map(tuple)


# Made once: to make a strategy takes longer than to draw from it.
_one_of = cache(st.sampled_from)


@cache
def _steps(kind: Kind, online: tuple[str, ...], filters: tuple[str, ...]) -> st.SearchStrategy[Step]:
    if kind is Wait:
        return st.builds(Wait, st.sampled_from(WAITS))
    if kind is Connect:
        return connects
    fields: dict[Kind, Sequence[st.SearchStrategy[Any]]] = {
        Leave: [rarely],
        Subscribe: [_wanted(filters), st.sampled_from((0, 0, 1, 2))],
        Unsubscribe: [st.sampled_from(filters)],
        Publish: [st.sampled_from(TOPICS), levels, rarely, rarely, mostly, st.sampled_from((1, 1, 3))],
        Answer: [st.sampled_from((1, 2, 1000))],
    }
    made = st.builds(kind, st.sampled_from(online), *fields.get(kind, ()))
    return cast("st.SearchStrategy[Step]", made)


@st.composite
def next_step(
    draw: st.DrawFn, online: Sequence[str], filters: Sequence[str] = FILTERS, kinds: Sequence[Kind] = KINDS
) -> Step:
    """Make up a step that can be taken now.

    Args:
        draw: given by hypothesis.
        online: the clients that are connected.
        filters: those to subscribe to.
        kinds: what may happen.

    """
    kind = draw(_one_of(tuple(kinds))) if online else Connect
    return draw(_steps(kind, tuple(online), tuple(filters)))
