"""Enhanced authentication over MQTT 5: CONNECT, AUTH, CONNACK, and anew over an open connection (BAD-INPUT C17, D8)."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
from scramp import ScramClient
from trio.testing import MockClock

from mqttproxy.access.scram import make_verifiers
from mqttproxy.access.users import UserDatabase
from mqttproxy.mqtt.encode import encode
from mqttproxy.mqtt.packets import (
    Auth,
    ConnAck,
    Connect,
    Disconnect,
    Message,
    Packet,
    PingReq,
    Properties,
    PubAck,
    Publish,
)
from mqttproxy.mqtt.reasons import ReasonCode
from tests.access.users_of_tests import cheap_hashes, user
from tests.fakes import MemoryByteStream
from tests.house import V5, House, open_house
from tests.mqtt.decoding import decoder, drain

pytestmark = pytest.mark.wire("5")

METHOD = "SCRAM-SHA-256"


@pytest.fixture(autouse=True)
def _cheap() -> Iterator[None]:
    with cheap_hashes():
        yield


@pytest.fixture(scope="module")
def verifiers() -> dict[str, str]:
    return make_verifiers("pencil")


@pytest.fixture
def access(tmp_path: Path, verifiers: dict[str, str]) -> str:
    users = UserDatabase(tmp_path / "of" / "users.db")
    users.put(user("ada", scram=verifiers, attributes={"site": "north"}))
    users.put(user("bob", scram=verifiers))
    users.put(user("off", scram=verifiers, enabled=False))
    users.put(user("plain"))
    return (
        f'chain = ["users"]\nfailures = 99\n[[access.passwords]]\nname = "users"\nscram = true\n'
        f'database = "{tmp_path}/of/users.db"\n[proxy]\ndata_dir = "{tmp_path}"\n'
    )


class Talker:
    """A device that speaks packet by packet."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.stream: MemoryByteStream = house.arrive()
        self._decoder = decoder()
        self._heard: list[Packet] = []

    def send(self, *packets: Packet) -> None:
        for packet in packets:
            self.stream.send_nowait(encode(packet, V5))

    async def hear(self) -> Packet | None:
        """Return the next packet, None: the connection was closed."""
        while not self._heard:
            with trio.fail_after(30):
                data = bytes(await self.stream.receive())
            if not data:
                return None
            self._decoder.feed(data)
            self._heard += drain(self._decoder)[0]
        return self._heard.pop(0)

    def connect(self, data: bytes | None, method: str | None = METHOD, client_id: str = "d") -> None:
        properties = Properties(authentication_method=method, authentication_data=data)
        self.send(Connect(client_id=client_id, properties=properties))

    def auth(self, data: bytes, reason: ReasonCode = ReasonCode.CONTINUE_AUTHENTICATION, method: str = METHOD) -> None:
        self.send(Auth(reason, Properties(authentication_method=method, authentication_data=data)))

    async def challenge(self) -> str:
        packet = await self.hear()
        assert isinstance(packet, Auth), packet
        assert packet.reason is ReasonCode.CONTINUE_AUTHENTICATION
        assert packet.properties.authentication_method == METHOD
        assert packet.properties.authentication_data is not None
        return packet.properties.authentication_data.decode()

    async def log_in(self, username: str = "ada", password: str = "pencil", client_id: str = "d") -> Packet | None:
        client = ScramClient([METHOD], username, password)
        self.connect(client.get_client_first().encode(), client_id=client_id)
        client.set_server_first(await self.challenge())
        self.auth(client.get_client_final().encode())
        answer = await self.hear()
        if isinstance(answer, ConnAck) and answer.reason is ReasonCode.SUCCESS:
            assert answer.properties.authentication_method == METHOD
            client.set_server_final((answer.properties.authentication_data or b"").decode())
        return answer


async def test_a_device_proves_its_password_without_showing_it(access: str, autojump_clock: MockClock) -> None:
    async with open_house(access) as house:
        talker = Talker(house)
        answer = await talker.log_in()
        assert isinstance(answer, ConnAck)
        assert answer.reason is ReasonCode.SUCCESS
        identity = house.inside().identity
        assert (identity.username, identity.attributes) == ("ada", {"site": "north"})
        assert b"pencil" not in talker.stream.sent
        talker.send(Publish("t", b"", 1, packet_id=1))
        assert isinstance(await talker.hear(), PubAck)


@pytest.mark.parametrize(
    ("username", "password"), [("ada", "wrong"), ("nobody", "pencil"), ("off", "pencil"), ("plain", "x")]
)
async def test_D8_whatever_is_wrong_the_answer_is_the_same_and_so_is_its_time(
    username: str, password: str, access: str, autojump_clock: MockClock
) -> None:
    async with open_house(access) as house:
        answer = await Talker(house).log_in(username, password)
        assert isinstance(answer, ConnAck)
        assert (answer.reason, answer.properties) == (ReasonCode.NOT_AUTHORIZED, Properties())
        assert trio.current_time() == 0.5
        assert house.premises.devices == {}


@pytest.mark.parametrize("method", ["SCRAM-SHA-1", "GS2-KRB5", "PLAIN", "", "scram-sha-256"])
async def test_C17_a_method_that_is_not_known_is_refused(method: str, access: str, autojump_clock: MockClock) -> None:
    async with open_house(access) as house:
        talker = Talker(house)
        talker.connect(b"n,,n=ada,r=abcdefgh", method)
        answer = await talker.hear()
        assert isinstance(answer, ConnAck)
        assert answer.reason is ReasonCode.BAD_AUTHENTICATION_METHOD


@pytest.mark.parametrize(
    "packets",
    [
        [PingReq()],
        [Publish("t", b"", 1, packet_id=1)],
        [Auth(ReasonCode.CONTINUE_AUTHENTICATION, Properties(authentication_method="SCRAM-SHA-512"))],
        [Auth(ReasonCode.REAUTHENTICATE, Properties(authentication_method=METHOD))],
        [Auth(ReasonCode.SUCCESS, Properties(authentication_method=METHOD))],
        [Connect(client_id="d")],
    ],
)
async def test_C17_before_connack_nothing_but_the_next_auth_is_taken(
    packets: list[Packet], access: str, autojump_clock: MockClock
) -> None:
    async with open_house(access) as house:
        talker = Talker(house)
        talker.connect(b"n,,n=ada,r=abcdefgh")
        await talker.challenge()
        talker.send(*packets)
        answer = await talker.hear()
        assert isinstance(answer, ConnAck)
        assert answer.reason is ReasonCode.PROTOCOL_ERROR
        assert house.metrics.received == 0


async def test_C17_a_device_that_goes_or_falls_silent_in_between_leaves_nothing(
    access: str, autojump_clock: MockClock
) -> None:
    async with open_house(access) as house:
        first, second = Talker(house), Talker(house)
        for talker in (first, second):
            talker.connect(b"n,,n=ada,r=abcdefgh")
            await talker.challenge()
        first.send(Disconnect())
        assert await first.hear() is None
        await trio.sleep(11)
        assert house.metrics.handshakes == 0
        assert house.metrics.connections_refused == {"disconnect": 1, "connect_deadline": 1}


class TestAnew:
    async def begin(self, talker: Talker, username: str = "ada", password: str = "pencil") -> ScramClient:
        client = ScramClient([METHOD], username, password)
        talker.auth(client.get_client_first().encode(), ReasonCode.REAUTHENTICATE)
        return client

    async def test_it_succeeds_while_messages_are_served(self, access: str, autojump_clock: MockClock) -> None:
        async with open_house(access) as house:
            talker = Talker(house)
            await talker.log_in()
            before = house.inside().admission
            client = await self.begin(talker)
            client.set_server_first(await talker.challenge())
            talker.send(Publish("t", b"", 1, packet_id=1))
            assert isinstance(await talker.hear(), PubAck)
            talker.auth(client.get_client_final().encode())
            answer = await talker.hear()
            assert isinstance(answer, Auth)
            assert answer.reason is ReasonCode.SUCCESS
            client.set_server_final((answer.properties.authentication_data or b"").decode())
            assert house.inside().admission is not before

    @pytest.mark.parametrize(("username", "password"), [("ada", "wrong"), ("bob", "pencil"), ("nobody", "pencil")])
    async def test_who_fails_or_is_another_user_is_disconnected(
        self, username: str, password: str, access: str, autojump_clock: MockClock
    ) -> None:
        async with open_house(access) as house:
            talker = Talker(house)
            await talker.log_in()
            client = await self.begin(talker, username, password)
            client.set_server_first(await talker.challenge())
            talker.auth(client.get_client_final().encode())
            answer = await talker.hear()
            assert isinstance(answer, Disconnect)
            assert answer.reason is ReasonCode.NOT_AUTHORIZED

    async def test_C17_another_method_ends_the_connection(self, access: str, autojump_clock: MockClock) -> None:
        async with open_house(access) as house:
            talker = Talker(house)
            await talker.log_in()
            talker.auth(b"n,,n=ada,r=abcdefgh", ReasonCode.REAUTHENTICATE, "SCRAM-SHA-512")
            answer = await talker.hear()
            assert isinstance(answer, Disconnect)
            assert answer.reason is ReasonCode.PROTOCOL_ERROR

    @pytest.mark.parametrize("rounds", [1, 3, 20])
    async def test_C17_rounds_without_end_end(self, rounds: int, access: str, autojump_clock: MockClock) -> None:
        async with open_house(access) as house:
            talker = Talker(house)
            await talker.log_in()
            for _ in range(rounds):
                talker.auth(b"n,,n=ada,r=abcdefgh", ReasonCode.REAUTHENTICATE)
            if rounds == 1:
                await talker.challenge()
                talker.auth(b"no proof at all")
            answer = await talker.hear()
            while isinstance(answer, Auth):
                answer = await talker.hear()
            assert isinstance(answer, Disconnect)

    async def test_C17_an_auth_that_nobody_asked_for_ends_the_connection(
        self, access: str, autojump_clock: MockClock
    ) -> None:
        async with open_house(access) as house:
            talker = Talker(house)
            await talker.log_in()
            talker.auth(b"x")
            answer = await talker.hear()
            assert isinstance(answer, Disconnect)
            assert answer.reason is ReasonCode.PROTOCOL_ERROR

    async def test_who_falls_silent_in_between_is_disconnected(self, access: str, autojump_clock: MockClock) -> None:
        async with open_house(access) as house:
            talker = Talker(house)
            await talker.log_in()
            await self.begin(talker)
            await talker.challenge()
            answer = await talker.hear()
            assert isinstance(answer, Disconnect)
            assert answer.reason is ReasonCode.NOT_AUTHORIZED
            assert trio.current_time() >= 10.0


async def test_a_device_without_a_method_is_asked_nothing(access: str, autojump_clock: MockClock) -> None:
    async with open_house(access) as house:
        device = await house.connect("plain", username="plain", password=b"correct horse")
        device.publish(Message("t", b"", 1))
        await house.settle()
        assert device.acknowledged == [(1, 0)]
