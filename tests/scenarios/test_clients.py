"""Real clients and each way to say who they are: paho-mqtt, MQTT.js and Mosquitto's, in both versions of MQTT.

One proxy for the whole file, with a listener for each method. Who is let in publishes at QoS 1, is acknowledged, and
gets its message; who is not is told why by the code of CONNACK, as that client shows it.
"""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count, product
from pathlib import Path
from typing import Any, Final

import pytest
from attrs import frozen
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from joserfc import jwt
from joserfc.jwk import OctKey

from mqttproxy.access.scram import make_verifiers
from mqttproxy.access.users import UserDatabase
from mqttproxy.mqtt.packets import Message
from mqttproxy.mqtt.reasons import ReasonCode
from tests.access.test_by_certificate import Authority
from tests.access.test_by_token import SECRET
from tests.access.users_of_tests import user
from tests.harness import RunningProxy, running_proxy, write_settings
from tests.scenarios.command_line import CommandLineDevice
from tests.scenarios.devices import Device, NotLetInError, PahoDevice, Place, Shown, Transport, Version, on
from tests.scenarios.javascript import JavaScriptDevice, Node, running_node

CLIENTS: Final = ("paho", "mosquitto", "javascript")
VERSIONS: Final[tuple[Version, ...]] = ("3.1.1", "5")
LISTENERS: Final[dict[str, Transport]] = {"password": "tcp", "certificate": "tls", "token": "tcp", "http": "tcp"}
SETTINGS: Final = """
[[access.passwords]]
name = "password"
database = "of/users.db"
scram = true

[[access.certificates]]
name = "certificate"
ca = "devices.pem"
crl = "crl.pem"

[[access.tokens]]
name = "token"
issuer = "id"
audience = "mqtt"
[[access.tokens.keys]]
algorithms = ["HS256"]
file = "key"

[[access.http]]
name = "http"
url = "http://127.0.0.1:{service}/mqtt"
breaker_failures = 1000

[[access.rules]]
topics = ["of/${{username}}/#"]
action = "allow"
"""
LISTENER: Final = """
[[access.chains]]
listeners = ["{name}"]
chain = ["{name}"]
[[listeners]]
name = "{name}"
transport = "{transport}"
bind = "127.0.0.1:0"
"""
TLS: Final = """
certificate = "tls/server.pem"
private_key = "tls/server.key"
client_ca = "devices.pem"
client_certificate = "optional"
"""
RIGHT, GUESSED, NO_ANSWER = "correct-horse", "battery-staple", "no-answer"  # passwords
WRONG, NOT_AUTHORIZED = ReasonCode.BAD_USER_NAME_OR_PASSWORD, ReasonCode.NOT_AUTHORIZED
DOWN, NO_METHOD = ReasonCode.SERVER_UNAVAILABLE, ReasonCode.BAD_AUTHENTICATION_METHOD
OLD_CODES: Final = {WRONG: 4, NOT_AUTHORIZED: 5, DOWN: 3}  # of MQTT 3.1.1

# By method and what is shown: None, let in; a reason; or HANDSHAKE: TLS refuses, and there is no CONNACK.
HANDSHAKE: Final = "handshake"
CASES: Final[dict[str, dict[str, ReasonCode | str | None]]] = {
    "password": {"right": None, "wrong": WRONG, "nobody": WRONG, "nothing": NOT_AUTHORIZED},
    "certificate": {"right": None, "revoked": NOT_AUTHORIZED, "foreign": HANDSHAKE, "nothing": NOT_AUTHORIZED},
    "token": {"right": None, "expired": WRONG, "forged": WRONG, "for another": WRONG, "nothing": NOT_AUTHORIZED},
    "http": {"right": None, "wrong": WRONG, "down": DOWN, "nothing": WRONG},
}


@frozen
class Case:
    """One attempt of a client to come in; `code` as in CASES."""

    client: str
    version: Version
    method: str
    shown: str
    code: ReasonCode | str | None

    def __str__(self) -> str:
        return f"{self.client}-{self.version}-{self.method}-{self.shown}"

    @property
    def told(self) -> int | None:
        """What the client shows of the code: paho-mqtt tells those of MQTT 5 in 3.1.1 too."""
        if not isinstance(self.code, ReasonCode):
            return None
        return int(self.code) if self.version == "5" or self.client == "paho" else OLD_CODES[self.code]


TABLE: Final = [
    Case(client, version, method, shown, code)
    for client, version, method in product(CLIENTS, VERSIONS, CASES)
    for shown, code in CASES[method].items()
]


class _Service(BaseHTTPRequestHandler):
    """Lets ada in by her password; asked about NO_ANSWER, it fails."""

    def do_POST(self) -> None:
        question = json.loads(self.rfile.read(int(self.headers["content-length"])))
        allowed = (question["username"], question["password"]) == ("ada", RIGHT)
        data = json.dumps({"result": "allow", "username": "ada"} if allowed else {"result": "deny"}).encode()
        self.send_response(503 if question["password"] == NO_ANSWER else 200)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        pass


def token(secret: bytes = SECRET, *, audience: str = "mqtt", life: float = 600) -> str:
    claims = {"iss": "id", "aud": audience, "sub": "ada", "exp": time.time() + life}
    return jwt.encode({"alg": "HS256"}, claims, OctKey.import_key(secret))


def issue(folder: Path, name: str, authority: Authority, serial: int) -> Shown:
    """Write a certificate for ada and its key."""
    certificate = x509.load_der_x509_certificate(authority.issue("ada", serial=serial))
    shown = Shown(certificate=folder / f"{name}.pem", private_key=folder / f"{name}.key")
    assert shown.certificate is not None
    assert shown.private_key is not None
    shown.certificate.write_bytes(certificate.public_bytes(Encoding.PEM))
    shown.private_key.write_bytes(authority.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return shown


def write(folder: Path, service: int) -> tuple[Path, dict[tuple[str, str], Shown]]:
    """Write the configuration, and return it with what there is to show, by method and case."""
    users = UserDatabase(folder / "of" / "users.db")
    users.put(user("ada", RIGHT, scram=make_verifiers(RIGHT)))
    users.put(user("bob", RIGHT, scram=make_verifiers(RIGHT)))
    (folder / "key").write_bytes(SECRET)
    now = datetime.now(UTC)
    authority, stranger = (Authority(name, now - timedelta(days=1)) for name in ("devices", "strangers"))
    (folder / "devices.pem").write_bytes(authority.pem())
    (folder / "crl.pem").write_bytes(authority.revoke(9, until=now + timedelta(days=1)))
    more = SETTINGS.format(service=service) + "".join(
        LISTENER.format(name=name, transport=transport) + (TLS if transport == "tls" else "")
        for name, transport in LISTENERS.items()
    )
    file = write_settings(folder, more, transports=("tls",))  # that one for its certificates
    text = file.read_text().replace("allow_anonymous = true", 'refusal_delay = "10ms"\nfailures = 10000')
    file.write_text(text)
    return file, {
        ("password", "right"): Shown("ada", RIGHT),
        ("password", "wrong"): Shown("ada", GUESSED),
        ("password", "nobody"): Shown("eve", RIGHT),
        ("certificate", "right"): issue(folder, "right", authority, 7),
        ("certificate", "revoked"): issue(folder, "revoked", authority, 9),
        ("certificate", "foreign"): issue(folder, "foreign", stranger, 7),
        ("token", "right"): Shown("ada", token()),
        ("token", "expired"): Shown("ada", token(life=-60)),
        ("token", "forged"): Shown("ada", token(b"f" * 32)),
        ("token", "for another"): Shown("ada", token(audience="another")),
        ("http", "right"): Shown("ada", RIGHT),
        ("http", "wrong"): Shown("ada", GUESSED),
        ("http", "down"): Shown("ada", NO_ANSWER),
    }


@frozen
class Scene:
    """What all cases share."""

    proxy: RunningProxy
    node: Node
    to_show: dict[tuple[str, str], Shown]
    numbers: Iterator[int]

    def place(self, method: str, version: Version, shown: Shown) -> Place:
        ca = self.proxy.file.parent / "tls" / "ca.pem"
        return Place(self.proxy.port(method), LISTENERS[method], ca, version, shown)

    def device(self, client: str, place: Place) -> Device:
        """Connect a device. Raises NotLetInError; of Mosquitto's, publishing raises it."""
        client_id = f"d{next(self.numbers)}"
        if client == "javascript":
            return self.node.device(client_id, place)
        return PahoDevice(client_id, place) if client == "paho" else CommandLineDevice(client_id, place)

    def prover(self, method: str, username: str, password: str) -> JavaScriptDevice:
        shown = Shown(username, password, method=method)
        return self.node.device(f"d{next(self.numbers)}", self.place("password", "5", shown))


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Service)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        file, to_show = write(tmp_path_factory.mktemp("clients"), server.server_port)
        with running_proxy(file) as proxy, running_node() as node:
            yield Scene(proxy, node, to_show, count())
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def use(device: Device, what: str = "1") -> None:
    """Publish, and get it back: retained, so that a client that is a process for each thing it does gets it too."""
    message = Message(f"of/ada/{device.client_id}/{what}", b"here", 1, retain=True)
    assert device.publish(message).reason == 0
    assert device.subscribe(message.topic, 1) == 1
    assert [got.payload for got in on(device, message.topic)] == [b"here"]


@pytest.mark.parametrize("case", TABLE, ids=str)
def test_who_shows_what_is_right_is_served_and_who_does_not_is_told_the_reason(scene: Scene, case: Case) -> None:
    place = scene.place(case.method, case.version, scene.to_show.get((case.method, case.shown), Shown()))
    if case.code is None:
        with closing(scene.device(case.client, place)) as device:
            use(device)
        return
    before = scene.proxy.metric("mqtt_messages_received_total", qos="1")
    with pytest.raises(NotLetInError) as refused:
        scene.device(case.client, place).publish(Message("of/ada/x", b"x", 1))
    assert refused.value.reason == case.told, refused.value
    assert scene.proxy.metric("mqtt_messages_received_total", qos="1") == before


@pytest.mark.parametrize("method", ["SCRAM-SHA-256", "SCRAM-SHA-512"])
class TestScram:
    """MQTT.js only, which lets a program answer AUTH."""

    def test_a_password_is_proved_both_ways_and_anew(self, scene: Scene, method: str) -> None:
        with closing(scene.prover(method, "ada", RIGHT)) as device:
            use(device)
            assert device.authenticate("ada", RIGHT) == 0
            use(device, "anew")

    @pytest.mark.parametrize(("username", "password"), [("ada", GUESSED), ("eve", RIGHT)])
    def test_a_wrong_proof_is_refused(self, scene: Scene, method: str, username: str, password: str) -> None:
        with pytest.raises(NotLetInError) as refused:
            scene.prover(method, username, password)
        assert refused.value.reason == NOT_AUTHORIZED

    @pytest.mark.parametrize(("username", "password"), [("ada", GUESSED), ("bob", RIGHT)])
    def test_who_fails_to_prove_it_anew_or_is_another_one_by_then_is_disconnected(
        self, scene: Scene, method: str, username: str, password: str
    ) -> None:
        with closing(scene.prover(method, "ada", RIGHT)) as device:
            assert device.authenticate(username, password) == NOT_AUTHORIZED


@pytest.mark.parametrize("client", ["paho", "mosquitto"])
def test_who_asks_for_scram_and_does_not_know_AUTH_is_not_let_in(scene: Scene, client: str) -> None:
    """paho-mqtt breaks off, mosquitto_pub waits until the proxy does: neither has SCRAM."""
    place = scene.place("password", "5", Shown("ada", RIGHT, method="SCRAM-SHA-256"))
    with pytest.raises(NotLetInError, match=r"received AUTH|Protocol error") as refused:
        scene.device(client, place).publish(Message("of/ada/x", b"x", 1))
    assert refused.value.reason is None


def test_a_method_that_is_not_offered_is_refused(scene: Scene) -> None:
    with pytest.raises(NotLetInError) as refused:
        scene.prover("SCRAM-SHA-1", "ada", RIGHT)
    assert refused.value.reason == NO_METHOD


def test_no_password_and_no_token_is_written_down(scene: Scene) -> None:
    for case in (one for one in TABLE if one.client == "javascript"):  # if this test runs alone
        shown = scene.to_show.get((case.method, case.shown), Shown())
        with (
            suppress(NotLetInError),
            closing(scene.device("javascript", scene.place(case.method, case.version, shown))),
        ):
            pass
    written = [scene.proxy.log_file, *(scene.proxy.file.parent / "data" / "audit").glob("*.jsonl")]
    assert len(written) > 1
    for file, shown in product(written, scene.to_show.values()):
        assert shown.password is None or shown.password not in file.read_text()
