import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from mqttproxy.transport.poller import HANGUPS_AT_ONCE, Poller, current_poller, run_poller
from mqttproxy.transport.stream import RECEIVE_BYTES, Peer, Take, TransportError
from mqttproxy.transport.tcp import TcpStream
from tests.waiting import PATIENCE


@asynccontextmanager
async def polled() -> AsyncIterator[tuple[Poller, trio.Nursery, Callable[[], tuple[socket.socket, TcpStream]]]]:
    """Run a poller; gives a function that makes a connection: the peer's socket and our stream."""
    theirs: list[socket.socket] = []

    def connect() -> tuple[socket.socket, TcpStream]:
        peer, ours = socket.socketpair()
        theirs.append(peer)
        return peer, TcpStream(ours, Peer("127.0.0.1", 1))

    async with trio.open_nursery() as nursery:
        yield await nursery.start(run_poller), nursery, connect
        nursery.cancel_scope.cancel()
    for peer in theirs:
        peer.close()


class Taker:
    """Keeps what it is given, until it was given `enough`."""

    def __init__(self, enough: int = 1000) -> None:
        self.got = b""
        self.reads = 0
        self.enough = enough
        self.result: object = None

    def __call__(self, data: bytes | memoryview, _now: float = 0.0) -> bool:
        self.got += bytes(data)
        self.reads += 1
        return len(self.got) < self.enough

    async def run(self, stream: TcpStream) -> None:
        try:
            self.result = await stream.receive_each(self)
        except Exception as error:  # noqa: BLE001 # the test looks at it
            self.result = error


async def until(condition: Callable[[], bool]) -> None:
    with trio.fail_after(PATIENCE):
        while not condition():  # what happens in the poller's task sets no event
            await trio.lowlevel.checkpoint()


async def test_everything_that_arrives_is_handed_over_until_the_peer_is_gone() -> None:
    async with polled() as (_, nursery, connect):
        (peer, stream), taker = connect(), Taker()
        nursery.start_soon(taker.run, stream)
        await wait_all_tasks_blocked()
        for part in (b"one", b"two"):
            peer.send(part)
            await until(lambda: taker.got.endswith(part))  # noqa: B023 # called at once
        peer.close()
        await until(lambda: taker.result is not None)
        assert (taker.got, taker.result) == (b"onetwo", False)
        await stream.aclose()


async def test_returning_false_ends_it_and_nothing_that_comes_later_is_lost() -> None:
    async with polled() as (_, nursery, connect):
        (peer, stream), taker = connect(), Taker(enough=3)
        nursery.start_soon(taker.run, stream)
        peer.send(b"abc")
        await until(lambda: taker.result is True)
        peer.send(b"later")
        again = Taker(enough=5)
        nursery.start_soon(again.run, stream)
        await until(lambda: again.result is True)
        assert again.got == b"later"
        stream.abort()


async def test_an_error_of_the_taker_is_raised_in_its_own_task_and_the_others_go_on() -> None:
    async with polled() as (_, nursery, connect):
        (peer, stream), (other_peer, other), taker = connect(), connect(), Taker()

        def broken(_data: bytes | memoryview, _now: float) -> bool:
            raise ZeroDivisionError

        async def expect() -> None:
            with pytest.raises(ZeroDivisionError):
                await stream.receive_each(broken)
            taker.result = "told"

        nursery.start_soon(expect)
        witness = Taker()
        nursery.start_soon(witness.run, other)
        await wait_all_tasks_blocked()
        peer.send(b"x")
        other_peer.send(b"y")
        await until(lambda: taker.result == "told" and witness.got == b"y")
        stream.abort()
        other.abort()


async def test_what_is_put_off_to_the_end_of_the_turn_is_called_once_all_was_handed_over() -> None:
    async with polled() as (poller, nursery, connect):
        connections = [connect() for _ in range(5)]
        order: list[str] = []

        def taking(name: str) -> Take:
            def take(_data: bytes | memoryview, _now: float) -> bool:
                order.append(name)
                assert poller.at_end_of_turn(lambda: order.append(f"end of {name}"))
                return True

            return take

        for number, (_, stream) in enumerate(connections):
            nursery.start_soon(stream.receive_each, taking(str(number)))
        await wait_all_tasks_blocked()
        for peer, _ in connections:
            peer.send(b"x")
        await until(lambda: len(order) == 10)
        assert sorted(order[:5]) == ["0", "1", "2", "3", "4"]
        assert [name.removeprefix("end of ") for name in order[5:]] == order[:5]
        for _, stream in connections:
            stream.abort()


async def test_a_turn_ends_though_there_is_always_more_to_read_and_to_do_at_its_end() -> None:
    async with polled() as (poller, nursery, connect):
        peer, stream = connect()
        reads, most = 0, 100_000

        def take(_data: bytes | memoryview, _now: float) -> bool:
            nonlocal reads
            reads += 1
            if reads < most:
                peer.send(b"again")
            return poller.at_end_of_turn(lambda: None)

        nursery.start_soon(stream.receive_each, take)
        await wait_all_tasks_blocked()
        peer.send(b"x")
        await until(lambda: reads > 0)
        assert reads < most
        stream.abort()


async def test_what_the_end_of_a_turn_leaves_to_do_is_done_in_the_same_turn() -> None:
    async with polled() as (poller, nursery, connect):
        peer, stream = connect()
        done: list[str] = []

        def take(_data: bytes | memoryview, _now: float) -> bool:
            return poller.at_end_of_turn(lambda: done.append(str(poller.at_end_of_turn(lambda: done.append("last")))))

        nursery.start_soon(stream.receive_each, take)
        await wait_all_tasks_blocked()
        peer.send(b"x")
        await until(lambda: bool(done))
        assert done == ["True", "last"]
        stream.abort()


async def test_without_a_turn_nothing_is_put_off() -> None:
    async with polled() as (poller, _, _):
        assert not poller.at_end_of_turn(lambda: None)


async def test_an_interrupted_watch_ends_as_if_the_taker_had_said_so() -> None:
    async with polled() as (_, nursery, connect):
        (_, stream), taker = connect(), Taker()
        nursery.start_soon(taker.run, stream)
        await wait_all_tasks_blocked()
        stream.interrupt()
        await until(lambda: taker.result is True)
        stream.interrupt()  # nobody waits: nothing happens
        stream.abort()


async def test_closing_the_stream_ends_the_watch_as_if_the_peer_were_gone() -> None:
    async with polled() as (_, nursery, connect):
        (_, stream), taker = connect(), Taker()
        nursery.start_soon(taker.run, stream)
        await wait_all_tasks_blocked()
        stream.abort()
        await until(lambda: taker.result is False)


async def test_a_cancelled_watch_leaves_the_socket_to_the_next() -> None:
    async with polled() as (_, nursery, connect):
        (peer, stream), taker = connect(), Taker()
        with trio.move_on_after(0.01) as scope:
            await stream.receive_each(taker)
        assert scope.cancelled_caught
        peer.send(b"x")
        nursery.start_soon(taker.run, stream)
        await until(lambda: taker.got == b"x")
        stream.abort()


async def test_a_broken_connection_is_told_in_words() -> None:
    async with polled() as (_, nursery, _):
        with socket.create_server(("127.0.0.1", 0)) as server:
            peer = socket.create_connection(server.getsockname())
            ours, _address = server.accept()
        stream, taker = TcpStream(ours, Peer("127.0.0.1", 1)), Taker()
        nursery.start_soon(taker.run, stream)
        await wait_all_tasks_blocked()
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        peer.close()
        await until(lambda: taker.result is not None)
        assert isinstance(taker.result, TransportError)
        assert "reset" in str(taker.result)
        stream.abort()


async def test_other_tasks_have_their_turn_while_a_peer_floods() -> None:
    async with polled() as (_, nursery, connect):
        (peer, stream), taker = connect(), Taker(enough=1 << 62)
        peer.setblocking(False)
        nursery.start_soon(taker.run, stream)
        turns = 0
        with trio.fail_after(PATIENCE):
            while taker.reads < 200:
                for _ in range(20):
                    try:
                        peer.send(bytes(1024))
                    except BlockingIOError:
                        break
                await trio.lowlevel.checkpoint()
                turns += 1
        assert turns > 1
        stream.abort()


async def test_when_very_many_hang_up_at_once_the_others_do_not_wait_for_the_end_of_all() -> None:
    async with polled() as (_, nursery, connect):
        leaving = [(*connect(), Taker()) for _ in range(10 * HANGUPS_AT_ONCE)]
        for _, stream, taker in leaving:
            nursery.start_soon(taker.run, stream)
        (peer, staying), witness = connect(), Taker()
        nursery.start_soon(witness.run, staying)
        await wait_all_tasks_blocked()
        for gone, _, _ in leaving:
            gone.close()
        peer.send(b"x")
        await until(lambda: witness.got == b"x")
        for _ in range(2):  # whoever was woken in that turn has run after it
            await trio.lowlevel.checkpoint()
        told = [taker.result for _, _, taker in leaving]
        assert told.count(None) > HANGUPS_AT_ONCE
        closed = next(stream for _, stream, taker in reversed(leaving) if taker.result is None)
        closed.abort()  # before it is told that its peer is gone
        await until(lambda: all(taker.result is False for _, _, taker in leaving))
        for stream in (staying, *(stream for _, stream, _ in leaving)):
            stream.abort()


async def test_there_is_none_once_it_has_ended() -> None:
    async with polled():
        assert current_poller() is not None
    assert current_poller() is None


@pytest.mark.parametrize("early", [True, False])
async def test_bytes_and_the_end_that_come_together_are_both_told(early: bool) -> None:
    async with polled() as (_, nursery, connect):
        (peer, stream), taker = connect(), Taker()
        if not early:
            nursery.start_soon(taker.run, stream)
            await wait_all_tasks_blocked()
        peer.send(b"last words")
        peer.close()
        if early:
            nursery.start_soon(taker.run, stream)
        await until(lambda: taker.result is not None)
        assert (taker.got, taker.result) == (b"last words", False)
        await stream.aclose()


async def test_more_than_one_read_can_take_is_all_handed_over_though_nothing_more_comes() -> None:
    async with polled() as (_, nursery, connect):
        (peer, stream), taker = connect(), Taker(enough=3 * RECEIVE_BYTES)
        peer.setblocking(False)
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16 * RECEIVE_BYTES)
        assert peer.send(bytes(3 * RECEIVE_BYTES)) == 3 * RECEIVE_BYTES
        nursery.start_soon(taker.run, stream)
        await until(lambda: taker.result is True)
        assert len(taker.got) == 3 * RECEIVE_BYTES
        stream.abort()


async def test_what_came_while_nobody_watched_is_handed_over_to_the_next() -> None:
    async with polled() as (_, nursery, connect):
        (peer, stream), first, second = connect(), Taker(enough=1), Taker(enough=1)
        nursery.start_soon(first.run, stream)
        peer.send(b"a")
        await until(lambda: first.result is True)
        peer.send(b"b")
        await trio.lowlevel.checkpoint()
        nursery.start_soon(second.run, stream)
        await until(lambda: second.result is True)
        assert (first.got, second.got) == (b"a", b"b")
        stream.abort()


class TestHangup:
    async def test_a_peer_that_hangs_up_while_nobody_receives_is_told_once_and_nothing_is_read(self) -> None:
        async with polled() as (_, nursery, connect):
            peer, stream = connect()
            told: list[bool] = []
            stream.tell_hangup(told.append)
            peer.send(b"last words")
            await wait_all_tasks_blocked(0.01)
            assert told == []
            peer.close()
            await until(lambda: bool(told))
            await wait_all_tasks_blocked(0.01)
            assert told == [True]
            taker = Taker()
            nursery.start_soon(taker.run, stream)
            await until(lambda: taker.result is not None)
            assert (taker.got, taker.result) == (b"last words", False)
            await stream.aclose()

    async def test_it_is_told_whether_there_is_anything_left_to_read(self) -> None:
        async with polled() as (_, _nursery, connect):
            peer, stream = connect()
            told: list[bool] = []
            stream.tell_hangup(told.append)
            peer.close()
            await until(lambda: bool(told))
            assert told == [False]
            await stream.aclose()

    async def test_nothing_is_told_once_it_is_not_wanted_any_more_or_the_stream_is_closed(self) -> None:
        async with polled() as (poller, _nursery, connect):
            told: list[bool] = []
            for end in (lambda stream: stream.tell_hangup(None), TcpStream.abort):
                peer, stream = connect()
                stream.tell_hangup(told.append)
                end(stream)
                peer.close()
                await wait_all_tasks_blocked(0.01)
                assert poller._to_tell == {}
                await stream.aclose()
            assert told == []


async def test_an_error_of_ours_at_the_end_of_a_turn_ends_it_as_that_error_though_others_watch() -> None:
    def fail() -> None:
        raise KeyError("a bug")

    pairs = [socket.socketpair() for _ in range(2)]
    streams = [TcpStream(ours, Peer("127.0.0.1", 1)) for _, ours in pairs]
    with pytest.RaisesGroup(KeyError):
        async with trio.open_nursery() as nursery:
            poller = await nursery.start(run_poller)
            nursery.start_soon(streams[0].receive_each, lambda *_: poller.at_end_of_turn(fail))
            nursery.start_soon(streams[1].receive_each, Taker())
            await wait_all_tasks_blocked()
            pairs[0][0].send(b"x")
    for theirs, ours in pairs:
        theirs.close()
        ours.close()
