"""Files that are watched: the configuration, its schemas, the certificates of listeners.

What changed is asked of the files, not of the watcher.

`watchfiles` only wakes us. A fingerprint of the files then says whether anything is different from when it was last
put in force or refused, so that editors' other files, and what the proxy itself writes, cause nothing.
"""

import os
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final

import trio
from attrs import frozen

from mqttproxy.config.model import ProxyConfig
from mqttproxy.steering.causes import Cause, Steered
from mqttproxy.steering.steering import Steering

SETTLE_MS: Final = 500  # an editor, or a copy of many files, has this long to finish
STEP_MS: Final = 100
RUST_TIMEOUT_MS: Final = 200  # or cancelling takes 5 s
LOOK_EVERY: Final = 2.0  # seconds, where the kernel does not tell
MOST_FILES: Final = 100_000

Fingerprint = dict[str, tuple[int, int, int]]


@frozen
class Places:
    """What is watched beside the configuration file: the folder of schemas, and the files of certificates."""

    schemas: Path
    certificates: tuple[Path, ...] = ()

    @classmethod
    def of(cls, config: ProxyConfig) -> "Places":
        """Return those that a configuration names."""
        named = (
            path
            for one in config.listeners
            for path in (one.certificate, one.private_key, one.client_ca, one.crl)
            if path is not None
        )
        return cls(config.schemas.directory, tuple(dict.fromkeys(named)))


def fingerprint(file: Path, places: Places) -> Fingerprint:
    """Return size and times of each file that matters. Blocks."""
    found: Fingerprint = {}
    schemas = places.schemas
    for one in (file, *places.certificates):
        _add(found, one)
    for folder, folders, names in os.walk(schemas):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            if not name.startswith(".") and not name.endswith("~") and len(found) < MOST_FILES:
                _add(found, Path(folder, name))
    return found


def _add(found: Fingerprint, path: Path) -> None:
    try:
        stat = path.stat()
    except OSError:
        return
    found[str(path)] = stat.st_ino, stat.st_size, stat.st_mtime_ns


async def watch(running: Steered, steering: Steering) -> None:
    """Reload when a watched file changes, while `proxy.watch` says so, until cancelled."""
    while True:
        places = Places.of(running.config)
        if not running.config.proxy.watch:
            await steering.changed.wait()
            continue
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_reload_on_change, running, steering, places)
            while _wants(running.config, places):
                await steering.changed.wait()
            nursery.cancel_scope.cancel()


def _wants(config: ProxyConfig, places: Places) -> bool:
    return config.proxy.watch and Places.of(config) == places


async def _reload_on_change(running: Steered, steering: Steering, places: Places) -> None:
    to_thread, limiter = running.outside.to_thread, trio.CapacityLimiter(1)
    look = partial(to_thread, partial(fingerprint, running.path, places), abandon_on_cancel=False, limiter=limiter)
    wake, woken = trio.open_memory_channel[None](1)
    known = await look()
    async with trio.open_nursery() as nursery:
        for folder in dict.fromkeys(one.absolute().parent for one in (running.path, *places.certificates)):
            nursery.start_soon(_follow, running, folder, False, wake)
        if await to_thread(places.schemas.is_dir, abandon_on_cancel=False, limiter=limiter):
            nursery.start_soon(_follow, running, places.schemas, True, wake)
        async for _ in woken:
            found = await look()
            different = sorted(path for path in known.keys() | found.keys() if known.get(path) != found.get(path))
            known = found
            if different == [str(running.path)]:
                await steering.look_at_file()
                if not steering.file_differs:  # it was written to be what is in force already
                    continue
            if different:
                await steering.reload(Cause("watch", _words(different)))


async def _follow(running: Steered, folder: Path, recursive: bool, wake: trio.MemorySendChannel[None]) -> None:
    """Wake whoever compares when something in a folder may have changed."""
    try:
        from watchfiles import awatch  # noqa: PLC0415 - only for those who watch: the extra `watch`

        async for _ in awatch(
            folder,
            watch_filter=None,
            debounce=SETTLE_MS,
            step=STEP_MS,
            rust_timeout=RUST_TIMEOUT_MS,
            recursive=recursive,
        ):
            _wake(wake)
    except (
        ImportError,
        OSError,
        RuntimeError,
    ) as error:  # the kernel has no watches left, or the extra is not installed
        running.log.warning("files are looked at instead of watched", folder=str(folder), error=str(error))
    while True:
        await trio.sleep(LOOK_EVERY)
        _wake(wake)


def _wake(wake: trio.MemorySendChannel[None]) -> None:
    with suppress(trio.WouldBlock):
        wake.send_nowait(None)


def _words(paths: Sequence[str]) -> str:
    return paths[0] if len(paths) == 1 else f"{paths[0]} and {len(paths) - 1} more"
