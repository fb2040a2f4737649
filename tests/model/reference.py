"""An MQTT server in few lines: what must be true of the real one, told to it step by step.

Every step returns the answers that must come. Messages are not foretold but judged, one by one as they come, by
`hear`: where MQTT leaves an order open, it is open here too. At the end of a step `check_quiet` says whether all
came that had to. Time is told by `Wait`.

What the model leaves out: expiry of messages, bounds of queues, wills with a delay, topic aliases.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable

from attrs import define, evolve, field, frozen

from tests.bad_input.wire import V5
from tests.conformance.packets import Kind, Packet, Prop
from tests.model.steps import (
    Again,
    Answer,
    Connect,
    Cut,
    LastWill,
    Leave,
    Publish,
    Release,
    Step,
    Subscribe,
    Unsubscribe,
    Wait,
    Wanted,
)

# (kind, what it says): the reason code; whether a session is present in CONNACK; the packet identifier of PUBREL
Said = tuple[Kind, int]
UNLIMITED = 65_535
SESSION_TAKEN_OVER = 0x8E
NO_SUBSCRIPTION_EXISTED = 0x11


def is_match(topic_filter: str, topic: str) -> bool:
    """Say whether a filter matches a topic; both are well-formed, and no topic starts with `$`."""
    wanted, levels = topic_filter.split("/"), topic.split("/")
    if wanted[-1] == "#":
        wanted.pop()
        levels = levels[: len(wanted)]
    return len(wanted) == len(levels) and all(one in ("+", level) for one, level in zip(wanted, levels, strict=True))


@frozen
class Text:
    """A message, whoever gets it how."""

    topic: str
    payload: bytes
    qos: int
    retain: bool


@define(eq=False)
class Handout:
    """A message for a group: one member gets it. Which one is not for the model to say.

    Attributes:
        taken_by: the client that got it last; and at which QoS: at 2, nobody else may get it.
        is_done: it was acknowledged, or need not be.
        is_free: the connection that it was sent over has ended, perhaps by a newer one of the same client.
        may_wait: no member was there for a while, or one has left the group: so it may wait for one that is away.
        may_miss: nobody need get it: it is of QoS 0 for a member, or there was no member left.

    """

    shared_filter: str
    text: Text
    may_miss: bool
    may_wait: bool = False
    taken_by: str = ""
    qos: int = 0
    is_done: bool = False
    is_free: bool = False


@frozen(eq=False)
class Due:
    """A message on its way to one session.

    Attributes:
        batch: retained messages of one SUBSCRIBE share a number: they come in any order. 0: it is none of them.
        packet_id: it was sent before by this one, and comes again with DUP. 0: it was not.
        may_miss: it need not come.
        handout: it came for a group.

    """

    text: Text
    identifiers: tuple[int, ...] = ()
    batch: int = 0
    packet_id: int = 0
    may_miss: bool = False
    handout: Handout | None = None

    def must_precede(self, later: "Due") -> bool:
        """Say whether order counts between this and one that is due later."""
        mine, theirs = self.text, later.text
        return (mine.topic, mine.qos) == (theirs.topic, theirs.qos) and not self.batch == later.batch > 0

    def is_in(self, packet: Packet, version: int) -> bool:
        """Say whether this is the packet."""
        text = Text(packet.topic, packet.payload, packet.qos, packet.retain)
        identifiers = self.identifiers if version == V5 else ()
        return (
            text == self.text
            and tuple(sorted(packet.all_of(Prop.SUBSCRIPTION_IDENTIFIER))) == tuple(sorted(identifiers))
            and packet.dup == bool(self.packet_id)
            and self.packet_id in (0, packet.packet_id)
        )


@define(eq=False)
class Session:
    """What outlives connections, and what of it goes with them.

    Attributes:
        subscriptions: filter to what is wanted and its identifier.
        groups: the same of shared ones, with those that are no more: what was under way may still come.
        queue: what is due, in order.
        in_flight: packet identifier to what was sent and is not acknowledged; `released`: those that got PUBREC.
        unreleased: packet identifiers of the client's own messages at QoS 2 that wait for PUBREL.
        is_online: a connection has it; then version, window and will are that connection's.
        over_at: when it ends, if nobody comes back.

    """

    client: str
    expiry: float = 0
    version: int = V5
    window: int = UNLIMITED
    will: tuple[LastWill, int] | None = None
    is_online: bool = False
    over_at: float = 0
    subscriptions: dict[str, tuple[Wanted, int]] = field(factory=dict)
    groups: list[tuple[Wanted, int]] = field(factory=list)
    queue: list[Due] = field(factory=list)
    in_flight: dict[int, Due] = field(factory=dict)
    released: list[int] = field(factory=list)
    unreleased: set[int] = field(factory=set)

    def matching(self, topic: str) -> list[tuple[Wanted, int]]:
        """Return the subscriptions that match a topic, shared ones apart."""
        found = self.subscriptions.items()
        return [one for topic_filter, one in found if topic_filter[0] != "$" and is_match(topic_filter, topic)]

    @property
    def has_room(self) -> bool:
        return len(self.in_flight) < self.window


@define(eq=False)
class Model:
    """The server."""

    now: float = 0
    sessions: dict[str, Session] = field(factory=dict)
    retained: dict[str, tuple[Text, str]] = field(factory=dict)  # and who sent it
    handouts: list[Handout] = field(factory=list)
    batches: int = 0

    def play(
        self, step: Step, number: int, packet_ids: Collection[int], owed: Iterable[tuple[Kind, int]]
    ) -> dict[str, list[Said]]:
        """Take a step; return what each client must be told, messages apart.

        Args:
            step: one that its client can take now.
            number: what is published in this step has it as its payload.
            packet_ids: those of the client's messages that this step is about.
            owed: what it answers in this step.

        """
        told: dict[str, list[Said]] = defaultdict(list)
        match step:
            case Connect():
                told[step.client] = self._connect(step, number)
            case Leave() | Cut():
                session = self.sessions[step.client]
                is_good = isinstance(step, Leave) and not (step.keeps_will and session.version == V5)
                self._disconnect(session, is_lost=not is_good)
            case Subscribe():
                told[step.client] = self._subscribe(step)
            case Unsubscribe():
                told[step.client] = self._unsubscribe(step)
            case Publish():
                told[step.client] = self._publish(step, number, packet_ids)
            case Again():
                told[step.client] = [(Kind.PUBREC, 0) for _ in packet_ids]  # nobody gets it again
            case Release():
                self.sessions[step.client].unreleased.difference_update(packet_ids)
                told[step.client] = [(Kind.PUBCOMP, 0) for _ in packet_ids]
            case Answer():
                told[step.client] = self._answer(self.sessions[step.client], owed)
            case Wait():
                self._wait(step.seconds)
        return told

    # Connections.

    def _connect(self, step: Connect, number: int) -> list[Said]:
        old = self.sessions.get(step.client)
        if old is not None and old.is_online:
            self._disconnect(old, is_lost=True)
            old = self.sessions.get(step.client)
        if old is not None and step.clean:
            self._discard(old)
            old = None
        session = self.sessions[step.client] = old or Session(step.client)
        session.is_online, session.version = True, step.version
        session.window = (step.window if step.version == V5 else 0) or UNLIMITED
        session.will = (step.will, number) if step.will else None
        session.expiry = step.expiry if step.version == V5 else 0 if step.clean else float("inf")
        return [(Kind.CONNACK, old is not None), *((Kind.PUBREL, one) for one in session.released)]

    def _disconnect(self, session: Session, *, is_lost: bool) -> None:
        session.is_online = False
        session.over_at = self.now + session.expiry
        # What was sent and not answered comes again, first and in its order. What was sent at QoS 0 is gone.
        again = [
            evolve(due, packet_id=packet_id, batch=0, may_miss=due.handout is not None and due.text.qos == 1)
            for packet_id, due in session.in_flight.items()
            if packet_id not in session.released
        ]
        for due in session.in_flight.values():
            if due.handout is not None:
                due.handout.is_free = True
        session.in_flight = {one: session.in_flight[one] for one in session.released}
        session.queue = again + [evolve(due, may_miss=due.may_miss or not due.text.qos) for due in session.queue]
        if is_lost and session.will is not None:
            will, number = session.will
            self._spread(session.client, Text(will.topic, b"%d" % number, will.qos, will.retain))
        session.will = None
        if not session.expiry:
            self._discard(session)

    def _discard(self, session: Session) -> None:
        for topic_filter in list(session.subscriptions):
            self._forget(session, topic_filter)
        del self.sessions[session.client]

    def _wait(self, seconds: int) -> None:
        self.now += seconds
        for session in list(self.sessions.values()):
            if not session.is_online and session.over_at <= self.now:
                self._discard(session)

    # Subscriptions.

    def _subscribe(self, step: Subscribe) -> list[Said]:
        session = self.sessions[step.client]
        self.batches += 1
        for asked in step.wanted:
            wanted = asked.in_version(session.version)
            is_new = wanted.topic_filter not in session.subscriptions
            identifier = step.identifier if session.version == V5 else 0
            session.subscriptions[wanted.topic_filter] = wanted, identifier
            if wanted.topic_filter[0] == "$":
                session.groups.append((wanted, identifier))
                for handout in self.handouts:
                    handout.may_miss |= handout.shared_filter == wanted.topic_filter and not wanted.qos
            elif wanted.handling == 0 or (wanted.handling == 1 and is_new):
                session.queue += [
                    Due(evolve(text, qos=min(text.qos, wanted.qos)), (identifier,) if identifier else (), self.batches)
                    for text, sender in self.retained.values()
                    if is_match(wanted.topic_filter, text.topic) and not (wanted.no_local and sender == session.client)
                ]
        return [(Kind.SUBACK, one.qos) for one in step.wanted]

    def _unsubscribe(self, step: Unsubscribe) -> list[Said]:
        session = self.sessions[step.client]
        had = step.topic_filter in session.subscriptions
        if had:
            self._forget(session, step.topic_filter)
        return [(Kind.UNSUBACK, 0 if had or session.version != V5 else NO_SUBSCRIPTION_EXISTED)]

    def _forget(self, session: Session, topic_filter: str) -> None:
        del session.subscriptions[topic_filter]
        for handout in self.handouts:
            if handout.shared_filter == topic_filter:
                handout.may_wait = True
                handout.may_miss |= not self._members(topic_filter)

    def _members(self, shared_filter: str) -> dict[str, Wanted]:
        return {
            session.client: session.subscriptions[shared_filter][0]
            for session in self.sessions.values()
            if shared_filter in session.subscriptions
        }

    # Messages from clients.

    def _publish(self, step: Publish, number: int, packet_ids: Collection[int]) -> list[Said]:
        session = self.sessions[step.client]
        for payload in step.payloads(number):
            self._spread(step.client, Text(step.topic, payload, step.qos, step.retain))
        if step.qos == 2:
            session.unreleased.update(packet_ids)
        answers: list[list[Said]] = [[], [(Kind.PUBACK, 0)], [(Kind.PUBREC, 0)]]
        return answers[step.qos] * step.times

    def _spread(self, sender: str, text: Text) -> None:
        """Retain a message and put it into the queues of all who are subscribed, once each."""
        if text.retain and text.payload:
            self.retained[text.topic] = text, sender
        elif text.retain:
            self.retained.pop(text.topic, None)
        for session in self.sessions.values():
            matching = session.matching(text.topic)
            entries = [one for one in matching if not (one[0].no_local and session.client == sender)]
            if entries:
                qos = min(text.qos, max(wanted.qos for wanted, _ in entries))
                retain = text.retain and any(wanted.as_published for wanted, _ in entries)
                identifiers = tuple(identifier for _, identifier in entries if identifier)
                due = Due(evolve(text, qos=qos, retain=retain), identifiers, may_miss=not session.is_online and not qos)
                # At QoS 0 nothing is kept; but a client's own will may find it back already.
                if not due.may_miss or session.client == sender:
                    session.queue.append(due)
        groups = {one for session in self.sessions.values() for one in session.subscriptions if one[0] == "$"}
        for group in groups:
            if is_match(group.split("/", 2)[2], text.topic):
                levels = [text.qos, *(wanted.qos for wanted in self._members(group).values())]
                self.handouts.append(Handout(group, text, may_miss=not min(levels)))

    # Messages to clients.

    def hear(self, client: str, packet: Packet) -> None:
        """Judge a message that has come; fails if it must not come, or not now."""
        session = self.sessions.get(client)
        assert session is not None, f"{client} has left before {packet}"
        assert session.is_online, f"{client} is not there for {packet}"
        due = self._take(session, packet) or self._take_handout(session, packet)
        assert due is not None, f"{client} is not due {packet}; next were {session.queue[:3]}"
        if due.handout is not None:
            due.handout.is_free = False
        if packet.qos:
            assert packet.packet_id not in session.in_flight, f"packet identifier in use: {packet}"
            assert session.has_room, f"{client} takes {session.window} at once: {packet}"
            session.in_flight[packet.packet_id] = due

    def _take(self, session: Session, packet: Packet) -> Due | None:
        """Take a message from the queue. Order counts among those of one topic and QoS."""
        before: list[Due] = []
        for due in session.queue:
            if due.is_in(packet, session.version):
                passed = [one for one in before if one.must_precede(due)]
                if not all(one.may_miss for one in passed):
                    return None
                session.queue = [one for one in session.queue if one is not due and one not in passed]
                return due
            before.append(due)
        return None

    def _take_handout(self, session: Session, packet: Packet) -> Due | None:
        now = [one for topic_filter, one in session.subscriptions.items() if topic_filter[0] == "$"]
        for wanted, identifier in now + session.groups:
            for handout in self.handouts:
                # On its way by another member it may have lost of its QoS, and the flag.
                text = evolve(
                    handout.text,
                    qos=min(handout.text.qos, wanted.qos, packet.qos),
                    retain=handout.text.retain and wanted.as_published and packet.retain,
                )
                due = Due(text, (identifier,) if identifier else (), handout=handout)
                if (
                    handout.shared_filter == wanted.topic_filter
                    and due.is_in(packet, session.version)
                    and self._may_take(session, handout)
                ):
                    handout.taken_by, handout.qos, handout.is_done = session.client, text.qos, not text.qos
                    return due
        return None

    def _may_take(self, session: Session, handout: Handout) -> bool:
        """Say whether a member may get it: the first, or the next when the last has left with it unacknowledged.

        The next may be the last once more: it is back, and so it comes from another one that has left.
        """
        holder = self.sessions.get(handout.taken_by)
        has_left = holder is None or handout.is_free
        has_left |= holder is not None and holder is not session and handout.shared_filter not in holder.subscriptions
        return not handout.taken_by or (not handout.is_done and handout.qos < 2 and has_left)

    def _answer(self, session: Session, owed: Iterable[tuple[Kind, int]]) -> list[Said]:
        said = []
        for kind, packet_id in owed:
            if kind is Kind.PUBREC:
                said.append((Kind.PUBREL, packet_id))
                session.released.append(packet_id)
            else:
                due = session.in_flight.pop(packet_id)
                if kind is Kind.PUBCOMP:
                    session.released.remove(packet_id)
                if due.handout is not None:
                    due.handout.is_done = True
        return said

    def check_quiet(self) -> None:
        """Fail if something should have been sent by now."""
        for session in self.sessions.values():
            if not session.is_online:
                continue
            missing = [due for due in session.queue if not due.may_miss]
            if session.has_room:
                assert not missing, f"{session.client} did not get {missing}"
                session.queue.clear()
            elif missing and not missing[0].batch and not session.groups:
                # Others may wait behind one that must, and who knows what a group has queued here.
                assert missing[0].text.qos, f"{session.client} did not get {missing[0]}"

        for handout in self.handouts:
            self._check_handed_out(handout)

    def _check_handed_out(self, handout: Handout) -> None:
        """Members that are there get what members that are away do not take."""
        there = [self.sessions[one] for one in self._members(handout.shared_filter) if self.sessions[one].is_online]
        handout.may_wait |= not there
        if not (handout.may_wait or handout.may_miss or handout.taken_by):
            assert not all(session.has_room for session in there), f"nobody there got {handout}"

    def check_handouts(self) -> None:
        """Fail if a group did not get a message, once everybody was there and had taken all."""
        missing = [one for one in self.handouts if not (one.may_miss or one.taken_by or not one.text.qos)]
        assert not missing, f"nobody got {missing}"
