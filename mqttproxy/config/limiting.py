"""The settings of `[[limits.rates]]`: how much may come in how much time, from whoever is counted together."""

import re
from typing import Final, Literal

from attrs import frozen

from mqttproxy.config.kinds import REQUIRED, Bytes, Seconds, Windows, setting
from mqttproxy.config.units import parse_duration, parse_size

MOST_RATES: Final = 64  # rules; each may remember `limits.rate_keys`
LONGEST_WINDOW: Final = 30 * 86_400.0  # seconds

_DIGITS: Final = re.compile(r"[0-9]{1,15}(?:\.[0-9]{1,9})?")


@frozen(kw_only=True)
class RateSettings:
    """`[[limits.rates]]`: how much may come in how much time. All rules that cover a device hold for it."""

    name: str = setting(REQUIRED, "unique name, in refusals, metrics and audit")
    per: str = setting(
        REQUIRED,
        "whose are counted together: those of a client, username, address (of IPv6 the /64) or listener; or of an "
        "attribute, such as tenant. All that have none of it are counted together",
    )
    what: Literal["connections", "messages", "bytes"] = setting(
        REQUIRED, "what is counted; bytes: of messages, with their topics and properties"
    )
    windows: Windows = setting(
        REQUIRED,
        "amount:seconds, with units if you like; all of them hold. What was not used is saved up to the amount",
    )
    when_exceeded: Literal["pause", "refuse"] = setting(
        "pause",
        "pause: the device is not read until there is room, and a CONNECT is answered then; refuse: a message is "
        "refused with 0x97, a CONNECT with 0x9F. A CONNECT whose turn is too far away is refused in either case",
    )


@frozen(kw_only=True)
class OverloadSettings:
    """`[overload]`: from when on the proxy sheds load, one thing more at each step while one of these is exceeded.

    In this order: live feeds; new connections; messages of QoS 0; reads of the heaviest publishers; reads of all
    publishers. What is acknowledged, authentication, access and checks are never shed. See `docs/limits.md`.
    """

    enabled: bool = setting(True, "false: nothing is shed; what is measured is told all the same")
    sustained: Seconds = setting(
        Seconds(10.0),
        "how long `loop_delay` or `commit` must be exceeded before anything is shed for it, and before each step more; "
        "they make the proxy slow, while the others can end it: for those each second counts",
    )
    loop_delay: Seconds = setting(
        Seconds(1.0),
        "how late the loop may come to what is due by its own work: time in which other processes had the processor "
        "does not count",
    )
    memory: float = setting(0.9, "share of the memory that the process may have, by its control group or the machine")
    descriptors: float = setting(
        0.9, "share of the file descriptors that the process may have; only new connections are shed for them"
    )
    disk_free: Bytes = setting(
        Bytes(64 * 1024 * 1024),
        "bytes that must be free where `proxy.data_dir` is; of a small disk a twentieth will do",
    )
    commit: Seconds = setting(Seconds(10.0), "how long a commit to the disk may take")


def parse_windows(text: str) -> tuple[tuple[int, float], ...] | None:
    """Return amount and seconds of each window, or None: that is none."""
    windows = []
    for part in text.split(","):
        amount_text, colon, seconds_text = part.strip().partition(":")
        if not colon:
            return None
        amount = parse_size(int(amount_text) if amount_text.isascii() and amount_text.isdigit() else amount_text)
        seconds = parse_duration(float(seconds_text) if _DIGITS.fullmatch(seconds_text) else seconds_text)
        if not amount or not seconds or seconds > LONGEST_WINDOW:
            return None
        windows.append((amount, seconds))
    return tuple(windows)
