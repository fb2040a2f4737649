"""Real clients with credentials before a real proxy: Mosquitto's and paho-mqtt; and rules that change under them."""

import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest
from paho.mqtt.client import Client, MQTTv5
from paho.mqtt.enums import CallbackAPIVersion

from mqttproxy.access.users import UserDatabase
from tests.access.users_of_tests import user
from tests.harness import RunningProxy, running_proxy, write_settings
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
