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

from mqttproxy.mqtt.packets import Message, Will
from mqttproxy.mqtt.reasons import ReasonCode
from tests.access import test_by_certificate as certificates
from tests.access.test_by_token import SECRET
from tests.downstream.test_rights import granted
from tests.house import WALL, House, open_house

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


async def test_D7_a_device_is_disconnected_when_its_token_expires(access: str, autojump_clock: MockClock) -> None:
    async with open_house(access) as house:
        device = await house.connect(password=token(60))
        await trio.sleep(60)
        assert device.ended_at is None
        await trio.sleep(1.5)
        assert device.goodbye is ReasonCode.NOT_AUTHORIZED
        assert device.ended_at == 61


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
