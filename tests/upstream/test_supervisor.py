"""An upstream against a broker of our own: order, books, and what each failure leads to."""

import pytest
import trio
from trio.testing import MockClock

from mqttproxy.mqtt.packets import Properties
from mqttproxy.mqtt.reasons import ReasonCode
from mqttproxy.mqtt.server import ServerLimits
from mqttproxy.mqtt.session_state import SessionState
from mqttproxy.upstream.breaker import BreakerState
from mqttproxy.upstream.connect import account_of
from tests.upstream.broker import FakeBroker, linked, messages, settings, topics


async def test_messages_arrive_in_order_and_their_tokens_come_back(autojump_clock: MockClock) -> None:
    async with linked() as it:
        assert it.upstream.offer(messages(100)) == 100
        await it.settle()
        assert it.broker.topics == topics(100)
        assert it.heard.tokens == list(range(100))
        assert it.heard.calls == 1  # one call for all that came in one read
        assert it.upstream.books.delivered == 100


async def test_qos_2_is_settled_after_pubcomp(autojump_clock: MockClock) -> None:
    async with linked() as it:
        it.upstream.offer(messages(3, qos=2))
        await it.settle()
        assert it.heard.tokens == [0, 1, 2]


async def test_qos_0_is_delivered_when_written_and_not_told(autojump_clock: MockClock) -> None:
    async with linked() as it:
        it.upstream.offer(messages(5, qos=0))
        await it.settle()
        assert it.broker.topics == topics(5)
        assert it.heard.calls == 0
        assert it.upstream.books.delivered == 5
        assert it.upstream.in_flight == 0


async def test_a_stuck_broker_takes_exactly_queue_and_in_flight(autojump_clock: MockClock) -> None:
    async with linked(queue_messages=7, in_flight=5) as it:
        it.broker.is_mute = True
        taken = 0
        for item in messages(100):
            taken += it.upstream.offer([item])
            await it.settle()
        assert taken == 7 + 5
        assert it.upstream.offer(messages(1)) == 0
        assert (it.upstream.queued, it.upstream.in_flight) == (7, 5)


async def test_receive_maximum_lowers_what_is_in_flight(autojump_clock: MockClock) -> None:
    def lower(broker: FakeBroker) -> None:
        broker.limits = ServerLimits(receive_maximum=3)
        broker.is_mute = True

    async with linked(queue_messages=7, in_flight=5, prepare=lower) as it:
        taken = 0
        for item in messages(100):
            taken += it.upstream.offer([item])
            await it.settle()
        assert taken == 7 + 3
        it.broker.is_mute = False
        it.broker.release()
        await it.settle()
        assert it.broker.topics == topics(10)
        assert it.heard.tokens == list(range(10))


async def test_bytes_in_flight_are_bounded(autojump_clock: MockClock) -> None:
    async with linked(in_flight_bytes=25) as it:
        it.broker.is_mute = True
        it.upstream.offer(messages(10, payload=b"0123456789"))
        await it.settle()
        assert it.upstream.in_flight == 3  # the third reached it
        it.broker.release(1)
        await it.settle()
        assert it.upstream.in_flight == 3


async def test_whoever_waits_for_room_is_woken_by_an_acknowledgement(autojump_clock: MockClock) -> None:
    async with linked(queue_messages=1, in_flight=1) as it:
        it.broker.is_mute = True
        for item in messages(3):
            it.upstream.offer([item])
            await it.settle()
        with trio.move_on_after(1) as scope:
            await it.upstream.wait_room()
        assert scope.cancelled_caught
        it.broker.release()
        await it.upstream.wait_room()
        assert it.upstream.offer(messages(1, start=9)) == 1


@pytest.mark.parametrize("keeps", [True, False])
@pytest.mark.parametrize("qos", [1, 2])
async def test_X7_a_cut_link_loses_nothing_and_keeps_the_order_whether_the_session_is_kept_or_lost(
    autojump_clock: MockClock, qos: int, keeps: bool
) -> None:
    async with linked(in_flight=10) as it:
        it.broker.keeps_sessions = keeps
        it.broker.is_mute = True
        it.upstream.offer(messages(20, qos=qos))
        await it.settle()
        it.broker.release(4)
        await it.settle()
        before = len(it.heard.tokens)
        assert before == 4
        it.broker.messages.clear()
        it.broker.is_mute = False
        it.broker.kill()
        await trio.sleep(5)
        assert it.upstream.is_live
        assert it.broker.topics == topics(16, start=4)
        assert it.heard.tokens == list(range(20))
        assert {publish.dup for publish in it.broker.messages[:10]} == {keeps}
        assert {publish.dup for publish in it.broker.messages[10:]} == {False}


async def test_X7_qos_2_goes_on_at_pubrel_when_the_session_was_kept(autojump_clock: MockClock) -> None:
    async with linked() as it:
        it.broker.is_mute = True
        it.upstream.offer(messages(3, qos=2))
        await it.settle()
        it.broker.line.theirs.kernel_bytes = 0  # PUBREL is lost on the way
        it.broker.release()
        await it.settle()
        assert it.upstream._session.released == {1, 2, 3}
        it.broker.kill()
        await trio.sleep(3)
        assert it.broker.topics == topics(3)  # none was published again
        assert it.heard.tokens == [0, 1, 2]


@pytest.mark.parametrize("qos", [0, 1])
async def test_a_message_that_is_too_large_for_the_broker_is_refused(autojump_clock: MockClock, qos: int) -> None:
    def lower(broker: FakeBroker) -> None:
        broker.limits = ServerLimits(packet_size=30)

    async with linked(prepare=lower) as it:
        small, large = messages(1, qos=qos), messages(1, qos=qos, start=1, payload=bytes(100))
        it.upstream.offer([*small, *large, *messages(1, qos=qos, start=2)])
        await it.settle()
        assert it.broker.topics == ["t/0", "t/2"]
        assert [(token, message.topic, reason) for token, message, reason in it.heard.refused] == [
            (1 if qos else None, "t/1", ReasonCode.PACKET_TOO_LARGE)
        ]
        it.upstream.check_books()


async def test_lower_limits_at_a_reconnect_end_what_no_longer_fits(autojump_clock: MockClock) -> None:
    async with linked() as it:
        it.broker.is_mute = True
        it.upstream.offer([*messages(1), *messages(1, start=1, payload=bytes(100))])
        await it.settle()
        it.broker.is_mute = False
        it.broker.limits = ServerLimits(packet_size=30)
        it.broker.kill()
        await trio.sleep(5)
        assert it.heard.tokens == [0]
        assert [(token, reason) for token, _, reason in it.heard.refused] == [(1, ReasonCode.PACKET_TOO_LARGE)]


async def test_h3_a_broker_without_qos_and_retain_gets_neither(autojump_clock: MockClock) -> None:
    def lower(broker: FakeBroker) -> None:
        broker.extra = Properties(maximum_qos=0, retain_available=0)

    async with linked(prepare=lower) as it:
        it.upstream.offer(messages(3))
        await it.settle()
        assert [publish.qos for publish in it.broker.messages] == [0, 0, 0]
        assert it.heard.tokens == [0, 1, 2]


async def test_h5_a_broker_that_never_acknowledges_is_dialled_anew(autojump_clock: MockClock) -> None:
    async with linked(ack_timeout=30.0) as it:
        it.broker.is_mute = True
        await trio.sleep(3)
        it.upstream.offer(messages(1))
        await trio.sleep(32)
        assert it.log.times("upstream lost") == [33]
        assert [at for at, _ in it.broker.dials] == [0, 33.5]  # half of the first backoff
        assert it.upstream.status().last_error == "the broker acknowledged nothing for 30 s"


async def test_progress_of_acknowledgements_keeps_the_link(autojump_clock: MockClock) -> None:
    async with linked(ack_timeout=30.0, keep_alive=0.0) as it:
        it.broker.is_mute = True
        it.upstream.offer(messages(5))
        for _ in range(5):
            await trio.sleep(29)
            it.broker.release(1)
        await trio.sleep(100)
        assert len(it.broker.dials) == 1


async def test_X3_a_broker_that_does_not_answer_pings_is_silent(autojump_clock: MockClock) -> None:
    async with linked(keep_alive=60.0) as it:
        it.broker.is_deaf = True
        it.upstream.subscribe("x", 0)  # wakes the reader there once more; from then on it is deaf
        await trio.sleep(76)
        assert it.log.times("upstream lost") == [45 + 30]
        assert it.upstream.status().last_error == "the broker did not answer a ping within 30 s"


async def test_X4_a_broker_that_takes_no_bytes_is_silent(autojump_clock: MockClock) -> None:
    async with linked(ack_timeout=20.0, keep_alive=0.0) as it:
        it.broker.is_deaf = True
        it.upstream.offer(messages(200, qos=0, payload=bytes(4096)))
        await trio.sleep(20.25)
        assert it.log.times("upstream lost") == [20]
        assert str(it.upstream.status().last_error).endswith("took no byte for 20 s")


async def test_a_stalled_stream_holds_back_what_waits(autojump_clock: MockClock) -> None:
    async with linked(keep_alive=0.0) as it:
        it.broker.is_deaf = True
        it.upstream.offer(messages(1, qos=0))
        await it.settle()
        for start in range(0, 1000, 10):
            it.upstream.offer(messages(10, qos=0, start=start, payload=bytes(4096)))
            await it.settle()
        assert it.broker.line.theirs.unsent < 2 * 256 * 1024 + 10_000
        assert it.upstream.queued > 500


async def test_an_open_breaker_takes_and_dials_nothing_and_one_trial_closes_it(autojump_clock: MockClock) -> None:
    def refuse(broker: FakeBroker) -> None:
        broker.unreachable = "connection refused"

    async with linked(breaker_failures=3, chance=1.0, prepare=refuse) as it:
        assert it.upstream.offer(messages(1)) == 1
        await trio.sleep(4)  # dialled at 0, 1 and 3
        assert it.upstream.offer(messages(1)) == 0
        assert it.upstream.status().breaker.reason == "connection refused"
        assert it.upstream.status().next_try == 33.0
        await trio.sleep(30)
        assert [at for at, _ in it.broker.dials] == [0, 1, 3, 33]
        assert it.upstream.status().next_try == 33.0 + 60
        it.broker.unreachable = None
        with trio.fail_after(100):
            await it.upstream.wait_room()
        assert trio.current_time() == 93.0
        await it.settle()
        assert it.heard.tokens == [0]
        assert it.upstream.status().breaker.state is BreakerState.CLOSED
        assert it.upstream.status().last_error is None


async def test_a_trial_that_hangs_has_failed(autojump_clock: MockClock) -> None:
    def refuse(broker: FakeBroker) -> None:
        broker.unreachable = "connection refused"

    async with linked(breaker_failures=1, connect_timeout=1000.0, prepare=refuse) as it:
        it.broker.unreachable = None
        it.broker.hangs = True
        await trio.sleep(30 + 59)
        assert it.upstream.status().breaker.state is BreakerState.HALF_OPEN
        await trio.sleep(2)
        assert it.upstream.status().breaker.state is BreakerState.OPEN


async def test_X11_dialling_has_a_deadline(autojump_clock: MockClock) -> None:
    def hang(broker: FakeBroker) -> None:
        broker.hangs = True

    async with linked(prepare=hang) as it:
        await trio.sleep(9.9)
        assert it.upstream.status().last_error is None
        await trio.sleep(0.2)
        assert it.upstream.status().last_error == "the broker did not answer in time"


async def test_h6_another_server_is_named_but_not_followed(autojump_clock: MockClock) -> None:
    async with linked() as it:
        it.broker.end(ReasonCode.USE_ANOTHER_SERVER, Properties(server_reference="evil:1883"))
        await it.settle()
        status = it.upstream.status()
        assert status.last_error == (
            "the broker ended the connection: use another server (0x9C), it names another server: 'evil:1883'"
        )
        assert status.next_try == 120
        await trio.sleep(121)
        assert {options["url"] for _, options in it.broker.dials} == {"mqtt://broker:1883"}


async def test_h1_a_broker_that_breaks_the_protocol_is_left_and_told_why(autojump_clock: MockClock) -> None:
    async with linked() as it:
        it.broker.write(b"\xf0\xff\xff\xff\xff")
        await it.settle()
        assert not it.upstream.is_live
        assert str(it.upstream.status().last_error).startswith("the broker broke the protocol: ")
        assert [end.reason.is_failure for end in it.broker.ends] == [True]


async def test_a_link_that_did_not_last_does_not_reset_the_backoff(autojump_clock: MockClock) -> None:
    async with linked(chance=1.0, breaker_failures=100, keep_alive=0.0) as it:
        for lasting in (0.5, 0.5, 0.5, 31, 0.5):
            await trio.sleep(lasting)
            it.broker.kill()
            await it.settle()
            due = it.upstream.status().next_try
            assert due is not None
            await trio.sleep(due - trio.current_time())
            await it.settle()
        # Waits of 1, 2, 4, then the first again after the link that lasted, then 2.
        assert [at for at, _ in it.broker.dials] == [0, 1.5, 4, 8.5, 40.5, 43]


VERSIONS = pytest.mark.parametrize("version", ["5", "3.1.1"])


@VERSIONS
async def test_a_fresh_process_goes_on_with_the_session_that_it_finds(autojump_clock: MockClock, version: str) -> None:
    async with linked(version=version) as it:
        broker = it.broker
        (session,) = broker.sessions.values()
        session.incoming_qos2 |= {1, 2}  # PUBREL never came
        await it.stop()

        def same_session(other: FakeBroker) -> None:
            other.sessions = broker.sessions

        async with linked(version=version, prepare=same_session) as anew:
            assert [connect.clean_start for connect in anew.broker.connects] == [False]
            anew.upstream.offer(messages(3, qos=2))
            await anew.settle()
            assert anew.broker.topics == topics(3)  # though the broker holds messages of these identifiers
            assert anew.heard.tokens == [0, 1, 2]
            doubtful = anew.upstream._session.doubtful
            assert doubtful is not None
            assert not any(doubtful[1:4])
            assert all(doubtful[4:])


@VERSIONS
async def test_another_client_identifier_makes_the_broker_forget_what_it_has(
    autojump_clock: MockClock, version: str
) -> None:
    async with linked(version=version) as it:
        it.broker.sessions["other"] = SessionState()
        changed = settings(version=version, client_id="other")
        it.upstream.change(changed, account_of(changed, "gw"))
        await trio.sleep(3)
        assert [connect.clean_start for connect in it.broker.connects[1:3]] == [False, True]
        assert it.upstream.is_live


async def test_cancelled_it_says_goodbye(autojump_clock: MockClock) -> None:
    async with linked() as it:
        await it.stop()
        assert [end.reason for end in it.broker.ends] == [ReasonCode.SUCCESS]
        assert not it.upstream.is_live


async def test_drain_waits_for_the_last_acknowledgement_or_the_deadline(autojump_clock: MockClock) -> None:
    async with linked() as it:
        it.broker.is_mute = True
        it.upstream.offer(messages(2))
        assert not await it.upstream.drain(trio.current_time() + 3)
        assert trio.current_time() == 3.0
        async with trio.open_nursery() as nursery:

            async def release() -> None:
                await trio.sleep(1)
                it.broker.release()

            nursery.start_soon(release)
            assert await it.upstream.drain(trio.current_time() + 3)
        assert trio.current_time() == 4.0


async def test_drop_oldest_makes_room_even_while_the_breaker_is_open(autojump_clock: MockClock) -> None:
    def refuse(broker: FakeBroker) -> None:
        broker.unreachable = "connection refused"

    async with linked(queue_messages=3, breaker_failures=1, prepare=refuse) as it:
        assert it.upstream.offer(messages(1)) == 0
        assert it.upstream.force_oldest(messages(3)) == []
        assert it.upstream.force_oldest(messages(2, start=3)) == [0, 1]
        assert it.upstream.books.dropped == {"drop_oldest": 2}
        it.upstream.count_dropped(4, "drop_newest")
        it.upstream.check_books()
        it.broker.unreachable = None
        await trio.sleep(31)
        assert it.broker.topics == ["t/2", "t/3", "t/4"]


async def test_metrics_get_a_snapshot_whose_books_balance(autojump_clock: MockClock) -> None:
    async with linked(insecure_skip_verify=True) as it:
        it.upstream.offer(messages(5))
        await it.settle()
        snapshot = it.upstream.snapshot()
        assert snapshot.books() == (5, 5)
        assert snapshot.insecure
        assert snapshot.connected
        assert it.upstream.status().insecure


async def test_connect_says_what_the_settings_say(autojump_clock: MockClock) -> None:
    async with linked(username="u", password="secret", keep_alive=30.0, session_expiry=60.0) as it:
        (connect,) = it.broker.connects
        assert (connect.client_id, connect.username, connect.password) == ("gw-a", "u", b"secret")
        assert (connect.keep_alive, connect.clean_start) == (30, False)
        assert connect.properties.session_expiry_interval == 60
        assert "secret" not in repr(it.upstream)
        assert "secret" not in str(it.upstream.status())


async def test_each_change_of_state_is_logged_once(autojump_clock: MockClock) -> None:
    async with linked(breaker_failures=3, chance=1.0, insecure_skip_verify=True) as it:
        it.upstream.offer(messages(10))
        it.broker.unreachable = "connection refused"
        await trio.sleep(1)
        it.broker.kill()
        await trio.sleep(20)
        it.broker.unreachable = None
        await trio.sleep(100)
        assert it.log.names() == [
            "upstream connected",
            "upstream is insecure: its certificate is not checked",
            "upstream lost",  # reset by peer
            "upstream lost",  # connection refused, twice
            "breaker open",
            "upstream connected",
            "upstream is insecure: its certificate is not checked",
            "breaker closed",
        ]
