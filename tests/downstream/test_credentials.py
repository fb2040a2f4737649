"""Tokens and certificates of devices at the door: until they expire, and what they grant (BAD-INPUT D7, D11)."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import trio
from attrs import evolve
from joserfc import jwt
from joserfc.jwk import OctKey
from trio.testing import MockClock

from mqttproxy.limiting.bans import Ban
from mqttproxy.mqtt.packets import Message, Will
from mqttproxy.mqtt.reasons import ReasonCode
from tests.access import test_by_certificate as certificates
from tests.access.test_by_token import SECRET
from tests.downstream.test_rights import granted
from tests.house import HOST, NUMBERS, POLICY as JUDGED, WALL, House, open_house

pytestmark = pytest.mark.wire("5")

TOKENS = """
chain = ["tokens"]
[[access.tokens]]
name = "tokens"
issuer = "id"
audience = "mqtt"
acl = "acl"
attributes = {{ site = "site" }}
leeway = "1s"
[[access.tokens.keys]]
algorithms = ["HS256"]
file = "{folder}/key"
"""


@pytest.fixture
def access(tmp_path: Path) -> str:
    (tmp_path / "key").write_bytes(SECRET)
    return TOKENS.format(folder=tmp_path)


def token(expires_in: float = 60, **more: Any) -> bytes:
    claims = {"iss": "id", "aud": "mqtt", "sub": "ada", "exp": WALL + expires_in, **more}
    return jwt.encode({"alg": "HS256"}, claims, OctKey.import_key(SECRET)).encode()


def refused(house: House) -> list[tuple[object, ...]]:
    """Return whom `mqttproxy refused` lists, and why."""
    documents = [one.as_document() for one in house.premises.refused.newest(house.pipeline.refusal.wall())]
    return [tuple(one[key] for key in ("client_id", "username", "rule", "words")) for one in documents]


async def test_D7_a_device_is_disconnected_when_its_token_expires(access: str, autojump_clock: MockClock) -> None:
    async with open_house(access) as house:
        device = await house.connect(password=token(60))
        await trio.sleep(60)
        assert device.ended_at is None
        await trio.sleep(1.5)
        assert device.goodbye is ReasonCode.NOT_AUTHORIZED
        assert device.ended_at == 61
        assert refused(house) == [("d", "ada", "authenticator tokens", "the credentials have expired")]
        line = house.audit_lines()[-1]
        assert (line["event"], line["action"], line["authenticator"]) == ("authentication", "expired", "tokens")


async def test_G10_what_is_held_counts_as_the_users_only_if_somebody_asked_who_it_is(
    access: str, autojump_clock: MockClock
) -> None:
    owners = []
    for text, password in ((access, token(acl={"publish": ["#"]})), ("", b"whatever")):
        async with open_house(text + JUDGED, files=NUMBERS) as house:
            device = await house.connect(username="ada", password=password)
            device.publish(Message("n/1", b"{}", 1))
            await house.settle()
            owners += [held.owner for held, _ in house.quarantine.waiting]
            house.quarantine.commit()
    assert owners == ["user:ada", f"address:{HOST}"]


async def test_its_claims_are_attributes_and_its_list_is_granted_after_the_rules(
    access: str, autojump_clock: MockClock
) -> None:
    rule = '[[access.rules]]\naction = "deny"\ntopics = ["a/secret"]\n'
    async with open_house(access + rule) as house:
        acl = {"publish": ["a/#"], "subscribe": ["b/#"]}
        device = await house.connect(password=token(site="north", acl=acl))
        assert house.inside().identity.attributes == {"site": "north"}
        device.publish(Message("a/1", b"", 1), Message("a/secret", b"", 1), Message("b/1", b"", 1))
        device.subscribe("b/#", "a/#")
        await house.settle()
        assert device.acknowledged == [(1, 0), (2, 0x87), (3, 0x87)]
        assert granted(device) == [2, 0x87]


async def test_D2_a_will_that_only_a_token_allows_is_published(access: str, autojump_clock: MockClock) -> None:
    rule = '[[access.rules]]\naction = "allow"\non = "subscribe"\ntopics = ["#"]\n'
    async with open_house(access + rule) as house:
        listener = await house.connect("l")
        listener.subscribe("#")
        acl = {"publish": ["a/will"]}
        device = await house.connect(password=token(acl=acl), will=Will("a/will", b"", 1))
        device.cut()
        await house.settle()
        assert [topic for topic, _ in listener.received] == ["a/will"]


POLICY = """
[[policies]]
name = "of some"
topics = ["#"]
format = "json"
on_failure = ["refuse"]
[policies.when.attributes]
{attribute} = "{value}"
"""


async def test_policies_go_by_the_tenant_that_a_token_names(access: str, autojump_clock: MockClock) -> None:
    text = access.replace('site = "site"', 'tenant = "tenant"')
    async with open_house(text + POLICY.format(attribute="tenant", value="acme")) as house:
        for tenant, reason in (("acme", ReasonCode.PAYLOAD_FORMAT_INVALID), ("other", ReasonCode.SUCCESS)):
            device = await house.connect(tenant, password=token(tenant=tenant, acl={"publish": ["#"]}))
            device.publish(Message("t", b"no json", 1))
            await house.settle()
            assert device.acknowledged == [(1, reason)]


async def test_D1_a_claim_with_a_wildcard_is_no_attribute(access: str, autojump_clock: MockClock) -> None:
    async with open_house(access) as house:
        device = house.device(password=token(site="+"))
        await house.settle()
        await trio.sleep(1)
        assert device.connack is not None
        assert device.connack.reason is ReasonCode.NOT_AUTHORIZED
        assert house.premises.devices == {}


async def test_a_token_in_the_user_name_is_never_written_down(access: str, autojump_clock: MockClock) -> None:
    text = access.replace('name = "tokens"', 'name = "tokens"\nfield = "username"')
    async with open_house(text + '[audit]\ndecisions = "all"\n') as house:
        good, bad = token().decode(), token(aud="other").decode()
        await house.connect("good", username=good)
        house.device("bad", username=bad)
        await trio.sleep(1)
        lines = [line for line in house.audit_lines() if line["event"] == "authentication"]
        assert [(line["action"], line["username"]) for line in lines] == [
            ("allowed", "(a token)"),
            ("denied", "(a token)"),
        ]
        assert good not in str(house.log.lines) + str(lines)
        assert bad not in str(house.log.lines) + str(lines)
        assert house.inside("good").identity.username == "ada"


@pytest.fixture
def showing(monkeypatch: pytest.MonkeyPatch) -> Callable[[House, bytes | None], None]:
    """Let who connects from now on show a certificate to TLS, which these streams have not."""

    def show(house: House, der: bytes | None) -> None:
        arrive = house.listener.arrive

        def arrived(stream: Any) -> None:
            stream.peer = evolve(stream.peer, der=der)
            arrive(stream)

        monkeypatch.setattr(house.listener, "arrive", arrived)

    return show


CERTIFICATES = 'chain = ["certs"]\n[[access.certificates]]\nname = "certs"\nbound_to = "client_id"\n'


async def test_D11_a_certificate_lets_in_under_its_own_name_only(
    showing: Callable[[House, bytes | None], None], autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.house.WALL", certificates.NOW.timestamp())
    async with open_house(CERTIFICATES) as house:
        showing(house, certificates.CA.issue("d-7"))
        await house.connect("d-7")
        assert house.inside("d-7").identity.username == "d-7"
        other = house.device("d-8")
        await house.settle()
        await trio.sleep(1)
        assert other.connack is not None
        assert other.connack.reason is ReasonCode.CLIENT_IDENTIFIER_NOT_VALID


@pytest.mark.parametrize(
    ("name", "reason"), [("tx9-1", ReasonCode.PAYLOAD_FORMAT_INVALID), ("tx8-1", ReasonCode.SUCCESS)]
)
async def test_policies_go_by_what_the_name_of_a_certificate_says(
    name: str,
    reason: ReasonCode,
    showing: Callable[[House, bytes | None], None],
    autojump_clock: MockClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tests.house.WALL", certificates.NOW.timestamp())
    text = CERTIFICATES + 'pattern = "{model}-{serial}"\n' + POLICY.format(attribute="model", value="tx9")
    async with open_house(text) as house:
        showing(house, certificates.CA.issue(name))
        device = await house.connect(name)
        device.publish(Message("t", b"no json", 1))
        await house.settle()
        assert device.acknowledged == [(1, reason)]


async def test_D11_a_device_is_disconnected_when_its_certificate_expires(
    showing: Callable[[House, bytes | None], None], autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    almost = certificates.START + timedelta(days=30, seconds=-100)
    monkeypatch.setattr("tests.house.WALL", almost.timestamp())
    async with open_house(CERTIFICATES) as house:
        showing(house, certificates.CA.issue("d-7"))
        device = await house.connect("d-7", keep_alive=1000)
        await trio.sleep(101)
        assert device.goodbye is ReasonCode.NOT_AUTHORIZED
        assert refused(house) == [("d-7", "d-7", "authenticator certs", "the credentials have expired")]


async def test_a_user_is_banned_by_the_name_that_his_token_says(access: str, autojump_clock: MockClock) -> None:
    async with open_house(access) as house:
        old = await house.connect("old", password=token())
        house.premises.bans.add(Ban("username", "ada", "left us", "me", WALL), WALL)
        late = house.device("old", username="somebody", password=token())
        await house.settle()
        assert late.connack is not None
        assert late.connack.reason is ReasonCode.BANNED
        assert old.ended_at is None  # nobody takes over before it is known that he may come in


async def test_one_whose_credentials_fail_is_among_the_refused_clients_but_its_token_is_not(
    access: str, autojump_clock: MockClock
) -> None:
    text = access.replace('name = "tokens"', 'name = "tokens"\nfield = "username"')
    async with open_house(text) as house:
        house.device("d", username=token(-10).decode())
        await trio.sleep(1)  # what is refused is told late
        ((client_id, username, rule, _),) = refused(house)
        assert (client_id, username, rule) == ("d", "(a token)", "authenticator tokens")


async def test_a_token_shown_as_user_name_is_not_among_the_refused_whatever_refuses_it(
    access: str, autojump_clock: MockClock
) -> None:
    text = access.replace('name = "tokens"', 'name = "tokens"\nfield = "username"')
    async with open_house(text) as house:
        house.premises.bans.add(Ban("client", "d", "left us", "me", WALL), WALL)
        house.device("d", username=token().decode())
        await house.settle()
        assert refused(house) == [("d", "(a token)", "ban of client d", "banned: left us")]
        assert [line["username"] for line in house.audit_lines()] == ["(a token)"]
