"""A broker whose certificate is not, or is no longer, what it should be gets nothing, and is back after a reload."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import trio
import trustme
from attrs import evolve

from mqttproxy.config.model import Seconds, UpstreamSettings
from mqttproxy.upstream.pool import Pool
from tests.upstream.broker import FakeBroker, Heard, messages, settings
from tests.upstream.real_broker import real_broker
from tests.waiting import PATIENCE

EXPIRED = datetime(2020, 1, 1, tzinfo=UTC)
QUICK: Any = {"backoff_first": Seconds(0.02), "backoff_ceiling": Seconds(0.05), "breaker_failures": 10_000}


def pem(folder: Path, name: str, certificate: trustme.LeafCert) -> Path:
    path = folder / f"{name}.pem"
    certificate.private_key_and_cert_chain_pem.write_to_path(str(path))
    return path


def ca_file(folder: Path, ca: trustme.CA) -> Path:
    path = folder / "ca.pem"
    ca.cert_pem.write_to_path(str(path))
    return path


@asynccontextmanager
async def pooled(wanted: UpstreamSettings) -> AsyncIterator[tuple[Pool, Heard]]:
    heard = Heard()
    pool = Pool(proxy_id="gw", callbacks=heard.callbacks())
    pool.apply([wanted])
    async with trio.open_nursery() as nursery:
        await nursery.start(pool.run)
        with trio.fail_after(PATIENCE):
            yield pool, heard
        nursery.cancel_scope.cancel()


async def until(fact: Any) -> None:
    while not fact():  # noqa: ASYNC110  # another task's sockets: nothing tells us
        await trio.sleep(0.01)


async def refused_again_and_again(pool: Pool, broker: FakeBroker) -> str:
    """Wait for three tries and return what is told; the broker was never shown a byte of MQTT."""
    upstream = pool["a"]
    before = upstream.books.failures
    await until(lambda: upstream.books.failures >= before + 3)
    assert broker.packets == []
    return str(upstream.status().last_error)


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("expired", "has expired"),
        ("another name", "mismatch"),
        ("another CA", "unable to get local issuer"),
    ],
)
async def test_X10_a_bad_certificate_is_never_accepted_however_often_it_is_tried(
    tmp_path: Path, fault: str, words: str
) -> None:
    ca = trustme.CA()
    issuer = trustme.CA() if fault == "another CA" else ca
    name = "other.example" if fault == "another name" else "127.0.0.1"
    bad = pem(tmp_path, "bad", issuer.issue_cert(name, not_after=EXPIRED if fault == "expired" else None))
    async with real_broker(bad) as (broker, port):
        url = f"mqtts://127.0.0.1:{port}"
        async with pooled(settings(url=url, ca=ca_file(tmp_path, ca), **QUICK)) as (pool, heard):
            pool["a"].offer(messages(2))
            assert words in await refused_again_and_again(pool, broker)
            assert pool["a"].books.connects == 0
            # A reload leads around it no more than trying again.
            pool.apply([evolve(pool["a"].settings, username="u")])
            assert words in await refused_again_and_again(pool, broker)
            assert heard.tokens == []


async def test_X10_after_a_rotation_the_broker_is_refused_until_the_new_ca_is_there(
    tmp_path: Path,
) -> None:
    old, new = trustme.CA(), trustme.CA()
    chosen = ca_file(tmp_path, old)
    async with (
        real_broker(pem(tmp_path, "old", old.issue_cert("127.0.0.1"))) as (before, port),
        real_broker(pem(tmp_path, "new", new.issue_cert("127.0.0.1"))) as (after, new_port),
    ):
        wanted = settings(url=f"mqtts://127.0.0.1:{port}", ca=chosen, **QUICK)
        async with pooled(wanted) as (pool, heard):
            await until(lambda: pool["a"].is_live)
            pool.apply([evolve(wanted, url=f"mqtts://127.0.0.1:{new_port}")])
            pool["a"].offer(messages(2))
            assert "certificate" in await refused_again_and_again(pool, after)
            assert before.packets
            ca_file(tmp_path, new)  # the same path: read again at each try
            await until(lambda: heard.tokens == [0, 1])
            assert pool["a"].is_live
