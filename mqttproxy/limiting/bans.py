"""Who is not let in: bans of client identifiers, user names and networks, each with its reason, expiry and author."""

import json
from collections.abc import Iterable, Iterator
from ipaddress import ip_address, ip_network
from typing import Any, Final, Literal, get_args

from attrs import asdict, frozen

from mqttproxy.validation import Identity

Kind = Literal["client", "username", "address"]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)

LONGEST: Final = 1024  # characters of a value, a reason or an author

_BITS: Final = {4: 32, 6: 128}


@frozen
class Ban:
    """One ban. `value` of an address is a network, "192.0.2.0/24". Times are seconds since 1970; None: for ever."""

    kind: Kind
    value: str
    reason: str
    author: str
    since: float
    until: float | None = None

    @property
    def words(self) -> str:
        """What a device is told."""
        return f"banned: {self.reason}"

    @property
    def rule(self) -> str:
        """What it is called where a device is refused by it."""
        return f"ban of {self.kind} {self.value}"

    def is_over(self, wall: float) -> bool:
        """Return whether it has expired."""
        return self.until is not None and self.until <= wall


class TooManyBansError(Exception):
    """There is no room for another ban."""


def canonical(kind: Kind, value: str) -> str | None:
    """Return what a ban is known by, None: nobody can be banned by that."""
    if not value or len(value) > LONGEST:
        return None
    if kind != "address":
        return value
    try:
        network = ip_network(value.strip(), strict=False)
    except ValueError:
        return None
    mapped = getattr(network.network_address, "ipv4_mapped", None)
    if mapped is not None and network.prefixlen >= 96:  # as addresses of devices are written
        return str(ip_network(f"{mapped}/{network.prefixlen - 96}", strict=False))
    return str(network)


class Bans:
    """All bans by hand. Those that are over are let go of when they are met."""

    def __init__(self, most: int = 10_000) -> None:
        self._most: Final = most
        self._bans: dict[tuple[Kind, str], Ban] = {}
        self._networks: dict[tuple[int, int], dict[int, str]] = {}  # by version and length: their first bits

    def __len__(self) -> int:
        """Return how many there are; those that are just over may be among them."""
        return len(self._bans)

    def __iter__(self) -> Iterator[Ban]:
        """Go through all of them."""
        return iter(tuple(self._bans.values()))

    def add(self, ban: Ban, wall: float) -> None:
        """Put a ban in force, instead of another one of the same.

        Raises:
            TooManyBansError: there is no room.

        """
        key = (ban.kind, ban.value)
        if key not in self._bans and len(self._bans) >= self._most:
            self.forget_over(wall)
            if len(self._bans) >= self._most:
                raise TooManyBansError(f"there are {self._most} bans, which is `limits.bans`")
        self._put(ban)

    def _put(self, ban: Ban) -> None:
        self._bans[ban.kind, ban.value] = ban
        if ban.kind == "address":
            version, length, bits = _bits_of(ban.value)
            self._networks.setdefault((version, length), {})[bits] = ban.value

    def restore(self, bans: Iterable[Ban]) -> None:
        """Put in force what was kept, which fitted once."""
        for ban in bans:
            self._put(ban)

    def remove(self, kind: Kind, value: str) -> Ban | None:
        """Lift a ban, and return it, None: there was none."""
        ban = self._bans.pop((kind, value), None)
        if ban is not None and kind == "address":
            version, length, bits = _bits_of(value)
            same_length = self._networks[version, length]
            del same_length[bits]
            if not same_length:
                del self._networks[version, length]
        return ban

    def forget_over(self, wall: float) -> int:
        """Let go of those that are over, and return how many."""
        over = [ban for ban in self._bans.values() if ban.is_over(wall)]
        for ban in over:
            self.remove(ban.kind, ban.value)
        return len(over)

    def against(self, identity: Identity, wall: float) -> Ban | None:
        """Return the ban by which a device is not let in, None: it is."""
        if not self._bans:
            return None
        asked: list[tuple[Kind, str]] = [("client", identity.client_id), ("username", identity.username or "")]
        asked += [("address", value) for value in self._networks_of(identity.address)]
        for key in asked:
            ban = self._bans.get(key)
            if ban is not None and not ban.is_over(wall):
                return ban
        return None

    def _networks_of(self, address: str) -> Iterable[str]:
        if not self._networks:
            return
        try:
            parsed = ip_address(address.partition("%")[0])
        except ValueError:  # of a stream that has none
            return
        number, version = int(parsed), parsed.version
        for (of, length), networks in self._networks.items():
            if of == version and (value := networks.get(number >> (_BITS[version] - length))) is not None:
                yield value


def _bits_of(value: str) -> tuple[int, int, int]:
    network = ip_network(value)
    hidden = _BITS[network.version] - network.prefixlen
    return network.version, network.prefixlen, int(network.network_address) >> hidden


def as_lines(bans: Iterable[Ban]) -> bytes:
    """Return bans as a file, one a line: so one that is damaged is one that is lost."""
    return b"".join(json.dumps(asdict(ban), ensure_ascii=True).encode() + b"\n" for ban in bans)


def read_lines(data: bytes) -> tuple[list[Ban], int]:
    """Return the bans of a file, and how many of its lines are none."""
    bans, damaged = [], 0
    for line in data.splitlines():
        ban = _read(line)
        if ban is None:
            damaged += 1
        else:
            bans.append(ban)
    return bans, damaged


def _read(line: bytes) -> Ban | None:
    try:
        record: Any = json.loads(line)
        ban = Ban(**record)
    except (ValueError, TypeError):
        return None
    is_sound = (
        ban.kind in KINDS
        and all(isinstance(text, str) for text in (ban.value, ban.reason, ban.author))
        and canonical(ban.kind, ban.value) == ban.value
        and _is_time(ban.since)
        and (ban.until is None or _is_time(ban.until))
    )
    return ban if is_sound else None


def _is_time(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e12
