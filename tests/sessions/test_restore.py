"""What comes back after a `kill -9`: everything that was committed, in order, and nothing else."""

import shutil
import sqlite3
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from mqttproxy.mqtt.packets import Message, Properties, RetainHandling, Subscription, Timed, Will
from mqttproxy.sessions import RetainedStore
from mqttproxy.sessions.session import Session
from mqttproxy.sessions.table import SharedMessage
from mqttproxy.sessions.wills import NEVER, PendingWill
from mqttproxy.tables import DATABASE
from tests.quarantine.examples import Disk, io_error
from tests.sessions.examples import Device, House, message, send, settle, topics


def back(house: House, tmp_path: Path, *, later: float = 0.0) -> House:
    house.commit()
    return house.killed(tmp_path / "copy", later=later)


def session_of(house: House, client_id: str = "a") -> Session:
    session = house.sessions.get(client_id)
    assert session is not None
    return session


def test_a_session_comes_back_with_its_expiry_still_running(tmp_path: Path) -> None:
    house = House(tmp_path / "s")
    house.away("a", expiry=60.0)
    house.away("short", expiry=20.0)
    again = back(house, tmp_path, later=30.0)
    assert [session.client_id for session in again.sessions] == ["a"]
    assert again.discarded == [("short", ())]
    again.clock.time += 29.0
    again.sessions.discard_due()
    assert len(again.sessions) == 1
    again.clock.time += 1.0
    again.sessions.discard_due()
    assert len(again.sessions) == 0


def test_D5_whose_a_session_is_comes_back_with_it(tmp_path: Path) -> None:
    house = House(tmp_path / "s")
    house.away("a", owner="ada")
    house.away("nobody's")
    house.away("taken up")
    house.away("taken up", owner="bob")
    house.away("anew", owner="ada")
    house.open("anew", clean=True, owner="bob")
    house.away("kept", owner="ada")
    house.away("kept")  # who may take it up, the door has said
    again = back(house, tmp_path)
    owners = {session.client_id: session.owner for session in again.sessions}
    assert owners == {"a": "ada", "nobody's": None, "taken up": "bob", "anew": "bob", "kept": "ada"}


def test_a_session_that_was_on_has_all_its_time(tmp_path: Path) -> None:
    house = House(tmp_path / "s")
    house.open("a", expiry=60.0)
    again = back(house, tmp_path, later=1000.0)
    assert session_of(again).due == again.clock.now() + 60.0
    assert again.sessions.disconnected == 1


def test_a_clock_that_was_set_back_does_not_make_a_session_last_longer(tmp_path: Path) -> None:
    house = House(tmp_path / "s")
    house.away("a", expiry=60.0)
    again = back(house, tmp_path, later=-5000.0)
    assert session_of(again).due == again.clock.now() + 60.0


def test_a_session_without_expiry_is_not_written_and_one_that_lost_its_expiry_is_over(tmp_path: Path) -> None:
    house = House(tmp_path / "s")
    house.open("clean", expiry=0.0).deliver([message(1)])
    assert house.journal.noted == 0
    house.away("was")
    house.open("was", expiry=0.0)
    assert len(back(house, tmp_path).sessions) == 0


def test_subscriptions_come_back_whole(tmp_path: Path) -> None:
    house = House(tmp_path / "s")
    session = house.open()
    whole = Subscription("a/+/#", 2, True, True, RetainHandling.DO_NOT_SEND)
    for subscription, identifier in ((whole, 7), (Subscription("$share/g/b"), 0), (Subscription("gone"), 0)):
        house.table.subscribe(session, subscription, identifier)
        house.sessions.subscribed(session, subscription, identifier)
    house.table.unsubscribe("a", "gone")
    house.sessions.unsubscribed(session, "gone")
    again = back(house, tmp_path)
    entries = {entry.subscription: entry.identifier for entry in again.table.entries_of("a")}
    assert entries == {whole: 7, Subscription("$share/g/b"): 0}
    assert all(entry.subscriber is session_of(again) for entry in again.table.entries_of("a"))


def test_messages_come_back_in_order_with_all_their_properties(tmp_path: Path) -> None:
    house = House(tmp_path / "s")
    properties = Properties(
        payload_format_indicator=1, content_type="é", correlation_data=b"\x00\xff", response_topic="r",
        subscription_identifiers=(3, 268_435_455), user_properties=(("a", ""), ("a", "2"), ("", "ü")),
    )  # fmt: skip
    messages = [
        Message("t/1", b"\x00\xfe", 1, True, properties),
        Message("t/2", b"", 2),
        SharedMessage("t/3", b"s", 1, shared_filter="$share/g/t/#"),
    ]
    house.away().deliver([*messages, Message("t/4", b"x")])
    again = session_of(back(house, tmp_path))
    assert [waiting for waiting, _ in again.queue] == messages


def test_expiry_goes_on_while_the_proxy_is_down(tmp_path: Path) -> None:
    house = House(tmp_path / "s")
    interval = Properties(message_expiry_interval=100)
    now = house.clock.now()
    house.away(expiry=1000.0).deliver(
        [Timed("over", b"", 1, False, interval, now + 30), Timed("left", b"", 1, False, interval, now + 100)]
    )
    again = back(house, tmp_path, later=40.0)
    assert again.dropped == {"expired": 1}
    [(waiting, _)] = session_of(again).take(10, 1000, again.clock.now())
    assert waiting.properties.message_expiry_interval == 60


def test_what_was_in_flight_keeps_its_packet_identifier_and_its_step(tmp_path: Path) -> None:
    house = House(tmp_path / "s")
    session = house.open()
    session.deliver([message(n, qos) for n, qos in enumerate((1, 2, 2, 1, 1))])
    first, second, third, fourth = send(session, 4)
    session.state.release(second)
    settle(session, first)
    session.state.keep(77)
    session.state.keep(78)
    session.state.forget(77)
    state = session_of(back(house, tmp_path)).state
    assert [(packet_id, item[0].topic) for packet_id, item in state.outgoing.items()] == [
        (second, "t/1"),
        (third, "t/2"),
        (fourth, "t/3"),
    ]
    assert state.released == {second}
    assert state.incoming_qos2 == {78}
    assert topics(session_of(back(house, tmp_path / "again"))) == ["t/4"]


def test_a_message_for_many_is_stored_once_and_goes_with_the_last_of_them(tmp_path: Path) -> None:
    house = House(tmp_path / "s")
    sessions = [house.away(name) for name in "abc"]
    for number, session in enumerate(sessions, 1):
        house.table.subscribe(session, Subscription("t/#", qos=1 + (number > 1)), number)
    house.table.deliver([message(1, qos=2)])
    house.commit()

    def rows(table: str) -> int:
        connection = sqlite3.connect(tmp_path / "s" / DATABASE)
        count = connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]  # noqa: S608 # our own
        connection.close()
        return int(count)

    assert (rows("messages"), rows("queued")) == (1, 3)
    again = back(house, tmp_path)
    assert [next(iter(session.queue))[0].properties.subscription_identifiers for session in again.sessions] == [
        (1,), (2,), (3,)
    ]  # fmt: skip
    for name in "ab":
        house.open(name, clean=True)
    house.commit()
    assert (rows("messages"), rows("queued")) == (1, 1)
    house.open("c", clean=True)
    house.commit()
    assert (rows("messages"), rows("queued")) == (0, 0)


def test_what_the_queue_drops_goes_from_disk(tmp_path: Path) -> None:
    house = House(tmp_path / "s", queue_messages=2, queue_when_full="drop_oldest")
    session = house.away()
    for number in range(4):
        session.deliver([message(number)])
        house.commit()
    assert topics(session_of(back(house, tmp_path))) == ["t/2", "t/3"]


def test_what_came_and_went_before_a_commit_is_never_written(tmp_path: Path) -> None:
    house = House(tmp_path / "s")
    session = house.open()
    house.commit()
    session.deliver([message(1), message(2)])
    for packet_id in send(session):
        settle(session, packet_id)
    session.state.keep(1)
    session.state.forget(1)
    assert house.journal.pending == 0


def test_output_is_held_until_the_step_of_qos_2_is_on_disk(tmp_path: Path) -> None:
    house = House(tmp_path / "s")
    session = house.open()
    session.device = device = Device()
    house.commit()
    session.deliver([message(1, qos=1)])
    send(session)
    assert not session.is_held
    session.deliver([message(2, qos=2)])
    for step in (
        lambda: session.state.keep(5),
        lambda: session.state.forget(5),
        lambda: send(session),
        lambda: session.state.release(2),
        lambda: house.sessions.subscribed(session, Subscription("a")),
        lambda: house.sessions.unsubscribed(session, "a"),
    ):
        device.flushes = 0
        step()
        assert session.is_held
        house.commit()
        assert not session.is_held
        assert device.flushes == 1


def test_retained_messages_and_wills_come_back(tmp_path: Path) -> None:
    house = House(tmp_path / "s")
    now = house.clock.now()
    kept = Message("r/1", b"x", 1, True, Properties(content_type="c"))
    house.notes.retained("r/1", kept, True, "ada's")
    house.notes.retained("r/2", Timed("r/2", b"y", 0, True, Properties(message_expiry_interval=50), now + 50))
    house.notes.retained("r/3", kept)
    house.commit()
    house.notes.retained("r/3", None)
    will = PendingWill("a", "ada", "192.0.2.1", "plain", Will("w", b"gone", 2, True), 5.0, now + 5, 1)
    held = PendingWill("b", None, "192.0.2.1", "plain", Will("w", b""), 0.0, NEVER, 2)
    house.notes.will(1, will)
    house.notes.will(2, held)
    house.notes.will(3, held)
    house.notes.will(3, None)
    again = back(house, tmp_path, later=2.0)
    first, second = again.notes.retained_at_start()
    assert first == (kept, "ada's")
    timed, sender = second
    assert sender == ""
    assert isinstance(timed, Timed)
    assert timed.expires_at == again.clock.now() + 48
    armed, on = again.notes.wills_at_start()
    assert armed.due == again.clock.now() + 3
    assert (armed.message, armed.number, armed.username) == (will.message, 1, "ada")
    assert on == held


def test_numbers_go_on_after_a_restart(tmp_path: Path) -> None:
    house = House(tmp_path / "s")
    house.away("a").deliver([message(1)])
    again = back(house, tmp_path)
    again.away("b").deliver([message(2)])
    session_of(again).deliver([message(3)])
    third = back(again, tmp_path / "again")
    assert topics(session_of(third)) == ["t/1", "t/3"]
    assert topics(session_of(third, "b")) == ["t/2"]


def test_a_connection_that_outlives_its_session_notes_nothing(tmp_path: Path) -> None:
    house = House(tmp_path / "s")
    session = house.open()
    session.deliver([message(1, qos=2), message(2)])
    send(session, 1)
    house.commit()
    house.open(clean=True)
    house.commit()
    noted = house.journal.noted
    session.state.release(1)
    session.state.keep(1)
    session.state.forget(1)
    session.sent()
    settle(session, 1)
    assert house.journal.noted == noted
    assert house.sessions.ledger.queued_messages == 0


CLIENTS = st.sampled_from("abc")
Known = dict[str, object]


class Sessions(RuleBasedStateMachine):
    """Law: a restart from a copy of the files gives what stood when it was last committed, with nobody connected."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.disk = Disk()
        self.house = House(self.folder / "0", disk=self.disk)
        self.committed: dict[str, Known] = {}
        self.restarts = 0
        self.numbers = 0

    def teardown(self) -> None:
        self.house.close()
        shutil.rmtree(self.folder)

    def seen(self) -> dict[str, Known]:
        """What is to survive of each session."""
        return {
            session.client_id: {
                "expiry": session.expiry,
                "subscriptions": {
                    (entry.subscription, entry.identifier) for entry in self.house.table.entries_of(session.client_id)
                },
                "queue": [waiting for waiting, _ in session.queue if waiting.qos],
                "outgoing": [(packet_id, item[0]) for packet_id, item in session.state.outgoing.items()],
                "released": set(session.state.released),
                "incoming": set(session.state.incoming_qos2),
            }
            for session in self.house.sessions
            if session.is_durable
        }

    @rule(client=CLIENTS, clean=st.booleans(), expiry=st.sampled_from([0.0, 50.0, 99.0]))
    def opens(self, client: str, clean: bool, expiry: float) -> None:
        session = self.house.sessions.get(client)
        if session is not None:
            self.house.sessions.close(session)
        self.house.open(client, clean=clean, expiry=expiry)

    @rule(client=CLIENTS, expiry=st.sampled_from([None, 0.0, 70.0]))
    def closes(self, client: str, expiry: float | None) -> None:
        session = self.house.sessions.get(client)
        if session is not None:
            self.house.sessions.close(session, expiry=expiry)

    @rule(client=CLIENTS, topic_filter=st.sampled_from(["t/#", "t/+", "$share/g/t/#"]), identifier=st.integers(0, 2))
    def subscribes(self, client: str, topic_filter: str, identifier: int) -> None:
        session = self.house.sessions.get(client)
        if session is not None:
            subscription = Subscription(topic_filter, 2)
            self.house.table.subscribe(session, subscription, identifier)
            self.house.sessions.subscribed(session, subscription, identifier)

    @rule(client=CLIENTS, topic_filter=st.sampled_from(["t/#", "t/+", "$share/g/t/#"]))
    def unsubscribes(self, client: str, topic_filter: str) -> None:
        session = self.house.sessions.get(client)
        if session is not None and self.house.table.unsubscribe(client, topic_filter):
            self.house.sessions.unsubscribed(session, topic_filter)

    @rule(qos=st.integers(0, 2), count=st.integers(1, 3))
    def publishes(self, qos: int, count: int) -> None:
        payload = b"%d" % self.numbers
        self.numbers += 1
        self.house.table.deliver([Message(f"t/{index}", payload, qos) for index in range(count)])

    @rule(client=CLIENTS, quota=st.integers(1, 4))
    def sends(self, client: str, quota: int) -> None:
        session = self.house.sessions.get(client)
        if session is not None and session.is_on:
            send(session, quota)

    @rule(client=CLIENTS, choice=st.integers(0, 5))
    def acknowledges(self, client: str, choice: int) -> None:
        session = self.house.sessions.get(client)
        if session is None or not session.state.outgoing:
            return
        packet_id = list(session.state.outgoing)[choice % len(session.state.outgoing)]
        if session.state.outgoing[packet_id][0].qos == 2 and packet_id not in session.state.released:
            session.state.release(packet_id)
        else:
            settle(session, packet_id)

    @rule(client=CLIENTS, packet_id=st.integers(1, 3))
    def keeps_or_forgets(self, client: str, packet_id: int) -> None:
        session = self.house.sessions.get(client)
        if session is not None and packet_id in session.state.incoming_qos2:
            session.state.forget(packet_id)
        elif session is not None:
            session.state.keep(packet_id)

    @rule()
    def commits(self) -> None:
        self.house.commit()
        self.committed = self.seen()

    @rule(statement=st.sampled_from(["COMMIT", "BEGIN IMMEDIATE"]))
    def cannot_commit(self, statement: str) -> None:
        if not self.house.journal.is_clear:
            self.disk.before[statement] = io_error()
            with pytest.raises(sqlite3.OperationalError):
                self.house.commit()
            self.disk.before.clear()

    @rule()
    def commits_and_is_told_that_it_failed(self) -> None:
        if self.house.journal._changes and self.house.journal._writing is None:
            self.disk.after["COMMIT"] = io_error()
            with pytest.raises(sqlite3.OperationalError):
                self.house.commit()
            self.disk.after.clear()
            self.commits()

    @precondition(lambda self: self.restarts < 5)
    @rule()
    def restarts_after_kill_9(self) -> None:
        self.restarts += 1
        self.disk, old = Disk(), self.house
        self.house = old.killed(self.folder / str(self.restarts), disk=self.disk)
        old.close()
        assert self.seen() == self.committed
        assert self.house.sessions.disconnected == len(self.house.sessions)
        self.committed = self.seen()

    @invariant()
    def the_books_agree(self) -> None:
        ledger, sessions = self.house.sessions.ledger, self.house.sessions
        assert sessions.disconnected == sum(not session.is_on for session in sessions)
        tokens = [
            token
            for session in sessions
            for _, token in (*session.queue, *session.state.outgoing.values())
            if token is not None
        ]
        plain = sum(token is None for session in sessions for _, token in session.queue)
        assert ledger.queued_messages == len(tokens) + plain
        if not len(sessions):
            assert ledger.queued_bytes == 0


TestSessions = Sessions.TestCase
TestSessions.settings = settings(max_examples=40, stateful_step_count=40)


def test_a_clean_start_is_not_told_before_the_old_session_is_gone_from_disk(tmp_path: Path) -> None:
    house = House(tmp_path / "one")
    house.away()
    house.commit()
    fresh = house.open(clean=True, expiry=0.0)
    assert fresh.is_held
    house.commit()
    assert not fresh.is_held
    assert house.killed(tmp_path / "two").sessions.get("a") is None
    house.sessions.close(fresh)
    assert not house.open(clean=True, expiry=0.0).is_held  # nothing was on disk


class TestWhatComesAndGoesWhileTheDiskFails:
    """It must not gather: it may go on for days."""

    def test_sessions_and_subscriptions(self, tmp_path: Path) -> None:
        house = House(tmp_path)
        for number, expiry in enumerate((0.0, 60.0)):
            session = house.open(f"client {number}", expiry=expiry)
            is_new = house.table.subscribe(session, Subscription("a"))
            house.sessions.subscribed(session, Subscription("a"), is_new=is_new)
            house.table.unsubscribe(session.client_id, "a")
            house.sessions.unsubscribed(session, "a")
            is_new = house.table.subscribe(session, Subscription("b"))
            house.sessions.subscribed(session, Subscription("b"), is_new=is_new)
            house.sessions.close(session, expiry=0.0)
        assert house.journal.pending == 0

    def test_packet_identifiers_whose_message_is_not_acknowledged_when_the_session_ends(self, tmp_path: Path) -> None:
        house = House(tmp_path)
        house.open().promise(5)
        house.open(clean=True, expiry=0.0)
        assert house.journal.pending == 0

    def test_retained_messages(self, tmp_path: Path) -> None:
        house = House(tmp_path)
        retained = RetainedStore(max_messages=10, max_bytes=10_000, note=house.notes.retained, now=house.clock.now)
        for payload in (b"x", b"y", b""):
            retained.keep(Message("t", payload, 0, True))
        assert house.journal.pending == 0

    def test_wills(self, tmp_path: Path) -> None:
        house = House(tmp_path)
        for number in (1, 2):
            house.notes.will(number, PendingWill("a", None, "", "plain", Will("w", b"x"), number=number))
            house.notes.will(number, PendingWill("a", None, "", "plain", Will("w", b"x"), number=number, due=1.0))
            house.notes.will(number, None)
        assert house.journal.pending == 0

    def test_what_was_on_disk_before_is_struck_off_all_the_same(self, tmp_path: Path) -> None:
        house = House(tmp_path / "one")
        house.notes.will(1, PendingWill("a", None, "", "plain", Will("w", b"x"), number=1))
        house.notes.retained("t", Message("t", b"x", 0, True), True)
        house.commit()
        house = house.killed(tmp_path / "two")
        assert [will.number for will in house.notes.wills_at_start()] == [1]
        house.notes.will(1, PendingWill("a", None, "", "plain", Will("w", b"x"), number=1, due=1.0))
        house.notes.will(1, None)
        house.notes.retained("t", Message("t", b"y", 0, True), False)
        house.notes.retained("t", None)
        house.commit()
        house = house.killed(tmp_path / "three")
        assert [*house.notes.wills_at_start()] == []
        assert [*house.notes.retained_at_start()] == []
