"""How durations, sizes and addresses are written, in both directions. Numbers without a unit are seconds and bytes."""

import math
import re
from ipaddress import ip_network
from typing import Final

MILLISECONDS: Final = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
BYTES: Final = {
    "B": 1,
    "kB": 1000,
    "KB": 1000,
    "MB": 1000**2,
    "GB": 1000**3,
    "TB": 1000**4,
    "KiB": 1024,
    "MiB": 1024**2,
    "GiB": 1024**3,
    "TiB": 1024**4,
}

DURATION_WORDS: Final = 'a duration such as "30s", "10m", "7d" or "500ms", or a number of seconds'
SIZE_WORDS: Final = 'a size such as "16MiB", "64KiB" or "1GB", or a number of bytes'
NETWORK_WORDS: Final = 'an IP address or a network such as "10.0.0.0/8"'
ADDRESS_WORDS: Final = '"host:port" such as "0.0.0.0:1883"'

HIGHEST_PORT: Final = 65_535

# the digits are bounded, so that no number is too long for int() or float()
_DURATION: Final = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,9})?) ?(ms|s|m|h|d)")
_SIZE: Final = re.compile(r"([0-9]{1,15}) ?([kKMGT]?i?B)")
_ADDRESS: Final = re.compile(r"(?:\[([0-9A-Fa-f:.]+(?:%[\w.-]+)?)\]|([\w.-]+)):([0-9]{1,5})", re.ASCII)


def parse_duration(value: object) -> float | None:
    """Return the seconds of a duration, or None: it is none. Never negative, never infinite."""
    match value:
        case bool():
            return None
        case str():
            found = _DURATION.fullmatch(value)
            return float(found[1]) * MILLISECONDS[found[2]] / 1000 if found else None
        case float():
            return value if math.isfinite(value) and value >= 0 else None
        case int():
            return float(value) if 0 <= value < 10**15 else None
    return None


def parse_size(value: object) -> int | None:
    """Return the bytes of a size, or None: it is none."""
    match value:
        case bool():
            return None
        case str():
            found = _SIZE.fullmatch(value)
            return int(found[1]) * BYTES[found[2]] if found and found[2] in BYTES else None
        case int():
            return value if 0 <= value < 10**18 else None
    return None


def parse_address(value: object) -> tuple[str, int] | None:
    """Return host and port of `host:port` or `[IPv6]:port`, or None: it is neither."""
    found = _ADDRESS.fullmatch(value) if isinstance(value, str) else None
    if found is None or int(found[3]) > HIGHEST_PORT:
        return None
    return found[1] or found[2], int(found[3])


def parse_network(value: object) -> str | None:
    """Return the text of an IP address, or of a network whose address has no bit beyond its prefix; None: neither."""
    try:
        return str(ip_network(value)) if isinstance(value, str) else None
    except ValueError:
        return None


def write_duration(seconds: float) -> str:
    """Return the shortest way to write a duration of whole milliseconds, which `parse_duration` reads back."""
    milliseconds = round(seconds * 1000)
    if not milliseconds:
        return "0s"
    unit = next(unit for unit in ("d", "h", "m", "s", "ms") if milliseconds % MILLISECONDS[unit] == 0)
    return f"{milliseconds // MILLISECONDS[unit]}{unit}"


def write_size(size: int) -> str:
    """Return the shortest way to write a size, which `parse_size` reads back."""
    for unit in ("TiB", "GiB", "MiB", "KiB"):
        if size >= BYTES[unit] and size % BYTES[unit] == 0:
            return f"{size // BYTES[unit]}{unit}"
    return f"{size}B"
