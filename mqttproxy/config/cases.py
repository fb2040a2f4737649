"""What may stand in a file of cases: messages, and what is to become of them. See `case_files` for the reading."""

from pathlib import Path
from typing import Final, Literal

from attrs import frozen

from mqttproxy.config.kinds import REQUIRED, JsonValue, Labels, Seconds, setting

Fate = Literal["forward", "mark", "observed", "hold", "refuse", "drop"]

PAYLOADS: Final = ("text", "json", "hex", "file")  # ways to write a payload


@frozen(kw_only=True)
class CaseFolderSettings:
    """`[tests]`: cases that the policies must pass, or the configuration is refused."""

    directory: Path = setting(
        Path("tests"), "folder whose *.toml hold cases, see `docs/policies.md`; if it is not there, there are none"
    )


@frozen(kw_only=True)
class GivenSettings:
    """`[cases.given]`: a message, and who sends it. Without a payload it is empty."""

    topic: str = setting(REQUIRED, "topic name, as devices and policies call it")
    text: str | None = setting(None, "the payload as a text")
    json: JsonValue | None = setting(None, "the payload as a value, which is sent as JSON")
    hex: str | None = setting(None, "the payload in hexadecimal")
    file: Path | None = setting(None, "the payload in a file, relative to the folder of the case")
    qos: int = setting(0, "0, 1 or 2")
    retain: bool = setting(False, "whether the message is to be retained")
    content_type: str | None = setting(None, "as the message tells it")
    response_topic: str | None = setting(None, "where an answer is awaited")
    correlation_data: str | None = setting(None, "what an answer is known by")
    payload_format_indicator: int | None = setting(None, "1: the payload says that it is UTF-8")
    expiry: Seconds | None = setting(None, "message expiry, in whole seconds")
    user_properties: Labels = setting(Labels(()), "user properties of the message")
    client_id: str = setting("test", "client identifier of the device")
    username: str | None = setting(None, "its user name")
    listener: str | None = setting(
        None, 'where it comes in, by default the first listener; with `direction = "down"` `upstream:<name>`'
    )
    attributes: Labels = setting(
        Labels(()), "attributes beside those that listener, client identifier and user name give; these win"
    )
    direction: Literal["up", "down"] = setting("up", "up: from a device; down: from an upstream to devices")


@frozen(kw_only=True)
class ExpectSettings:
    """`[cases.expect]`: what is to become of the message above. What is not written is not compared."""

    verdict: Fate = setting(
        REQUIRED,
        "forward; mark: forwarded although it failed, and told so; observed: forwarded, but a policy noticed; hold; "
        "refuse; drop: it has no route",
    )
    policy: str | None = setting(None, "the policy that names the verdict")
    pointers: tuple[str, ...] | None = setting(None, "JSON Pointers of all failures, in any order")
    keywords: tuple[str, ...] | None = setting(None, "keywords of all failures, in any order")
    destinations: tuple[str, ...] | None = setting(
        None, "names of the upstreams that get it, and `local`, in any order; of a message that is not carried: none"
    )
    payload: JsonValue | None = setting(
        None,
        "what they get, after all transforms: a text as it stands, anything else as the JSON value that it is; for "
        "each destination that `payloads` does not name",
    )
    payloads: JsonValue | None = setting(
        None, "the same for destinations by name, where they get different ones: `{ cloud = { c = 1 }, local = '...' }`"
    )


@frozen(kw_only=True)
class CaseSettings:
    """`[[cases]]`: one message, and what is to become of it."""

    name: str = setting(REQUIRED, "what the case is about, unique in its file")
    given: GivenSettings = setting(REQUIRED, "the message")
    expect: ExpectSettings = setting(REQUIRED, "its fate")


@frozen(kw_only=True)
class CaseFile:
    """The whole of a file of cases."""

    cases: tuple[CaseSettings, ...] = setting(REQUIRED, "the cases")
