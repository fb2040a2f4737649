"""Credentials at the door: chains for listeners, answers, audit, and who is not kicked out (BAD-INPUT D5 to D10)."""

import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import trio
from attrs import evolve
from trio.testing import MockClock

from mqttproxy.access.users import UserDatabase
from mqttproxy.downstream import greeting
from mqttproxy.downstream.rights import recheck
from mqttproxy.mqtt.packets import Connect, ProtocolVersion, Will
from mqttproxy.mqtt.reasons import ReasonCode
from mqttproxy.transport.revoked import read_revoked
from tests.access.test_by_certificate import Authority
from tests.access.users_of_tests import cheap_hashes, user, users_toml
from tests.client import Client
from tests.fakes import memory_pair
from tests.house import V5, V311, House, make_house, open_house
from tests.postgresql import PASSWORD, Server, Table

pytestmark = pytest.mark.wire("5")


@pytest.fixture(autouse=True)
def _cheap() -> Iterator[None]:
    with cheap_hashes():
        yield


@pytest.fixture
def access(tmp_path: Path) -> str:
    """Two users, and a chain that knows them; who shows no credentials may come in too, as houses are."""
    file = tmp_path / "users.toml"
    file.write_text(users_toml(user(attributes={"site": "north"}), user("bob")))
    return f'chain = ["users"]\nfailures = 3\n[[access.passwords]]\nname = "users"\nfile = "{file}"\n'


async def knock(house: House, client_id: str = "d", version: ProtocolVersion = V5, **connect: Any) -> Client:
    device = house.device(client_id, version, **connect)
    await house.settle()
    await trio.sleep(1.0)
    await house.settle()
    return device


def reason(device: Client) -> ReasonCode:
    assert device.connack is not None
    return device.connack.reason


async def test_the_right_password_comes_in_and_gives_the_attributes(access: str, autojump_clock: MockClock) -> None:
    async with open_house(access) as house:
        await house.connect(username="ada", password=b"correct horse")
        identity = house.inside().identity
        assert (identity.username, identity.attributes) == ("ada", {"site": "north"})
        assert house.metrics.authentications == {"allowed": 1}


@pytest.mark.parametrize("version", [V5, V311])
@pytest.mark.parametrize(
    ("username", "password"),
    [("ada", b"wrong"), ("nobody", b"wrong"), ("ada", None), ("nobody", None)],
)
async def test_D9_whatever_is_wrong_the_answer_is_the_same(
    version: ProtocolVersion, username: str, password: bytes | None, access: str, autojump_clock: MockClock
) -> None:
    async with open_house(access) as house:
        device = await knock(house, version=version, username=username, password=password)
        assert reason(device) is ReasonCode.BAD_USER_NAME_OR_PASSWORD
        assert device.ended_at == 0.5
        assert device.connack is not None
        assert device.connack.properties.reason_string is None
        (line,) = house.audit_lines()
        assert (line["event"], line["action"], line["username"]) == ("authentication", "denied", username)
        assert "wrong'" not in str(line)


async def test_anonymous_comes_in_only_where_it_is_written(access: str, autojump_clock: MockClock) -> None:
    async with open_house(access) as house:
        await house.connect("a")
        assert house.inside("a").identity.username is None
        house.premises.access = type(house.premises.access)()
        assert reason(await knock(house, "b")) is ReasonCode.NOT_AUTHORIZED


async def test_a_listener_may_have_a_chain_of_its_own(access: str, autojump_clock: MockClock) -> None:
    own = '[[listeners]]\nname = "plain"\nbind = "127.0.0.1:1883"\n'
    text = (
        access.replace('chain = ["users"]', "") + '[[access.chains]]\nlisteners = ["plain"]\nchain = ["users"]\n' + own
    )
    async with open_house(text) as house:
        assert reason(await knock(house)) is ReasonCode.NOT_AUTHORIZED
        await house.connect(username="bob", password=b"correct horse")


async def test_D10_who_keeps_failing_is_told_to_wait(access: str, autojump_clock: MockClock) -> None:
    async with open_house(access) as house:
        for _ in range(3):
            await knock(house, username="ada", password=b"wrong")
        device = house.device(username="ada", password=b"correct horse")
        await house.settle()
        # A second has passed with the last of them.
        for _ in range(3):
            await knock(house, username="ada", password=b"wrong")
        late = house.device("e", username="ada", password=b"correct horse")
        await house.settle()
        assert reason(late) is ReasonCode.CONNECTION_RATE_EXCEEDED
        assert reason(device) is ReasonCode.SUCCESS
        assert house.metrics.authentications["throttled"] >= 1


async def test_D5_a_device_of_another_user_keeps_its_client_identifier(access: str, autojump_clock: MockClock) -> None:
    async with open_house(access) as house:
        victim = await house.connect(username="ada", password=b"correct horse")
        thief = await knock(house, username="bob", password=b"correct horse")
        assert reason(thief) is ReasonCode.NOT_AUTHORIZED
        assert victim.ended_at is None
        await house.connect(username="ada", password=b"correct horse")
        assert victim.goodbye is ReasonCode.SESSION_TAKEN_OVER


async def test_D5_the_session_of_a_user_that_is_away_is_not_taken_up_by_another(
    access: str, autojump_clock: MockClock
) -> None:
    async with open_house(access) as house:
        ada = await house.keep(username="ada", password=b"correct horse")
        ada.subscribe("t")
        ada.cut()
        await house.settle()
        bob: dict[str, Any] = {"username": "bob", "password": b"correct horse"}
        for who in (bob, {}):
            for clean_start in (False, True):  # which would throw it away
                thief = await knock(house, clean_start=clean_start, **who)
                assert reason(thief) is ReasonCode.NOT_AUTHORIZED
                assert thief.connack is not None
                assert thief.connack.properties.reason_string is None
        assert house.session().owner == "ada"
        refused = house.premises.refused.newest(house.pipeline.refusal.wall())[0].as_document()
        assert (refused["client_id"], refused["words"]) == (
            "d",
            "the session of this client identifier is another user's",
        )
        assert {line["why"] for line in house.audit_lines()} == {refused["words"]}
        assert house.metrics.connections_refused["another_user"] == 4
        again = await house.keep(username="ada", password=b"correct horse")
        assert again.connack is not None
        assert again.connack.session_present


async def test_D5_a_session_that_is_nobodys_becomes_that_of_the_user_who_takes_it_up(
    access: str, autojump_clock: MockClock
) -> None:
    async with open_house(access) as house:
        (await house.keep()).cut()
        await house.settle()
        assert house.session().owner is None
        bob = await house.keep(username="bob", password=b"correct horse")
        assert bob.connack is not None
        assert bob.connack.session_present
        bob.cut()
        await house.settle()
        assert house.session().owner == "bob"
        assert reason(await knock(house, username="ada", password=b"correct horse")) is ReasonCode.NOT_AUTHORIZED


async def test_D5_a_session_that_has_expired_is_nobodys(access: str, autojump_clock: MockClock) -> None:
    async with open_house(access) as house:
        (await house.keep(username="ada", password=b"correct horse")).cut()
        await trio.sleep(1001)
        await house.connect(username="bob", password=b"correct horse")


async def test_D5_a_name_that_nobody_vouches_for_owns_nothing(autojump_clock: MockClock) -> None:
    async with open_house() as house:
        (await house.keep(username="ada")).cut()
        await house.settle()
        assert house.session().owner is None
        await house.keep(username="bob")


async def test_D5_who_was_let_in_before_another_user_came_is_looked_at_again(
    access: str, autojump_clock: MockClock
) -> None:
    async with open_house(access) as house:

        async def slow(arrival: Any) -> None:
            if arrival.identity.username == "bob":
                await trio.sleep(5)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(greeting, "_judge_will", slow)
            thief = house.device(username="bob", password=b"correct horse")
            await trio.sleep(1)
            victim = await house.connect(username="ada", password=b"correct horse")
            await trio.sleep(5)
            await house.settle()
        assert reason(thief) is ReasonCode.NOT_AUTHORIZED
        assert victim.ended_at is None


async def test_D11_a_list_that_comes_in_force_while_a_device_comes_in_holds_for_it(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = Authority()
    (tmp_path / "crl.pem").write_bytes(authority.revoke(7, until=datetime(2100, 1, 1, tzinfo=UTC)))
    revoked = read_revoked(tmp_path / "crl.pem")
    async with open_house() as house:

        async def come(client_id: str, serial: int) -> Client:
            house.premises.revoked = {}
            theirs, ours = memory_pair()
            ours.peer = evolve(ours.peer, der=authority.issue("d", serial=serial))
            theirs.flush_with(house.nursery.start_soon)
            house.listener.arrive(ours)
            device = Client(theirs, Connect(client_id=client_id), house.nursery)
            await trio.sleep(1)
            house.premises.revoked = {"plain": revoked}
            await trio.sleep(5)
            await house.settle()
            return device

        async def slow(_arrival: Any) -> None:
            await trio.sleep(3)

        monkeypatch.setattr(greeting, "_judge_will", slow)
        assert reason(await come("good", 8)) is ReasonCode.SUCCESS
        assert reason(await come("bad", 7)) is ReasonCode.NOT_AUTHORIZED
        assert house.metrics.connections_refused == {"certificate_refused": 1}
        (line,) = house.audit_lines()
        assert (line["client_id"], line["rule"]) == ("bad", "listeners.crl")


async def test_D5_a_wrong_password_kicks_nobody_out(access: str, autojump_clock: MockClock) -> None:
    async with open_house(access) as house:
        victim = await house.connect(username="ada", password=b"correct horse")
        await knock(house, username="ada", password=b"wrong")
        assert victim.ended_at is None


async def test_D1_a_client_identifier_that_rules_ask_for_is_a_plain_level(autojump_clock: MockClock) -> None:
    rule = '[[access.rules]]\naction = "allow"\ntopics = ["${client_id}/#"]\n'
    async with open_house(rule) as house:
        for bad in ("+", "#", "a/b", "$SYS"):
            assert reason(await knock(house, bad)) is ReasonCode.CLIENT_IDENTIFIER_NOT_VALID
        assert reason(await knock(house, "+", V311)) is ReasonCode.CLIENT_IDENTIFIER_NOT_VALID
        await house.connect("a")


async def test_D2_a_will_is_held_against_the_rules_at_connect_also_in_a_dry_run(autojump_clock: MockClock) -> None:
    rule = '[[access.rules]]\naction = "allow"\ntopics = ["mine"]\n'
    async with open_house(rule, dry_run=True) as house:
        assert reason(await knock(house, will=Will("other", b""))) is ReasonCode.NOT_AUTHORIZED
        assert house.metrics.access_denied == {"will": 1}
        await house.connect(will=Will("mine", b""))


@pytest.mark.parametrize("version", [V311, V5], ids=["3.1.1", "5"])
@pytest.mark.parametrize("topic", ["$SYS/x", "$CONTROL/dynamic-security/v1", "$share/g/t", "$proxy/errors/d", "$x"])
async def test_D2_a_will_to_a_topic_of_servers_keeps_its_device_out(
    topic: str, version: ProtocolVersion, autojump_clock: MockClock
) -> None:
    async with open_house() as house:
        device = await knock(house, version=version, will=Will(topic, b"", 1))
        told = (
            {ReasonCode.NOT_AUTHORIZED, ReasonCode.TOPIC_NAME_INVALID} if version is V5 else {ReasonCode.NOT_AUTHORIZED}
        )
        assert reason(device) in told


async def test_D6_a_database_that_is_not_there_lets_nobody_in(tmp_path: Path, autojump_clock: MockClock) -> None:
    text = f'chain = ["users"]\n[[access.passwords]]\nname = "users"\ndatabase = "{tmp_path}/none.db"\n'
    async with open_house(text) as house:
        device = await knock(house, username="ada", password=b"correct horse")
        assert reason(device) is ReasonCode.SERVER_UNAVAILABLE
        assert house.metrics.authentications == {"down": 1}
        assert "back end down" in house.audit_lines()[0]["why"]


async def test_who_was_let_in_by_what_is_gone_is_sent_away(access: str, autojump_clock: MockClock) -> None:
    async with open_house(access) as house:
        ada = await house.connect("a", username="ada", password=b"correct horse")
        bob = await house.connect("b", username="bob", password=b"correct horse")
        nobody = await house.connect("n")
        (link,) = house.premises.gate.chains.links()
        del link.users.users["bob"]  # type: ignore[attr-defined] # it is ByPassword with a UserFile
        await recheck(house.premises, admissions=True)
        await house.settle()
        assert (ada.ended_at, nobody.ended_at) == (None, None)
        assert bob.goodbye is ReasonCode.NOT_AUTHORIZED
        (refused,) = house.premises.refused.newest(house.pipeline.refusal.wall())
        told = refused.as_document()
        assert (told["client_id"], told["username"], told["rule"]) == ("b", "bob", "authenticator users")
        assert "does not hold any more" in str(told["words"])
        assert house.audit_lines()[-1]["action"] == "revoked"
        house.premises.access = type(house.premises.access)()
        house.premises.gate.use(type(house.premises.gate.chains)(), house.premises.access)
        await recheck(house.premises, admissions=True)
        await house.settle()
        assert ada.goodbye is ReasonCode.NOT_AUTHORIZED
        assert nobody.goodbye is ReasonCode.NOT_AUTHORIZED


async def test_who_is_looked_at_while_other_chains_come_in_force_comes_again(
    access: str, autojump_clock: MockClock
) -> None:
    async with open_house(access) as house:
        other = make_house(access, house.nursery).pipeline.ruleset.chains
        gate = house.premises.gate
        check = type(gate).check

        async def slow(*arguments: Any) -> Any:
            answer = await check(*arguments)
            gate.use(other, house.premises.access)
            return answer

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(type(gate), "check", slow)
            device = await knock(house, username="ada", password=b"correct horse")
        assert reason(device) is ReasonCode.SERVER_BUSY


async def test_a_user_that_goes_from_a_database_is_noticed_within_a_second(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    users = UserDatabase(tmp_path / "of" / "users.db")
    users.put(user())
    users.put(user("bob"))
    text = f'chain = ["users"]\n[[access.passwords]]\nname = "users"\ndatabase = "{tmp_path}/of/users.db"\n'
    async with open_house(text) as house:
        ada = await house.connect("a", username="ada", password=b"correct horse")
        bob = await house.connect("b", username="bob", password=b"correct horse")
        await trio.sleep(2)
        users.remove("bob")
        await trio.sleep(1)
        assert ada.ended_at is None
        assert bob.goodbye is ReasonCode.NOT_AUTHORIZED


class TestPostgresql:
    """Users on a real server; `in_place`, nothing runs in threads, so that the clock may be mocked."""

    @pytest.fixture
    def text(self, table: Table) -> str:
        table.owners.put(user())
        table.owners.put(user("bob"))
        return f'chain = ["users"]\n{table.toml()}'

    async def test_users_are_let_in_and_sent_away_when_they_are_gone(
        self, text: str, table: Table, autojump_clock: MockClock
    ) -> None:
        async with open_table(text) as house:
            ada = await house.connect("a", username="ada", password=b"correct horse")
            bob = await house.connect("b", username="bob", password=b"correct horse")
            await trio.sleep(2)
            assert house.metrics.users_watched == {"users": 1}
            table.owners.remove("bob")
            await trio.sleep(1)
            assert ada.ended_at is None
            assert bob.goodbye is ReasonCode.NOT_AUTHORIZED
            assert (
                reason(await knock(house, "b", username="bob", password=b"correct horse"))
                is ReasonCode.BAD_USER_NAME_OR_PASSWORD
            )

    async def test_D9_whoever_is_refused_the_answer_is_the_same(self, text: str, autojump_clock: MockClock) -> None:
        async with open_table(text) as house:
            answers = set()
            for name in ("ada", "nobody", "x' OR '1'='1"):
                device = await knock(house, username=name, password=b"wrong")
                assert device.connack is not None
                answers.add((device.connack.reason, device.connack.properties.reason_string))
            assert answers == {(ReasonCode.BAD_USER_NAME_OR_PASSWORD, None)}

    async def test_D6_a_server_that_is_away_lets_nobody_in_and_sends_nobody_away_until_it_is_back(
        self, text: str, table: Table, postgresql: Server, autojump_clock: MockClock
    ) -> None:
        async with open_table(text) as house:
            ada = await house.connect("a", username="ada", password=b"correct horse")
            bob = await house.connect("b", username="bob", password=b"correct horse")
            await trio.sleep(1)
            table.owners.remove("bob")  # and before anybody has noticed
            postgresql.stop()
            try:
                for name in ("ada", "nobody"):
                    late = await knock(house, "c", username=name, password=b"correct horse")
                    assert reason(late) is ReasonCode.SERVER_UNAVAILABLE
                assert house.metrics.users_watched == {"users": 0}
                assert "users_unwatched" in house.log.events()
                assert (ada.ended_at, bob.ended_at) == (None, None)
                whys = [line["why"] for line in house.audit_lines() if line["action"] == "denied"]
                assert len(whys) == 2
                assert all("back end down" in why and table.name in why for why in whys)
                assert PASSWORD not in str(house.audit_lines()) + str(house.log.lines)
            finally:
                postgresql.start()
            await _until(lambda: house.metrics.users_watched == {"users": 1} and bob.ended_at is not None)
            assert bob.goodbye is ReasonCode.NOT_AUTHORIZED
            assert ada.ended_at is None
            await house.connect("c", username="ada", password=b"correct horse")

    async def test_D6_with_cached_who_came_a_moment_ago_still_comes_in(
        self, table: Table, postgresql: Server, autojump_clock: MockClock
    ) -> None:
        for one in (user(), user("bob")):
            table.owners.put(one)
        text = table.toml(more='on_error = "cached"\n')
        async with open_table(f'chain = ["users"]\n{text}') as house:
            (await house.connect("a", username="ada", password=b"correct horse")).disconnect()
            postgresql.stop()
            try:
                await house.connect("a", username="ada", password=b"correct horse")
                for name, password in (("ada", b"wrong"), ("bob", b"correct horse")):
                    late = await knock(house, "b", username=name, password=password)
                    assert reason(late) is ReasonCode.SERVER_UNAVAILABLE
            finally:
                postgresql.start()


async def _until(condition: Callable[[], bool]) -> None:
    """Let the clock of the house go on, and real time: nobody asks a server again for a second that was away."""
    for _ in range(600):
        if condition():
            return
        await trio.sleep(0.5)
        time.sleep(0.02)  # noqa: ASYNC251 # the table of users goes by the real clock
    pytest.fail("it has not become so")


@asynccontextmanager
async def open_table(text: str) -> AsyncIterator[House]:
    """Open a house whose users are in PostgreSQL, and close its connections."""
    async with open_house(text) as house:
        yield house
        for link in house.premises.gate.chains.links():
            await link.aclose()
