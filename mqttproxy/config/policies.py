"""The settings of `[[policies]]`: what messages must be, who is meant, and what becomes of those that fail."""

from typing import Literal

from attrs import Factory, frozen

from mqttproxy.config.kinds import REQUIRED, Bytes, Conditions, Count, PolicyTopic, Seconds, setting
from mqttproxy.config.transforms import Step


@frozen(kw_only=True)
class WhenSettings:
    """`[policies.when]`: whom what stands above is for. All that is set must fit; nothing set: everybody.

    Texts are compared as globs: `*` stands for any run of characters, `?` for one.
    """

    client_id: tuple[str, ...] | None = setting(None, "client identifiers; one of them must fit")
    username: tuple[str, ...] | None = setting(
        None, "user names; one of them must fit, and a device without one does not"
    )
    listener: tuple[str, ...] | None = setting(
        None, "listeners that the device came in by; for messages from upstreams `upstream:<name>`"
    )
    attributes: Conditions | None = setting(
        None,
        "attributes, see `[[access.attributes]]`: each by a glob, or by comparison with a number or version, such as "
        '">=2.1, <3"; a list: one of them must fit. A device that lacks one does not',
    )


@frozen(kw_only=True)
class RequireSettings:
    """`[policies.require]`: what the messages of the policy above must be beside their payload. One check."""

    qos: tuple[int, ...] | None = setting(None, "allowed QoS")
    retain: bool | None = setting(None, "true: only retained messages are good; false: only those that are not")
    content_type: tuple[str, ...] | None = setting(None, "content types as globs; a message without one does not fit")
    user_properties: tuple[str, ...] | None = setting(None, "names of user properties that must be there")
    max_expiry: Seconds | None = setting(None, "longest message expiry; a message that never expires does not fit")
    min_bytes: int = setting(0, "smallest payload, in bytes")
    max_bytes: Bytes | None = setting(None, "largest payload")


@frozen(kw_only=True)
class ExpressionSettings:
    """`[[policies.expressions]]`: a condition in CEL that the messages of the policy above must meet. One check each.

    Variables are `payload`, `topic`, `captures`, `properties` and `identity`; `docs/policies.md` explains them.
    """

    expression: str = setting(REQUIRED, "the condition; true: the message is good; false or an error: it is not")
    message: str | None = setting(None, "what a message that fails is told; without it, the expression")


@frozen(kw_only=True)
class CandidateSettings:
    """`[policies.shadow]`: a candidate for the policy above. It is judged beside it and counted, and changes nothing.

    Either another schema in the place of the policy's own, or another policy in the place of the whole;
    `docs/policies.md` explains what is told of it.
    """

    schema: str | None = setting(None, "the candidate is the policy with this schema, named as in `schema` above")
    policy: str | None = setting(None, 'the candidate is this policy of the file, which has `level = "off"`')
    percent: float = setting(100.0, "share of the messages that are judged by both, chosen by chance")


@frozen(kw_only=True)
class ShadowSettings:
    """`[shadow]`: what bounds all candidates, see `[policies.shadow]`. What they cannot do is left out, and counted."""

    time_percent: float = setting(5.0, "most of the time of the process that candidates may take")
    queue_messages: Count = setting(Count(10_000), "messages that wait for candidates; one more is left out")
    queue_bytes: Bytes = setting(Bytes(16 * 1024 * 1024), "the same in payload bytes")
    rows: Count = setting(
        Count(1000), "pointers, devices and attributes that are counted by name, of each as many for each candidate"
    )
    samples: Count = setting(Count(20), "messages kept for each candidate and each outcome, the newest")


@frozen(kw_only=True)
class PluginSettings:
    """`[[policies.plugins]]`: a check in Python that the messages of the policy above must please. One check each.

    It runs in a process of its own, and messages wait for it; `docs/policies.md` tells how one is written.
    """

    name: str = setting(REQUIRED, "the entry point in the group `mqttproxy.checks` that it is installed as")
    budget: Seconds = setting(
        Seconds(0.1), "time for one message; after it the message fails, and the process is ended and started again"
    )


@frozen(kw_only=True)
class BindingSettings:
    """`[[policies.bindings]]`: another schema for some senders. The first binding that fits a sender holds for it.

    Whom none fits, or of whom too little is known, gets the schema of the policy.
    """

    schema: str = setting(REQUIRED, "instead of the policy's, written the same way")
    when: WhenSettings = setting(Factory(WhenSettings), "whose messages")


@frozen(kw_only=True)
class PolicySettings:
    """`[[policies]]`: what the messages of some topics must be. All policies that apply judge a message.

    Those of higher priority come first, then those that stand first in the file; `docs/policies.md` explains it all.
    """

    name: str = setting(REQUIRED, "unique name, in refusals, metrics and audit")
    topics: tuple[PolicyTopic, ...] = setting(
        REQUIRED, "topic filters it applies to; `{name}` instead of `+` gives the level a name"
    )
    priority: int = setting(0, "order among the policies that apply: higher first")
    final: bool = setting(False, "true: where this one applies, those behind it do not")
    schema: str | None = setting(
        None, "a version in the schema folder, as in temperature@1, temperature@stable or temperature@>=1,<3"
    )
    format: Literal["json", "protobuf", "avro", "text", "raw", "none"] | None = setting(
        None,
        "what the payload must be: json, protobuf, avro; text: UTF-8; raw: any bytes; none: empty. Without it, what "
        "the schema is for",
    )
    strategy: Literal["all", "any"] = setting(
        "all",
        "whether a message must pass all checks of this policy (format, schema, require, expressions, plugins), or any",
    )
    level: Literal["off", "observe", "enforce"] = setting(
        "enforce", "off: not judged; observe: judged, counted and audited, but forwarded; enforce"
    )
    percent: float = setting(
        100.0,
        "with enforce: for this share of devices, chosen by a hash of client identifier and policy name; the others "
        "are observed",
    )
    on_failure: tuple[Literal["mark", "hold", "alert", "refuse", "disconnect"], ...] = setting(
        ("hold",),
        "mark: forward with user properties that tell the failure; hold: keep in quarantine; alert: log a warning; "
        "refuse: negative answer, not kept; disconnect: and close the connection",
    )
    direction: Literal["up", "down", "both"] = setting(
        "up", "up: judges messages from devices; down: messages from upstreams to devices; both"
    )
    when: WhenSettings = setting(Factory(WhenSettings), "whose messages")
    bindings: tuple[BindingSettings, ...] = setting((), "other schemas for some of these senders, in order")
    require: RequireSettings = setting(Factory(RequireSettings), "what messages must be beside their payload")
    expressions: tuple[ExpressionSettings, ...] = setting((), "conditions in CEL")
    shadow: CandidateSettings = setting(Factory(CandidateSettings), "a candidate that is judged beside it")
    plugins: tuple[PluginSettings, ...] = setting((), "checks in Python")
    transforms: tuple[Step, ...] = setting(
        (), "what becomes of messages that are carried on, in order; see docs/transforms.md"
    )
    carry_as: Literal["same", "json"] = setting(
        "same", "json: messages of a Protobuf or Avro schema are carried on as JSON; same: as they came"
    )
