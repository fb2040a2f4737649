"""The settings of `[[behaviours]]`: what devices do over time, which no message by itself shows."""

from typing import Final, Literal

from attrs import Factory, frozen

from mqttproxy.config.kinds import REQUIRED, Bytes, Count, PolicyTopic, Seconds, setting
from mqttproxy.config.policies import WhenSettings

MOST_BEHAVIOURS: Final = 64  # rules; each may remember `limits.behaviour_devices`


@frozen(kw_only=True)
class BehaviourWhenSettings(WhenSettings):
    """`[behaviours.when]`: whose messages the rule above is for, asked as in `[policies.when]`."""


@frozen(kw_only=True)
class BehaviourSettings:
    """`[[behaviours]]`: what each device must do over time. Judges messages from devices, beside all policies.

    Which keys a rule has, and what exactly it tells, stands in `docs/behaviours.md`.
    """

    name: str = setting(REQUIRED, "unique name, in refusals, metrics and audit; no policy has it")
    topics: tuple[PolicyTopic, ...] = setting(
        REQUIRED, "topic filters it applies to; `{name}` instead of `+` gives the level a name"
    )
    rule: Literal["quota", "silence", "duplicates", "sequence", "skew"] = setting(
        REQUIRED,
        "quota: at most so many messages or bytes in a window; silence: something must come; duplicates: nothing comes "
        "twice; sequence: a number rises by 1; skew: a time is that of our clock",
    )
    messages: Count | None = setting(None, "quota: most messages of a device in any window; or `bytes`")
    bytes: Bytes | None = setting(None, "quota: most payload bytes of a device in any window; or `messages`")
    window: Seconds | None = setting(None, "quota, duplicates: how long a message counts")
    every: Seconds | None = setting(None, "silence: the longest time between two messages of a device")
    pointer: str | None = setting(
        None,
        "sequence, skew: JSON Pointer to the number or time; duplicates: compare this value instead of the payload",
    )
    user_property: str | None = setting(None, "sequence, skew: the user property that has it, instead of `pointer`")
    wrap: Count | None = setting(None, "sequence: the number after which it begins again at 0 is one less than this")
    time: Literal["iso8601", "seconds", "milliseconds"] = setting(
        "iso8601", "skew: how the time is written; seconds and milliseconds are counted since 1970"
    )
    max_skew: Seconds | None = setting(None, "skew: how far the time may be from our clock, either way")
    device: str | None = setting(
        None, "named level of the topics that tells the device, for gateways; without it, the client identifier"
    )
    level: Literal["off", "observe", "enforce"] = setting(
        "enforce", "off: not judged; observe: judged, counted and audited, but forwarded; enforce"
    )
    on_failure: tuple[Literal["mark", "hold", "alert", "refuse", "disconnect"], ...] | None = setting(
        None, "as in a policy; without it hold, and with silence alert, which is all that can be done"
    )
    when: BehaviourWhenSettings = setting(Factory(BehaviourWhenSettings), "whose messages")
