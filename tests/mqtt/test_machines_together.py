"""Both machines, talking over a road that cuts the bytes anywhere and breaks at any time, held against a small model.

Every message is a number: its payload and its token. What one end publishes the other must take: at QoS 1 at least
once, at QoS 2 exactly once as long as the session lives, in the order of publishing; and every token comes back once.

The server has a disk. What it writes leaves it with the next commit, never before, and when it restarts it is what it
was at the last one, the program behind it too.
"""

from collections import Counter
from copy import deepcopy
from itertools import pairwise

from hypothesis import settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from mqttproxy.mqtt.client import ClientConnection, ClientLimits
from mqttproxy.mqtt.events import Event, Settled
from mqttproxy.mqtt.flow import Flow
from mqttproxy.mqtt.packets import ConnAck, Connect, Message, ProtocolVersion, Publish, SubAck, Subscribe, Subscription
from mqttproxy.mqtt.reasons import ReasonCode
from mqttproxy.mqtt.server import ServerConnection, ServerLimits, State
from mqttproxy.mqtt.session_state import SessionState

NO = ReasonCode.QUOTA_EXCEEDED
counts = st.integers(1, 6)


class FewIdentifiers(SessionState):
    """A session that soon has to use its packet identifiers again."""

    __slots__ = ()

    packet_ids = 100


def topic_of(number: int) -> str:
    """Return one of a few topics, long enough for an alias."""
    return f"a/topic/{number % 3}"


class Ledger:
    """The messages of one direction."""

    def __init__(self) -> None:
        self.qos: list[int] = []
        self.unsettled: set[int] = set()
        self.taken: Counter[int] = Counter()
        self.refused: set[int] = set()
        self.resets: Counter[int] = Counter()  # how often the receiver's memory of a message was lost
        self.given_up: set[int] = set()  # the sender's memory was lost
        self.first_seen: dict[int, None] = {}

    def new(self, qos: int) -> tuple[Message, int]:
        number = len(self.qos)
        self.qos.append(qos)
        if qos:
            self.unsettled.add(number)
        return Message(topic_of(number), b"%d" % number, qos), number

    def settled(self, event: Settled) -> None:
        number = int(event.message.payload)
        assert event.token == number
        self.unsettled.remove(number)  # a KeyError: twice
        assert number in self.refused if event.reason.is_failure else self.taken[number]

    def check(self) -> None:
        for number, times in self.taken.items():
            assert self.qos[number] == 1 or times <= 1 + self.resets[number]
        for a_qos in (0, 1, 2):
            seen = [number for number in self.first_seen if self.qos[number] == a_qos]
            assert all(earlier < later for earlier, later in pairwise(seen))

    def check_end(self) -> None:
        assert not self.unsettled
        for number, qos in enumerate(self.qos):
            assert self.taken[number] or number in self.refused | self.given_up or not qos


class End:
    """One end of the connection, and the program behind it."""

    def __init__(self, mine: Ledger, theirs: Ledger) -> None:
        self.mine = mine
        self.theirs = theirs
        self.conn: Flow | None = None
        self.arriving = bytearray()
        self.waiting: list[tuple[int, int, int]] = []  # packet identifier, QoS, number

    def handle(self, event: Event) -> None:
        if isinstance(event, Settled):
            self.mine.settled(event)
        elif isinstance(event, Publish):
            number = int(event.payload)
            assert event.topic == topic_of(number)
            assert event.qos == self.theirs.qos[number]
            self.theirs.first_seen.setdefault(number)
            if event.qos:
                self.waiting.append((event.packet_id, event.qos, number))
            else:
                self.theirs.taken[number] += 1

    def acknowledge(self, count: int) -> None:
        assert self.conn is not None
        taken, self.waiting = self.waiting[:count], self.waiting[count:]
        self.conn.acknowledge_all([(packet_id, qos) for packet_id, qos, _ in taken])
        self.theirs.taken.update(number for _, _, number in taken)

    def publish(self, qos_levels: list[int]) -> None:
        if self.conn is None or self.conn.state is not State.OPEN:
            return
        # Without a receive maximum only identifiers bound it, and SUBSCRIBE needs some: one at each step at most.
        room = min(self.conn.send_quota, FewIdentifiers.packet_ids // 2 - len(self.conn.session.outgoing))
        before = len(self.conn.session.outgoing)
        items = []
        for qos in qos_levels:
            room -= bool(qos)
            if room >= 0:
                items.append(self.mine.new(qos))
        sent = self.conn.publish(items)
        assert not sent.too_large
        assert sent.done == [number for message, number in items if not message.qos]
        # An identifier that was in use already would have replaced an entry.
        assert len(self.conn.session.outgoing) == before + sum(1 for message, _ in items if message.qos)

    def take_bytes(self, count: int) -> None:
        """Let some of the arriving bytes arrive; any RemoteProtocolError fails the test."""
        assert self.conn is not None
        data, self.arriving = self.arriving[:count], self.arriving[count:]
        self.conn.receive_data(data, 1.0)
        while events := self.conn.next_batch(1.0):
            for event in events:
                self.handle(event)


class DeviceEnd(End):
    def handle(self, event: Event) -> None:
        if isinstance(event, ConnAck):
            assert isinstance(self.conn, ClientConnection)
            assert event.reason is ReasonCode.SUCCESS
            assert self.conn.resume().too_large == []
        super().handle(event)


class ServerEnd(End):
    """A server that keeps the session for as long as `session` is not None."""

    def __init__(self, mine: Ledger, theirs: Ledger) -> None:
        super().__init__(mine, theirs)
        self.session: SessionState | None = None
        self.is_session_new = False
        self.held = bytearray()  # written, and waits for the commit
        self.commit()

    def commit(self) -> bytearray:
        """Put everything on the disk and return what may leave now."""
        session = self.session
        self.disk = deepcopy(
            (
                None if session is None else (session.outgoing, session.released, session.incoming_qos2),
                (self.theirs.taken, self.theirs.refused, self.theirs.first_seen),
                (self.mine.unsettled, len(self.mine.qos)),
            )
        )
        out, self.held = self.held, bytearray()
        return out

    def restart(self) -> None:
        """Be again what the disk says; messages that are not on it were never sent."""
        session, taken, (unsettled, count) = deepcopy(self.disk)
        self.theirs.taken, self.theirs.refused, self.theirs.first_seen = taken
        self.mine.given_up |= {number for number in self.mine.unsettled if number >= count}
        self.mine.unsettled = unsettled
        self.session = None
        if session is not None:
            self.session = FewIdentifiers()
            self.session.restore(*session)

    def handle(self, event: Event) -> None:
        assert isinstance(self.conn, ServerConnection)
        if isinstance(event, Connect):
            known = self.session
            self.session = known or FewIdentifiers()
            self.is_session_new = known is None
            self.conn.accept(self.session, session_present=known is not None, client_id="d")
        elif isinstance(event, Subscribe):
            assert event.packet_id not in {packet_id for packet_id, _, _ in self.waiting}
            self.conn.send(SubAck(event.packet_id, (ReasonCode.SUCCESS,)))
        super().handle(event)


class Machines(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        up, down = Ledger(), Ledger()
        self.ledgers = up, down
        self.device, self.server = DeviceEnd(up, down), ServerEnd(down, up)
        self.ends: tuple[End, End] = self.device, self.server
        self.session = FewIdentifiers()

    @initialize(version=st.sampled_from(ProtocolVersion))
    def start(self, version: ProtocolVersion) -> None:
        self.version = version
        self.connect(3, 3, 2, is_prompt=True, is_disk_slow=False)

    @property
    def is_connected(self) -> bool:
        return self.device.conn is not None

    @precondition(lambda self: not self.is_connected)
    @rule(
        device_takes=counts,
        server_takes=counts,
        aliases=st.integers(0, 2),
        is_prompt=st.booleans(),
        is_disk_slow=st.booleans(),
    )
    def connect(self, device_takes: int, server_takes: int, aliases: int, is_prompt: bool, is_disk_slow: bool) -> None:
        self.is_disk_slow = is_disk_slow
        connect = Connect(client_id="d", version=self.version, clean_start=False, keep_alive=60)
        limits = ClientLimits(
            receive_maximum=device_takes, topic_alias_maximum=aliases, topic_aliases_to_server=2 - aliases
        )
        self.device.conn = ClientConnection(connect, self.session, limits, now=0.0)
        self.server.conn = ServerConnection(
            ServerLimits(receive_maximum=server_takes, topic_alias_maximum=2, topic_aliases_to_device=2), now=0.0
        )
        self.write()
        if is_prompt:
            self.a_while_passes(1)

    @precondition(lambda self: self.is_connected)
    @rule(rounds=st.integers(1, 3))
    def a_while_passes(self, rounds: int) -> None:
        for _ in range(rounds):
            for end in self.server, self.device:
                end.take_bytes(len(end.arriving))
                self.write()

    @precondition(lambda self: self.is_connected)
    @rule(end=st.sampled_from([0, 1]), qos_levels=st.lists(st.sampled_from([0, 1, 1, 2, 2]), min_size=1, max_size=8))
    def publish(self, end: int, qos_levels: list[int]) -> None:
        self.ends[end].publish(qos_levels)
        self.write()

    @precondition(lambda self: self.is_connected)
    @rule(end=st.sampled_from([0, 1]), count=st.one_of(st.integers(1, 12), st.just(10_000)))
    def some_bytes_arrive(self, end: int, count: int) -> None:
        self.ends[end].take_bytes(count)
        self.write()

    @precondition(lambda self: self.is_connected)
    @rule(end=st.sampled_from([0, 1]), count=counts)
    def messages_are_acknowledged(self, end: int, count: int) -> None:
        self.ends[end].acknowledge(count)
        self.write()

    @precondition(lambda self: self.is_connected and self.version is ProtocolVersion.V5)
    @rule(end=st.sampled_from([0, 1]))
    def a_message_is_refused(self, end: int) -> None:
        side = self.ends[end]
        if side.waiting and side.conn is not None:
            packet_id, qos, number = side.waiting.pop(0)
            side.conn.acknowledge(packet_id, qos, NO)
            side.theirs.refused.add(number)
            self.write()

    @precondition(lambda self: self.is_connected)
    @rule()
    def the_device_subscribes(self) -> None:
        conn = self.device.conn
        if isinstance(conn, ClientConnection) and conn.state is State.OPEN:
            packet_id = conn.subscribe([Subscription("t")])
            assert packet_id
            assert packet_id not in conn.session.outgoing
            self.write()

    @precondition(lambda self: self.is_connected)
    @rule()
    def the_disk_commits(self) -> None:
        self.device.arriving += self.server.commit()

    @precondition(lambda self: self.is_connected)
    @rule(late=st.integers(0, 3), does_server_forget=st.integers(0, 4).map(lambda number: number == 0))
    def the_connection_is_lost(self, late: int, does_server_forget: bool) -> None:
        is_session_known = self.is_session_known
        self.cut(late, late)
        if does_server_forget or not is_session_known:
            self.forget()

    @precondition(lambda self: self.is_connected)
    @rule(late=st.integers(0, 3))
    def the_server_restarts(self, late: int) -> None:
        is_session_known = self.is_session_known
        self.cut(late, 0)
        self.server.restart()
        if not is_session_known:
            self.forget()

    @property
    def is_session_known(self) -> bool:
        """A device that has not heard that its session is a new one takes it for the old one when it connects again.

        MQTT leaves this open; here the server does not keep a session whose first CONNACK never arrived.
        """
        assert self.device.conn is not None
        return self.device.conn.state is State.OPEN or not self.server.is_session_new

    def cut(self, device_late: int, server_late: int) -> None:
        for end, late in (self.device, device_late), (self.server, server_late):
            assert isinstance(end.conn, ServerConnection | ClientConnection)
            end.conn.disconnect(ReasonCode.UNSPECIFIED_ERROR)
            end.acknowledge(late)  # the program was still at it
            end.conn = None
            end.waiting.clear()
            end.arriving.clear()
        self.server.held.clear()

    def forget(self) -> None:
        up, down = self.ledgers
        self.server.session = None
        up.resets.update(up.unsettled)
        down.given_up |= down.unsettled
        down.unsettled.clear()
        self.server.commit()

    def write(self) -> None:
        device, server = self.ends
        assert device.conn is not None
        assert server.conn is not None
        server.arriving += device.conn.data_to_send()
        self.server.held += server.conn.data_to_send()
        if not self.is_disk_slow:
            self.the_disk_commits()

    @invariant()
    def nothing_comes_too_often_or_out_of_order(self) -> None:
        for ledger in self.ledgers:
            ledger.check()
        for end in self.ends:
            if end.conn is not None:
                assert end.conn.unacknowledged == len(end.waiting)

    def teardown(self) -> None:
        if not hasattr(self, "version"):
            return
        if not self.is_connected:
            self.connect(2, 2, 1, is_prompt=True, is_disk_slow=False)
        self.is_disk_slow = False
        for _ in range(10_000):
            for end in self.ends:
                end.take_bytes(len(end.arriving))
                end.acknowledge(len(end.waiting))
            self.write()
            if not any(end.arriving or end.waiting for end in self.ends):
                break
        for ledger in self.ledgers:
            ledger.check()
            ledger.check_end()
        for session in (self.session, self.server.session):
            assert session is not None
            assert not session.outgoing
            assert not session.released
            assert not session.incoming_qos2


Machines.TestCase.settings = settings(max_examples=100, stateful_step_count=50, deadline=None)
TestMachines = Machines.TestCase
