"""`mqttproxy explain`: what becomes of one message, and why; today's configuration, no proxy is asked."""

import json as jsonlib
import sqlite3
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final, Literal

from attrs import frozen
from cyclopts import Parameter

from mqttproxy.cli.answered import answered
from mqttproxy.cli.explain_output import as_document, lines
from mqttproxy.cli.explain_past import FoundNotError, Past, find
from mqttproxy.cli.held_output import printable
from mqttproxy.cli.output import complain, say, tell
from mqttproxy.config.case_files import UPSTREAM
from mqttproxy.config.errors import ConfigError
from mqttproxy.config.load import load_config
from mqttproxy.config.model import LOCAL, ProxyConfig
from mqttproxy.explain import (
    Explanation,
    NoSuchSenderError,
    NotLetInError,
    Premises,
    explain as explain_message,
    sender,
)
from mqttproxy.mqtt.errors import RemoteProtocolError
from mqttproxy.mqtt.packets import NO_PROPERTIES, Message, Properties
from mqttproxy.mqtt.topics import check_topic_name
from mqttproxy.validation import build_generation

_PROPERTIES: Final = ("content_type", "response_topic", "correlation_data", "payload_format_indicator", "expiry")
_FILE: Final = Path("proxy.toml")


class UsageError(Exception):
    """The command was used wrongly; in words."""


Texts = Annotated[tuple[str, ...], Parameter(negative=())]
Switch = Annotated[bool, Parameter(negative=())]


@Parameter(name="*")
@frozen(kw_only=True)
class MessageOptions:
    """The message, and who sends it."""

    topic: str | None = None
    """Topic name, as devices and policies call it."""

    payload: Annotated[str | None, Parameter(allow_leading_hyphen=True)] = None
    """The text itself, `@file`, or `-` for what comes on stdin."""

    client: str | None = None
    """Client identifier of the device."""

    username: str | None = None
    """Its user name."""

    listener: str | None = None
    """Where it comes in; by default the first listener. With `--direction down`: `upstream:NAME`."""

    attribute: Texts = ()
    """NAME=VALUE, beside those that listener, client identifier and user name give."""

    qos: Literal[0, 1, 2] = 1
    """Of the message."""

    retain: Switch = False
    """Whether it is to be retained."""

    property: Texts = ()
    """NAME=VALUE: content_type, response_topic, correlation_data, payload_format_indicator, expiry (seconds)."""

    user_property: Texts = ()
    """NAME=VALUE, in order."""

    direction: Literal["up", "down"] = "up"
    """up: from a device; down: from an upstream to devices."""


_NOTHING: Final = MessageOptions()


def explain(
    id: str | None = None,  # noqa: A002 # the name of the option
    *,
    config: Annotated[Path, Parameter(name="--config")] = _FILE,
    options: MessageOptions = _NOTHING,
    json: Switch = False,
) -> int:
    """Explain what becomes of a message under a configuration: each step, the verdict, and where it goes.

    The exit code is 0 if it is carried, 1 if it is not, 2 if the command was used wrongly.

    Args:
        id: of a message that is held, or that was recorded: its `mp-id`, or its row, such as r17. It is explained anew,
            from what is stored of it; of one that was recorded, what became of it then is told too.
        config: the configuration, which no proxy need run on.
        options: the message, and who sends it.
        json: one JSON object, for programs.

    """
    try:
        settings = load_config(config)
        premises = Premises(settings, build_generation(0, settings))
        past: Past | None = None
        if id is None:
            explanation = _explain_options(options, premises)
        elif options != _NOTHING:
            raise UsageError("use either --id or what describes a message")  # noqa: TRY301 # told as all of them
        else:
            past = found = find(id, premises)
            explanation = answered(
                premises, lambda: explain_message(found.message, found.identity, premises, found.direction)
            )
    except ConfigError as error:
        tell(error)
        return 2
    except NotLetInError as error:
        complain(printable(str(error)))
        return 1
    except (UsageError, NoSuchSenderError, FoundNotError) as error:
        complain(printable(str(error)))
        return 2
    except (OSError, sqlite3.Error) as error:
        complain(printable(f"{config}: {error}"))
        return 2
    if json:
        say(jsonlib.dumps(as_document(explanation, past), indent=2))
    else:
        for line in lines(explanation, past):
            say(printable(line))
    return 0 if explanation.is_carried else 1


def _explain_options(options: MessageOptions, premises: Premises) -> Explanation:
    config = premises.config
    if options.topic is None or options.payload is None:
        raise UsageError("--topic and --payload are needed, or --id")
    if options.direction == "up" and options.client is None:
        raise UsageError("--client is needed: the client identifier of the device")
    _check_topic(options.topic, config)
    listener = options.listener
    is_upstream = listener is not None and listener.startswith(UPSTREAM)
    if options.direction == "down" and listener is None:
        home = premises.routes.home_of(options.topic)
        if home == LOCAL:
            raise UsageError("--listener is needed: upstream:NAME, as no upstream is the home of this topic")
        listener = f"{UPSTREAM}{home}"
    elif is_upstream is not (options.direction == "down"):
        raise UsageError(f"--listener {UPSTREAM}NAME goes with --direction down, that of a device with up")
    identity = sender(
        config,
        client_id=options.client or "",
        username=options.username,
        listener=listener,
        attributes=_pairs("attribute", options.attribute),
    )
    message = Message(options.topic, _payload(options.payload), options.qos, options.retain, _properties(options))
    return answered(premises, lambda: explain_message(message, identity, premises, options.direction))


def _pairs(option: str, texts: Sequence[str]) -> tuple[tuple[str, str], ...]:
    pairs = []
    for text in texts:
        name, equals, value = text.partition("=")
        if not (name and equals):
            raise UsageError(f"--{option}: {text!r} is not NAME=VALUE")
        pairs.append((name, value))
    return tuple(pairs)


def _check_topic(topic: str, config: ProxyConfig) -> None:
    try:
        check_topic_name(topic, max_bytes=config.limits.topic_bytes, max_levels=config.limits.topic_levels)
    except (RemoteProtocolError, UnicodeEncodeError) as error:
        raise UsageError(f"--topic: {error}") from error


def _payload(text: str) -> bytes:
    if text == "-":
        return sys.stdin.buffer.read()
    if text.startswith("@"):
        return Path(text[1:]).read_bytes()
    return text.encode(errors="surrogateescape")  # the bytes of the command line, whatever they are


def _properties(options: MessageOptions) -> Properties:
    given = dict(_pairs("property", options.property))
    for name in given:
        if name not in _PROPERTIES:
            raise UsageError(f"--property {name}: known are {', '.join(_PROPERTIES)}; others are user properties")
    data = given.get("correlation_data")
    properties = Properties(
        content_type=given.get("content_type"),
        response_topic=given.get("response_topic"),
        correlation_data=None if data is None else data.encode(errors="surrogateescape"),
        payload_format_indicator=_number(given, "payload_format_indicator", 1),
        message_expiry_interval=_number(given, "expiry", 2**32 - 1),
        user_properties=_pairs("user-property", options.user_property),
    )
    return NO_PROPERTIES if properties == NO_PROPERTIES else properties


def _number(given: dict[str, str], name: str, highest: int) -> int | None:
    text = given.get(name)
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 10 and int(text) <= highest):
        raise UsageError(f"--property {name}: {text!r} is not a whole number from 0 to {highest}")
    return int(text)
