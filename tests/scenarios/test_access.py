"""Real clients with credentials before a real proxy: Mosquitto's and paho-mqtt; and rules that change under them."""

import json
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar, Final

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.x509.oid import ExtendedKeyUsageOID
from joserfc import jwt
from joserfc.jwk import OctKey
from paho.mqtt.client import Client, MQTTv5
from paho.mqtt.enums import CallbackAPIVersion

from mqttproxy.access.users import UserDatabase
from tests.access import test_by_certificate as certificates
from tests.access.test_by_token import SECRET
from tests.access.users_of_tests import user
from tests.harness import RunningProxy, running_proxy, write_settings
from tests.postgresql import Server, Table
from tests.scenarios.mosquitto import program
from tests.waiting import PATIENCE, wait_until

RULES: Final = """
[[access.rules]]
topics = ["of/${username}/#"]
action = "allow"
"""


def settings(folder: Path, more: str, *, chain: str = "users", transports: tuple[str, ...] = ("tcp",)) -> Path:
    """Write a configuration in which one authenticator decides who comes in."""
    file = write_settings(folder, more, transports=transports)
    text = file.read_text().replace(
        "allow_anonymous = true", f'chain = ["{chain}"]\nrefusal_delay = "10ms"\nfailures = 99'
    )
    file.write_text(text)
    return file


def mosquitto_pub(proxy: RunningProxy, *arguments: str, version: str = "5", listener: str = "tcp") -> int:
    """Publish one message at QoS 1 by Mosquitto's client; returns its exit code."""
    where = ("-h", "127.0.0.1", "-p", str(proxy.port(listener)), "-V", version)
    command = [program("mosquitto_pub"), *where, "-q", "1", "-i", "d", "-m", "x", *arguments]
    done = subprocess.run(command, capture_output=True, timeout=PATIENCE, check=False)
    return done.returncode


class Paho:
    """A device of paho-mqtt that notes what it hears."""

    def __init__(self, proxy: RunningProxy, username: str | None, password: str | None, client_id: str = "d") -> None:
        self.connack: int | None = None
        self.goodbye: int | None = None
        self.suback: list[int] = []
        self.topics: list[str] = []
        self._answered = threading.Event()
        self.client = Client(CallbackAPIVersion.VERSION2, client_id, protocol=MQTTv5, reconnect_on_failure=False)
        if username is not None:
            self.client.username_pw_set(username, password)
        self.client.on_connect = self._connected
        self.client.on_disconnect = self._disconnected
        self.client.on_subscribe = self._subscribed
        self.client.on_message = lambda _client, _data, message: self.topics.append(message.topic)
        self.client.connect("127.0.0.1", proxy.port())
        self.client.loop_start()
        assert self._answered.wait(PATIENCE)

    def _connected(self, _client: Any, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        self.connack = reason.value
        self._answered.set()

    def _disconnected(self, _client: Any, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        self.goodbye = reason.value
        self._answered.set()

    def _subscribed(self, _client: Any, _data: Any, _mid: Any, reasons: Any, _properties: Any) -> None:
        self.suback += [reason.value for reason in reasons]

    def subscribe(self, topic_filter: str) -> int:
        count = len(self.suback)
        self.client.subscribe(topic_filter, 1)
        wait_until(lambda: len(self.suback) > count, "SUBACK")
        return self.suback[-1]

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


@contextmanager
def paho(proxy: RunningProxy, username: str | None, password: str | None, client_id: str = "d") -> Iterator[Paho]:
    device = Paho(proxy, username, password, client_id)
    try:
        yield device
    finally:
        device.close()


@pytest.fixture
def proxy(tmp_path: Path) -> Iterator[RunningProxy]:
    users = UserDatabase(tmp_path / "of" / "users.db")
    users.put(user())
    users.put(user("bob"))
    with running_proxy(
        settings(tmp_path, '[[access.passwords]]\nname = "users"\ndatabase = "of/users.db"\n' + RULES)
    ) as it:
        yield it
        it.check_unharmed()


@pytest.mark.parametrize("version", ["5", "mqttv311"])
def test_passwords_of_real_clients(proxy: RunningProxy, version: str) -> None:
    ada = ("-u", "ada", "-P", "correct horse", "-t", "of/ada/1")
    assert mosquitto_pub(proxy, *ada, version=version) == 0
    for wrong in (("-u", "ada", "-P", "wrong"), ("-u", "nobody", "-P", "correct horse"), ("-u", "ada"), ()):
        assert mosquitto_pub(proxy, *wrong, "-t", "of/ada/1", version=version) != 0
    assert proxy.metric("mqtt_proxy_authentications_total", outcome="allowed") == 1
    assert proxy.metric("mqtt_messages_received_total", qos="1") == 1


def test_D3_rules_and_users_that_change_hold_for_who_is_connected(proxy: RunningProxy) -> None:
    with paho(proxy, "ada", "correct horse", "a") as ada, paho(proxy, "bob", "correct horse", "b") as bob:
        assert (ada.connack, bob.connack) == (0, 0)
        assert ada.subscribe("of/bob/#") == 0x87
        assert ada.subscribe("of/ada/#") == 1
        ada.client.publish("of/ada/1", b"", 1).wait_for_publish(PATIENCE)
        wait_until(lambda: ada.topics == ["of/ada/1"], "the message")
        text = proxy.file.read_text()
        proxy.file.write_text(text.replace('"of/${username}/#"', '"only/${username}/#"'))
        UserDatabase(proxy.file.parent / "of" / "users.db").remove("bob")
        assert proxy.reload()["event"] == "reloaded"
        wait_until(lambda: bob.goodbye == 0x87, "bob's end")
        wait_until(lambda: proxy.metric("mqtt_proxy_access_denied_total", what="subscription") == 1, "the revocation")
        ada.client.publish("of/ada/2", b"", 1).wait_for_publish(PATIENCE)
        ada.client.publish("only/ada/1", b"", 1).wait_for_publish(PATIENCE)
        assert ada.subscribe("only/ada/#") == 1
        assert ada.topics == ["of/ada/1"]
        assert proxy.metric("mqtt_proxy_access_denied_total", what="publish") == 1


def test_D6_while_a_server_of_users_says_nothing_the_devices_that_are_in_are_served(
    tmp_path: Path, table: Table, postgresql: Server
) -> None:
    table.owners.put(user())
    table.owners.put(user("bob"))
    text = table.toml() + 'statement_timeout = "3s"\n'
    with running_proxy(settings(tmp_path, text + RULES)) as proxy, paho(proxy, "ada", "correct horse", "a") as ada:
        assert ada.connack == 0
        with postgresql.frozen():
            refused: list[int | None] = []
            knock = threading.Thread(target=lambda: refused.append(_connack(proxy, "bob", "correct horse")))
            knock.start()
            longest = 0.0
            while knock.is_alive():
                began = time.monotonic()
                ada.client.publish("of/ada/1", b"", 1).wait_for_publish(PATIENCE)
                longest = max(longest, time.monotonic() - began)
            knock.join()
            assert refused == [0x88]
            assert longest < 1.5  # while the server was waited for three seconds
            assert ada.goodbye is None
        wait_until(lambda: mosquitto_pub(proxy, "-u", "bob", "-P", "correct horse", "-t", "of/bob/1") == 0, "bob is in")
        table.owners.remove("ada")
        wait_until(lambda: ada.goodbye == 0x87, "ada's end")


def _connack(proxy: RunningProxy, username: str, password: str) -> int | None:
    with paho(proxy, username, password, "b") as device:
        return device.connack


def test_D6_a_reload_with_a_broken_file_of_users_changes_nothing(tmp_path: Path) -> None:
    file = settings(tmp_path, '[[access.passwords]]\nname = "users"\nfile = "users.toml"\n')
    good = f'[[users]]\nname = "ada"\npassword = "{user().password}"\n'
    (tmp_path / "users.toml").write_text(good)
    with running_proxy(file) as proxy:
        ada = ("-u", "ada", "-P", "correct horse", "-t", "a")
        assert mosquitto_pub(proxy, *ada) == 0
        (tmp_path / "users.toml").write_text(good + '[[users]]\nname = "eve"\npassword = ""\n')
        assert proxy.reload()["event"] == "reload refused, the configuration in force stays"
        assert mosquitto_pub(proxy, *ada) == 0
        assert mosquitto_pub(proxy, "-u", "eve", "-P", "", "-t", "a") != 0
        (tmp_path / "users.toml").write_text("")
        assert proxy.reload()["event"] == "reloaded"
        assert mosquitto_pub(proxy, *ada) != 0


def test_D7_tokens_of_real_clients(tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(SECRET)
    table = """
[[access.tokens]]
name = "tokens"
issuer = "id"
audience = "mqtt"
[[access.tokens.keys]]
algorithms = ["HS256"]
file = "key"
"""
    now = time.time()

    def token(**more: Any) -> str:
        claims = {"iss": "id", "aud": "mqtt", "sub": "ada", "exp": now + 60, **more}
        return jwt.encode({"alg": "HS256"}, claims, OctKey.import_key(SECRET))

    with running_proxy(settings(tmp_path, table + RULES, chain="tokens")) as proxy:
        for version in ("5", "mqttv311"):
            assert mosquitto_pub(proxy, "-u", "x", "-P", token(), "-t", "of/ada/1", version=version) == 0
            for bad in (token(aud="other"), token(exp=now - 60), token()[:-4] + "AAAA"):
                assert mosquitto_pub(proxy, "-u", "x", "-P", bad, "-t", "of/ada/1", version=version) != 0
        with paho(proxy, "x", token(exp=time.time() - 8)) as device:  # 10 s are allowed for wrong clocks
            assert device.connack == 0
            wait_until(lambda: device.goodbye == 0x87, "the end of the token")
        proxy.check_unharmed()


def test_D11_certificates_of_real_clients(tmp_path: Path) -> None:
    table = '[[access.certificates]]\nname = "certs"\nbound_to = "client_id"\ncrl = "crl.pem"\nca = "devices.pem"\n'
    now = datetime.now(UTC)
    authority = certificates.Authority(start=now - timedelta(days=1))
    (tmp_path / "devices.pem").write_bytes(authority.pem())
    (tmp_path / "crl.pem").write_bytes(authority.revoke(9, until=now + timedelta(days=1)))
    key = authority.key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (tmp_path / "device.key").write_bytes(key)
    file = settings(tmp_path, table + RULES, chain="certs", transports=("tls",))
    more = 'client_ca = "devices.pem"\nclient_certificate = "optional"\nprivate_key = "tls/server.key"'
    file.write_text(file.read_text().replace('private_key = "tls/server.key"', more))

    def publish(proxy: RunningProxy, *shown: str, topic: str = "of/d/1") -> int:
        tls = ("--cafile", str(tmp_path / "tls" / "ca.pem"), "--insecure", *shown)
        return mosquitto_pub(proxy, *tls, "-t", topic, listener="tls")

    def certificate(name: str, **more: Any) -> tuple[str, ...]:
        der = x509.load_der_x509_certificate(authority.issue(name, **more))
        (tmp_path / "device.pem").write_bytes(der.public_bytes(serialization.Encoding.PEM))
        return ("--cert", str(tmp_path / "device.pem"), "--key", str(tmp_path / "device.key"))

    with running_proxy(file) as proxy:
        assert publish(proxy, *certificate("d")) == 0
        assert publish(proxy) != 0
        assert publish(proxy, *certificate("D")) != 0
        assert publish(proxy, *certificate("d", serial=9)) != 0
        assert publish(proxy, *certificate("d", usages=(ExtendedKeyUsageOID.SERVER_AUTH,))) != 0
        assert proxy.metric("mqtt_messages_received_total", qos="1") == 1
        proxy.check_unharmed()


class _Service(BaseHTTPRequestHandler):
    """Lets ada in, and is slow, rude or down as the test says."""

    mood = "well"
    asked: ClassVar[list[dict[str, Any]]] = []

    def do_POST(self) -> None:
        question = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.asked.append(question)
        if self.mood == "slow":
            time.sleep(1)
        answer = {"result": "allow" if question["password"] == "secret" else "deny"}
        data = b"nonsense" if self.mood == "rude" else json.dumps(answer).encode()
        self.send_response(503 if self.mood == "down" else 200)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        pass


def test_D6_a_service_asked_by_http_decides_and_denies_while_it_is_down(tmp_path: Path) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Service)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    table = f"""
[[access.http]]
name = "service"
url = "http://127.0.0.1:{server.server_port}/mqtt"
timeout = "300ms"
cache = "1ms"
breaker_failures = 100
"""
    with running_proxy(settings(tmp_path, table, chain="service")) as proxy:
        ada = ("-u", "ada", "-P", "secret", "-t", "a")
        assert mosquitto_pub(proxy, *ada) == 0
        assert mosquitto_pub(proxy, "-u", "ada", "-P", "wrong", "-t", "a") != 0
        assert _Service.asked[0]["client_id"] == "d"
        for mood in ("slow", "rude", "down"):
            _Service.mood = mood
            assert mosquitto_pub(proxy, *ada) != 0
        _Service.mood = "well"
        assert mosquitto_pub(proxy, *ada) == 0
        server.shutdown()
        server.server_close()
        assert mosquitto_pub(proxy, *ada) != 0
        assert proxy.metric("mqtt_proxy_authentications_total", outcome="down") == 4
        proxy.check_unharmed()
