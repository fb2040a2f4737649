"""Looking a broker's name up: off the hot path, anew at each try, and never longer than `connect_timeout`."""

import socket
from collections.abc import Callable
from typing import Any, Final

import pytest
import trio
import trio.abc
from trio.testing import MockClock

from mqttproxy.config.model import Seconds
from mqttproxy.transport.dial import dial
from mqttproxy.upstream.supervisor import Upstream
from tests.upstream.broker import Heard, linked, messages, settings
from tests.upstream.real_broker import real_broker
from tests.waiting import PATIENCE

NAME: Final = "broker.example"
Answer = Callable[[], list[str]]


class Names(trio.abc.HostnameResolver):
    """A name server of our own: each look-up asks `answer` for addresses."""

    def __init__(self) -> None:
        self.answer: Answer = list
        self.hangs = False
        self.asked: list[float] = []

    async def getaddrinfo(self, host: Any, port: Any, *_: Any, **__: Any) -> Any:
        self.asked.append(trio.current_time())
        await trio.lowlevel.checkpoint()
        if self.hangs:
            await trio.sleep_forever()
        return [_info(address, port) for address in self.answer()]

    async def getnameinfo(self, *_: Any) -> Any:
        raise NotImplementedError("the proxy asks for addresses only")


def _info(address: str, port: int) -> Any:
    if ":" in address:
        return socket.AF_INET6, socket.SOCK_STREAM, 6, "", (address, port, 0, 0)
    return socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)


def failing(code: int) -> Answer:
    def answer() -> list[str]:
        raise socket.gaierror(code, "Name or service not known")

    return answer


def installed(*addresses: str) -> Names:
    """Answer the look-ups of this run of trio with these addresses."""
    names = Names()
    names.answer = lambda: list(addresses)
    trio.socket.set_custom_hostname_resolver(names)
    return names


async def upstream_at(nursery: trio.Nursery, port: int, **changes: Any) -> tuple[Upstream, Heard]:
    heard = Heard()
    quick: Any = {"backoff_first": Seconds(0.02), "backoff_ceiling": Seconds(0.05), "breaker_failures": 10_000}
    wanted = settings(url=f"mqtt://{NAME}:{port}", **{**quick, **changes})
    upstream = Upstream(wanted, proxy_id="gw", callbacks=heard.callbacks())
    nursery.start_soon(upstream.run)
    return upstream, heard


async def until(fact: Callable[[], bool]) -> None:
    while not fact():  # noqa: ASYNC110  # another task's sockets: nothing tells us
        await trio.sleep(0.01)


@pytest.mark.parametrize("code", [socket.EAI_NONAME, socket.EAI_AGAIN, socket.EAI_FAIL])
async def test_X11_a_name_that_is_not_known_is_looked_up_again_and_all_is_carried_when_it_is(code: int) -> None:
    names = installed()
    names.answer = failing(code)
    async with real_broker() as (_, port), trio.open_nursery() as nursery:
        with trio.fail_after(PATIENCE):
            upstream, heard = await upstream_at(nursery, port)
            upstream.offer(messages(3))
            await until(lambda: upstream.books.failures >= 3)
            assert str(upstream.status().last_error).endswith("name or service not known")
            names.answer = lambda: ["127.0.0.1"]
            await until(lambda: heard.tokens == [0, 1, 2])
        nursery.cancel_scope.cancel()


async def test_X11_a_broker_that_moved_is_found_because_each_try_looks_its_name_up() -> None:
    names = installed("127.0.0.1")
    async with (
        real_broker() as (first, port),
        real_broker(host="127.0.0.2", port=port) as (second, _),
        trio.open_nursery() as nursery,
    ):
        with trio.fail_after(PATIENCE):
            upstream, heard = await upstream_at(nursery, port)
            await until(lambda: upstream.is_live)
            names.answer = lambda: ["127.0.0.2"]
            first.kill()
            await until(lambda: len(second.connects) == 1)
            upstream.offer(messages(2))
            await until(lambda: heard.tokens == [0, 1])
            assert (first.topics, second.topics) == ([], ["t/0", "t/1"])
            assert len(names.asked) == 2
        nursery.cancel_scope.cancel()


async def test_X11_an_address_that_does_not_work_is_passed_over() -> None:
    installed("2001:db8::1", "127.0.0.1")  # as where IPv6 is announced and leads nowhere
    async with real_broker() as (_, port), trio.open_nursery() as nursery:
        with trio.fail_after(PATIENCE):
            upstream, heard = await upstream_at(nursery, port)
            upstream.offer(messages(1))
            await until(lambda: heard.tokens == [0])
            assert upstream.books.failures == 0
        nursery.cancel_scope.cancel()


async def test_X11_a_look_up_without_an_answer_ends_with_the_deadline_and_delays_nobody_else(
    autojump_clock: MockClock,
) -> None:
    names = installed()
    names.hangs = True
    heard = Heard()
    async with linked(name="b") as other, trio.open_nursery() as nursery:
        upstream = Upstream(
            settings(url=f"mqtt://{NAME}", connect_timeout=Seconds(10.0)),
            proxy_id="gw",
            callbacks=heard.callbacks(),
            dial=dial,
            chance=lambda: 0.5,
        )
        nursery.start_soon(upstream.run)
        await trio.sleep(5)
        other.upstream.offer(messages(1))
        await other.settle()
        assert other.heard.tokens == [0]
        await trio.sleep(5.1)
        assert upstream.status().last_error == "the broker did not answer in time"
        await trio.sleep(60)
        assert names.asked[:3] == [0.0, 10.5, 21.5]
        nursery.cancel_scope.cancel()
