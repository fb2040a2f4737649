"""mqttproxy/transport/tcp.py on real loopback sockets."""

import socket
from collections.abc import AsyncIterator, Iterator

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from mqttproxy.transport.stream import ByteStream, Peer, TransportError
from mqttproxy.transport.tcp import TcpStream

pytestmark = pytest.mark.wire("tcp")

ONE_MEGABYTE = bytes(1024 * 1024)
MORE_THAN_THE_KERNEL_TAKES = bytes(16 * 1024 * 1024)


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield sock


@pytest.fixture
def device(listener: socket.socket) -> Iterator[socket.socket]:
    with socket.create_connection(listener.getsockname()) as sock:
        yield sock


@pytest.fixture
async def ours(listener: socket.socket, device: socket.socket) -> AsyncIterator[TcpStream]:
    sock, (host, port) = listener.accept()
    stream = TcpStream(sock, Peer(host, port), write_timeout=30.0)
    yield stream
    stream.abort()


async def read_all(sock: socket.socket, count: int) -> int:
    """Read from a socket of the test until `count` bytes or the end; returns how many."""
    sock.setblocking(False)
    got = 0
    while got < count:
        await trio.lowlevel.wait_readable(sock)
        data = sock.recv(1024 * 1024)
        got += len(data)
        if not data:
            break
    return got


async def test_bytes_arrive_as_they_were_sent(device: socket.socket, ours: ByteStream) -> None:
    device.sendall(b"hello")
    assert bytes(await ours.receive()) == b"hello"
    ours.send_nowait(b"welcome")
    assert ours.unsent == 0
    assert device.recv(100) == b"welcome"


async def test_one_receive_takes_all_that_is_there_up_to_64_kib(device: socket.socket, ours: ByteStream) -> None:
    device.sendall(bytes(60_000))
    device.sendall(bytes(60_000))
    assert len(await ours.receive()) == 65_536


async def test_fin_reads_as_the_end_and_sending_still_works(device: socket.socket, ours: ByteStream) -> None:
    device.sendall(b"last words")
    device.shutdown(socket.SHUT_WR)
    assert bytes(await ours.receive()) == b"last words"
    assert await ours.receive() == b""
    ours.send_nowait(b"answer")
    assert device.recv(100) == b"answer"


async def test_E6_a_reset_reads_as_transport_error_in_words(device: socket.socket, ours: ByteStream) -> None:
    reset(device)
    with pytest.raises(TransportError, match=r"^127\.0\.0\.1:\d+: connection reset by peer$"):
        await ours.receive()


async def test_what_came_before_a_broken_send_is_still_received(device: socket.socket, ours: ByteStream) -> None:
    device.sendall(b"DISCONNECT")
    reset(device)
    ours.send_nowait(b"acknowledgement")
    ours.send_nowait(b"another")
    assert ours.unsent == 0
    assert bytes(await ours.receive()) == b"DISCONNECT"
    with pytest.raises(TransportError):
        await ours.receive()


async def test_what_the_kernel_does_not_take_waits_and_is_written_by_run(
    device: socket.socket, ours: ByteStream, nursery: trio.Nursery
) -> None:
    nursery.start_soon(ours.run)
    await trio.testing.wait_all_tasks_blocked()
    ours.send_nowait(MORE_THAN_THE_KERNEL_TAKES)
    unsent = ours.unsent
    assert unsent > 0
    ours.send_nowait(ONE_MEGABYTE)
    assert ours.unsent == unsent + len(ONE_MEGABYTE)
    assert await read_all(device, 17 * 1024 * 1024) == 17 * 1024 * 1024
    await ours.wait_drained()
    assert ours.unsent == 0


async def test_a_writer_is_spawned_only_when_something_is_unsent(device: socket.socket, ours: ByteStream) -> None:
    async with trio.open_nursery() as nursery:
        ours.flush_with(nursery.start_soon)
        ours.send_nowait(b"small")
        assert not nursery.child_tasks
        ours.send_nowait(MORE_THAN_THE_KERNEL_TAKES)
        assert len(nursery.child_tasks) == 1
        ours.send_nowait(b"more")
        assert len(nursery.child_tasks) == 1
        assert await read_all(device, 5 + 16 * 1024 * 1024 + 4) == 5 + 16 * 1024 * 1024 + 4
    assert ours.unsent == 0


async def test_a_spawned_writer_that_is_cancelled_is_not_started_anew(device: socket.socket, ours: ByteStream) -> None:
    async with trio.open_nursery() as nursery:
        ours.flush_with(nursery.start_soon)
        ours.send_nowait(MORE_THAN_THE_KERNEL_TAKES)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    ours.send_nowait(b"the nursery is closed, and nobody minds")


async def test_wait_drained_writes_by_itself_and_stops_at_the_bound(device: socket.socket, ours: ByteStream) -> None:
    ours.send_nowait(MORE_THAN_THE_KERNEL_TAKES)
    with trio.move_on_after(0.01) as scope:
        await ours.wait_drained(below=1000)
    assert scope.cancelled_caught
    async with trio.open_nursery() as nursery:
        nursery.start_soon(read_all, device, 16 * 1024 * 1024)
        await ours.wait_drained(below=1000)
        assert ours.unsent <= 1000
        await ours.wait_drained()


async def test_run_takes_over_what_a_cancelled_waiter_left(
    device: socket.socket, ours: ByteStream, nursery: trio.Nursery
) -> None:
    nursery.start_soon(ours.run)
    await trio.testing.wait_all_tasks_blocked()
    ours.send_nowait(MORE_THAN_THE_KERNEL_TAKES)
    with trio.move_on_after(0.01):
        await ours.wait_drained()
    assert await read_all(device, 16 * 1024 * 1024) == 16 * 1024 * 1024


async def test_E4_a_peer_that_takes_no_byte_for_the_write_timeout_is_cut(
    device: socket.socket, ours: TcpStream, autojump_clock: MockClock
) -> None:
    fill(ours)
    with pytest.raises(TransportError, match=r"took no byte for 30 s$"):
        await ours.run()
    assert trio.current_time() == 30.0
    assert ours.unsent == 0
    with pytest.raises(TransportError, match="took no byte"):
        await ours.receive()


async def test_E4_the_kernel_gives_up_a_peer_that_vanished_after_the_write_timeout(ours: TcpStream) -> None:
    assert ours._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 30_000


async def test_a_spawned_writer_tells_the_stuck_peer_through_receive(
    device: socket.socket, ours: TcpStream, autojump_clock: MockClock
) -> None:
    async with trio.open_nursery() as nursery:
        ours.flush_with(nursery.start_soon)
        fill(ours)
        with pytest.raises(TransportError, match=r"took no byte for 30 s$"):
            await ours.receive()
    assert trio.current_time() == 30.0


async def test_a_slow_peer_is_not_taken_for_a_stuck_one(
    device: socket.socket, ours: TcpStream, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    ours.send_nowait(MORE_THAN_THE_KERNEL_TAKES)
    unsent = ours.unsent
    nursery.start_soon(ours.run)
    for _ in range(3):
        await trio.sleep(25.0)
        assert device.recv(300_000)
    assert ours.unsent == unsent  # the kernel had no third of its buffer free for 75 s
    ours.abort()


async def test_abort_resets_and_ends_our_own_tasks_quietly(device: socket.socket, ours: ByteStream) -> None:
    received = []

    async def read() -> None:
        received.append(await ours.receive())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        nursery.start_soon(ours.run)
        await trio.testing.wait_all_tasks_blocked()
        ours.abort()
    assert received == [b""]
    with pytest.raises(ConnectionResetError):
        device.recv(1)
    ours.send_nowait(b"into the void")
    ours.abort()
    await ours.aclose()


async def test_abort_while_writing_ends_run_quietly(device: socket.socket, ours: ByteStream) -> None:
    ours.send_nowait(MORE_THAN_THE_KERNEL_TAKES)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ours.run)
        await trio.testing.wait_all_tasks_blocked()
        ours.abort()
    assert ours.unsent == 0


async def test_run_raises_what_send_nowait_met(device: socket.socket, ours: ByteStream) -> None:
    reset(device)
    ours.send_nowait(b"x")
    ours.send_nowait(b"x")
    with pytest.raises(TransportError):
        await ours.run()


async def test_aclose_writes_the_rest_and_the_peer_reads_all_of_it(device: socket.socket, ours: ByteStream) -> None:
    ours.send_nowait(MORE_THAN_THE_KERNEL_TAKES)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ours.aclose)
        assert await read_all(device, 17 * 1024 * 1024) == 16 * 1024 * 1024
        device.close()


async def test_aclose_with_unread_bytes_does_not_reset_before_the_peer_has_read_the_answer(
    device: socket.socket, ours: ByteStream
) -> None:
    device.sendall(ONE_MEGABYTE[:100_000])
    ours.send_nowait(b"DISCONNECT")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ours.aclose)
        await trio.testing.wait_all_tasks_blocked()
        assert device.recv(100) == b"DISCONNECT"
        assert device.recv(100) == b""
        device.close()


async def test_aclose_waits_two_seconds_at_most_even_when_cancelled(
    device: socket.socket, ours: TcpStream, autojump_clock: MockClock
) -> None:
    fill(ours)
    with trio.CancelScope() as scope:
        scope.cancel()
        await ours.aclose()
    assert trio.current_time() == 2.0


async def test_aclose_after_the_peer_hung_up_takes_no_time(
    device: socket.socket, ours: TcpStream, autojump_clock: MockClock
) -> None:
    device.close()
    assert await ours.receive() == b""
    await ours.aclose()
    assert trio.current_time() == 0.0


async def test_aclose_ends_a_receive_of_another_task(device: socket.socket, ours: ByteStream) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ours.receive)
        await trio.testing.wait_all_tasks_blocked()
        await ours.aclose()


def reset(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    sock.close()


def fill(stream: TcpStream) -> None:
    """Send until the kernel takes nothing more, and a little on top."""
    stream._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65_536)
    while not stream.unsent:
        stream.send_nowait(ONE_MEGABYTE)
    while True:
        try:
            stream._socket.send(bytes(10_000))
        except BlockingIOError:
            return
