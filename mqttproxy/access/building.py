"""From `[access]` to the chains that let devices in. Blocking: it reads files, and hashes a password."""

from collections.abc import Callable, Iterator
from typing import Any, Final

import trio
from attrs import frozen

from mqttproxy.access.by_password import ByPassword
from mqttproxy.access.chain import Chain, Chains
from mqttproxy.access.credentials import Authenticator
from mqttproxy.access.hashing import EXTRA
from mqttproxy.access.users import UserDatabase, UserFile, Users
from mqttproxy.apart import IN_THREAD, ToThread
from mqttproxy.config.access_checks import authenticators
from mqttproxy.config.admitting import PasswordSettings
from mqttproxy.config.errors import ConfigError, Fault
from mqttproxy.config.model import AccessSettings

Make = Callable[[Any, "Means"], Authenticator]


@frozen
class Means:
    """What authenticators work with."""

    access: AccessSettings
    limiter: trio.CapacityLimiter  # of what takes a processor for long
    to_thread: ToThread


def make_chains(access: AccessSettings, file: str = "proxy.toml", *, to_thread: ToThread = IN_THREAD) -> Chains:
    """Return the chains that the settings ask for.

    Args:
        access: checked.
        file: where it stands, for faults.
        to_thread: where what takes long is done.

    Raises:
        ConfigError: a file that they name cannot be used, or an extra is not installed.

    """
    means = Means(access, trio.CapacityLimiter(access.check_threads), to_thread)
    made: dict[str, Authenticator] = {}
    faults: list[Fault] = []
    used = set(access.chain).union(*(entry.chain for entry in access.chains))
    for key, settings in authenticators(access):
        if settings.name not in used:
            continue
        try:
            made[settings.name] = _MAKERS[type(settings)](settings, means)
        except ConfigError as error:
            faults.extend(error.faults)
        except ImportError:
            faults.append(Fault(file, key, "an authenticator whose library is missing", _EXTRAS[type(settings)]))
    if faults:
        raise ConfigError(faults)
    return Chains(_chain(access.chain, made, allow_anonymous=None), dict(_of_listeners(access, made)))


def _of_listeners(access: AccessSettings, made: dict[str, Authenticator]) -> Iterator[tuple[str, Chain]]:
    for entry in access.chains:
        chain = _chain(entry.chain, made, allow_anonymous=entry.allow_anonymous)
        yield from ((listener, chain) for listener in entry.listeners)


def _chain(names: tuple[str, ...], made: dict[str, Authenticator], *, allow_anonymous: bool | None) -> Chain:
    return Chain(tuple(made[name] for name in names), allow_anonymous)


def _by_password(settings: PasswordSettings, means: Means) -> ByPassword:
    return ByPassword(
        settings,
        users_of(settings),
        longest=means.access.password_bytes,
        remember=means.access.remember,
        limiter=means.limiter,
        to_thread=means.to_thread,
    )


def users_of(settings: PasswordSettings) -> Users:
    """Return where the users of an authenticator are. Raises ConfigError: their file is no good."""
    if settings.file is not None:
        return UserFile(settings.file)
    assert settings.database is not None  # noqa: S101 # the checks of the settings ask for either
    return UserDatabase(settings.database)


_MAKERS: Final[dict[Any, Make]] = {PasswordSettings: _by_password}
_EXTRAS: Final[dict[Any, str]] = {PasswordSettings: EXTRA}
