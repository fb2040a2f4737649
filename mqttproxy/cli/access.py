"""`mqttproxy access explain`: what a device may do, and which rule says so; no proxy is asked."""

import json as jsonlib
from pathlib import Path
from typing import Annotated, Final, Literal

from cyclopts import App, Parameter

from mqttproxy.access import UnsafeAttributeError, make_acl, may_publish, may_subscribe
from mqttproxy.access.acl import Decision
from mqttproxy.cli.output import complain, say, tell
from mqttproxy.config.errors import ConfigError
from mqttproxy.config.load import load_config
from mqttproxy.config.model import ProxyConfig
from mqttproxy.config.topic_templates import UnsafeValueError
from mqttproxy.explain.sender import NoSuchSenderError, sender
from mqttproxy.mqtt.errors import RemoteProtocolError
from mqttproxy.mqtt.topics import check_topic_name
from mqttproxy.validation import Identity

access_app: Final = App(name="access", help="Look at what devices may do, and why.")

Switch = Annotated[bool, Parameter(negative=())]
Texts = Annotated[tuple[str, ...], Parameter(negative=())]


@access_app.command(name="explain")
def explain(
    *,
    client: str,
    publish: str | None = None,
    subscribe: str | None = None,
    receive: str | None = None,
    username: str | None = None,
    listener: str | None = None,
    attribute: Texts = (),
    qos: Literal[0, 1, 2] = 0,
    retain: Switch = False,
    config: Path = Path("proxy.toml"),
    json: Switch = False,
) -> int:
    """Tell whether a device may publish, subscribe or receive, and by which rule.

    The exit code is 0 if it may, 1 if it may not, 2 if the command was used wrongly.

    Args:
        client: its client identifier.
        publish: topic name of a message that it would publish.
        subscribe: topic filter that it would subscribe to, shared or not.
        receive: topic name of a message that it would be sent.
        username: its user name.
        listener: where it comes in; by default the first listener.
        attribute: NAME=VALUE, beside those that listener, client identifier and user name give, such as those of its
            user, certificate or token.
        qos: of the message or the subscription.
        retain: whether the message is to be retained.
        config: the configuration, which no proxy need run on.
        json: one JSON object, for programs.

    """
    given = {"publish": publish, "subscribe": subscribe, "receive": receive}
    asked = [(word, topic) for word, topic in given.items() if topic is not None]
    if len(asked) != 1 or any("=" not in one for one in attribute):
        complain("give one of --publish, --subscribe and --receive, and each --attribute as NAME=VALUE")
        return 2
    word, topic = asked[0]
    try:
        settings = load_config(config)
        attributes = [(name, text) for name, _, text in (one.partition("=") for one in attribute)]
        identity = sender(settings, client_id=client, username=username, listener=listener, attributes=attributes)
        decision = _decide(settings, identity, word, topic, qos, retain=retain)
    except ConfigError as error:
        tell(error)
        return 2
    except (NoSuchSenderError, UnsafeAttributeError, UnsafeValueError) as error:
        complain(f"the device is not let in: {error}")
        return 1
    except RemoteProtocolError as error:
        complain(f"{topic!r}: {error}")
        return 2
    _tell(decision, settings, word, topic, identity, as_json=json)
    return 0 if decision.allows else 1


def _decide(settings: ProxyConfig, identity: Identity, word: str, topic: str, qos: int, *, retain: bool) -> Decision:
    limits = settings.limits
    words = "topics that begin with $ are the server's"
    if word == "subscribe":
        reason, words = may_subscribe(
            identity.client_id, topic, max_bytes=limits.topic_bytes, max_levels=limits.topic_levels
        )
    else:
        check_topic_name(topic, max_bytes=limits.topic_bytes, max_levels=limits.topic_levels)
        reason = may_publish(topic)
        if word == "receive":
            reason, words = may_subscribe(identity.client_id, topic)
    if reason.is_failure:
        return Decision(allows=False, words=f"0x{reason:02x} {words}, whatever the rules say")
    acl = make_acl(settings.access)
    if acl is None:
        return Decision(allows=True, words="there are no rules, so everything is allowed")
    rights = acl.make_rights(identity)
    if word == "publish":
        return rights.on_publish(topic, qos, retain=retain)
    return rights.on_subscribe(topic, qos) if word == "subscribe" else rights.on_receive(topic)


def _tell(
    decision: Decision, settings: ProxyConfig, word: str, topic: str, identity: Identity, *, as_json: bool
) -> None:
    if as_json:
        say(
            jsonlib.dumps(
                {
                    "allowed": decision.allows,
                    "what": word,
                    "topic": topic,
                    "rule": decision.rule,
                    "because": decision.words,
                    "client_id": identity.client_id,
                    "username": identity.username,
                    "attributes": dict(identity.attributes),
                }
            )
        )
        return
    say(f"{'allowed' if decision.allows else 'denied'}: {word} {topic!r}: {decision.words}")
    if decision.rule is not None:
        rule = settings.access.rules[decision.rule]
        say(f"  {rule.action} {rule.on} {', '.join(rule.topics)}")
    for name, text in identity.attributes.items():
        say(f"  {name} = {text!r}")
