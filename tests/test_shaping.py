"""What a configuration makes of messages for its upstreams, and the key of its masks."""

from pathlib import Path

import pytest

from mqttproxy.config.errors import ConfigError
from mqttproxy.config.masking import key_of
from mqttproxy.config.model import ProxyConfig
from mqttproxy.mqtt.packets import Message
from mqttproxy.shaping import shapes_of
from mqttproxy.upstream.callbacks import Unshaped
from tests.config.documents import UPSTREAM, parse

TRANSFORMS = """
[[upstreams.transforms]]
topics = ["plant/{line}"]
steps = [{ op = "copy_topic", from = "{line}", to = "/line" }, { op = "mask", path = "/who", how = "hash" }]
[[upstreams]]
name = "b"
url = "mqtt://127.0.0.1:1902"
[masking]
"""


def with_key(path: Path) -> ProxyConfig:
    return parse(f'{UPSTREAM}{TRANSFORMS}key_file = "{path}"')


def test_only_upstreams_with_transforms_have_shapes(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_bytes(b"a key of sixteen\n")
    config = with_key(file)
    key = key_of(config)
    assert key == b"a key of sixteen"
    shapes = shapes_of(config, key)
    assert list(shapes) == ["a"]
    made = shapes["a"](Message("plant/7", b'{"who":"Bob"}'))
    assert isinstance(made, Message)
    assert (b'"line":"7"' in made.payload, b"Bob" in made.payload) == (True, False)
    assert shapes["a"](Message("plant/7", b"{}")) == Unshaped("/who", "nothing is there")
    elsewhere = Message("x", b"\xff")
    assert shapes["a"](elsewhere) is elsewhere


def test_a_key_may_stand_in_the_file_or_nowhere() -> None:
    assert key_of(parse('[masking]\nkey = "a key of sixteen"')) == b"a key of sixteen"
    assert key_of(parse("")) == b""


def test_a_file_without_a_good_key_is_told(tmp_path: Path) -> None:
    file = tmp_path / "key"
    with pytest.raises(ConfigError, match=r"masking.key_file: found a file that cannot be read \(No such file"):
        key_of(with_key(file))
    file.write_bytes(b"short\n")
    with pytest.raises(ConfigError, match=r"masking.key_file: found a file of 5 bytes, expected at least 16 bytes"):
        key_of(with_key(file))
