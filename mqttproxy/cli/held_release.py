"""`mqttproxy quarantine release | releases | cancel`: let held messages go, as they are or mended by a recipe."""

import json as json_module
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final, TextIO

from attrs import asdict, frozen
from cyclopts import Parameter
from cyclopts.validators import Number
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mqttproxy.cli.held_masks import veil_of
from mqttproxy.cli.held_options import ALL, FILE, Config, FilterOptions, Switch, Unmasked, agreed, look, messages_of
from mqttproxy.cli.held_output import printable
from mqttproxy.cli.held_preview import Preview
from mqttproxy.cli.output import complain, say, tell
from mqttproxy.config.errors import ConfigError, Told
from mqttproxy.config.load import load_config
from mqttproxy.config.model import LOCAL
from mqttproxy.quarantine.archive import Archive
from mqttproxy.quarantine.filters import Filters
from mqttproxy.quarantine.releases import AT_WORK, Options, Order, Release
from mqttproxy.recipe import compile_recipe
from mqttproxy.validation import build_generation

_WIDTH: Final = 160  # of a table that does not go to a terminal
_SHOWN: Final = 50  # releases that are listed


@Parameter(name="*")
@frozen(kw_only=True)
class ReleaseOptions:
    """How they are let go."""

    recipe: Path | None = None
    """TOML file of steps that mend them; see docs/quarantine.md."""

    preview: Annotated[int, Parameter(validator=Number(gte=0))] = 0
    """Show so many before and after, the oldest first, and how they would be judged. Nothing is released."""

    to: tuple[str, ...] = ()
    """Only to these upstreams, or `local`; by default wherever their routes lead."""

    rate: Annotated[float, Parameter(validator=Number(gt=0))] = 50.0
    """Messages a second."""

    failure_ratio: Annotated[float, Parameter(validator=Number(gte=0, lte=1))] = 0.1
    """Stop when more than this part fails again; counted of at least 20 messages."""

    ignore_expiry: Switch = False
    """Release messages whose expiry interval is over, and take it off all of them."""

    clear_retain: Switch = False
    """Release retained messages as plain ones."""

    unmasked: Unmasked = False
    """With --preview: payloads as they are, without `[[masks]]`; it is told in the audit trail."""


_AS_THEY_ARE: Final = ReleaseOptions()


def release(
    *identifiers: str,
    config: Config = FILE,
    options: FilterOptions = ALL,
    everything: Annotated[bool, Parameter(name="--all", negative=())] = False,
    how: ReleaseOptions = _AS_THEY_ARE,
    yes: Switch = False,
    json: Switch = False,
) -> int:
    """Let held messages go. They are judged again by the rules in force; those that fail again stay held.

    The running proxy does it, each message exactly once; if it is not running, as soon as it does.

    Args:
        identifiers: of messages.
        config: the configuration of the proxy.
        options: which messages; at least one filter, identifiers, or --all.
        everything: release all that is held.
        how: see below.
        yes: do not ask.
        json: one JSON object a line, for programs.

    """
    if everything == (options != ALL or bool(identifiers)):
        complain("give identifiers or filters for what to release, or --all" + (", not both" if everything else ""))
        return 2
    filters = _filters(options, identifiers)
    try:
        settings = load_config(config)
        recipe = _read(how.recipe)
        mend = None if recipe is None else compile_recipe(recipe, settings)
        generation = build_generation(1, settings) if how.preview else None
    except ConfigError as error:
        return tell(error)
    unknown = set(how.to) - {LOCAL, *(upstream.name for upstream in settings.upstreams)}
    if unknown:
        complain(f"--to {printable(min(unknown))}: no such upstream")
        return 2
    order = Order(
        filters=filters,
        recipe=recipe,
        destinations=how.to or None,
        options=Options(ignore_expiry=how.ignore_expiry, clear_retain=how.clear_retain),
        rate=how.rate,
        failure_ratio=how.failure_ratio,
    )

    def work(archive: Archive) -> int:
        if generation is not None:
            veil = veil_of(config, unmasked=how.unmasked, what="quarantine release --preview")
            return Preview(order, mend, generation, time.time(), veil).show(archive, how.preview, json=json)
        total = archive.total(filters).messages
        if total and not (yes or agreed(f"release {messages_of(total)}?")):
            complain("nothing is released")
            return 1
        made = archive.order(order, time.time())
        if json:
            say(json_module.dumps(_document(made)))
        else:
            say(
                f"release {made.number}: {messages_of(made.total)}; `mqttproxy quarantine releases` shows how far it is"
            )
        return 0

    return look(config, work, none=0, writable=not how.preview)


def releases(number: int | None = None, /, *, config: Config = FILE, json: Switch = False) -> int:
    """Show releases and how far they are, the newest first.

    Args:
        number: only this one.
        config: the configuration of the proxy.
        json: one JSON object a line, for programs.

    """

    def work(archive: Archive) -> int:
        found = archive.releases(_SHOWN) if number is None else [one for one in (archive.release(number),) if one]
        if number is not None and not found:
            complain(f"{number}: no such release")
            return 1
        for one in found if json else ():
            say(json_module.dumps(_document(one)))
        if not json:
            _tabulate(found, sys.stdout)
        return 0

    return look(config, work, none=0 if number is None else 1)


def cancel(number: int, /, *, config: Config = FILE, json: Switch = False) -> int:
    """Stop a release. What went is gone; the rest stays held.

    Args:
        number: as `releases` shows it.
        config: the configuration of the proxy.
        json: one JSON object, for programs.

    """

    def work(archive: Archive) -> int:
        if not archive.cancel(number, time.time()):
            complain(f"{number}: no such release, or it is over")
            return 1
        say(json_module.dumps({"number": number, "state": "cancelled"}) if json else f"release {number} is cancelled")
        return 0

    return look(config, work, none=1, writable=True)


def _filters(options: FilterOptions, identifiers: Sequence[str]) -> Filters:
    ids = tuple(identifier.upper() for identifier in identifiers)
    return options.filters(("held",), ids=ids)


def _read(recipe: Path | None) -> str | None:
    if recipe is None:
        return None
    try:
        return recipe.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError([Told("", "", f"{recipe}: {error}")]) from error


def _tabulate(found: Sequence[Release], file: TextIO) -> None:
    console = Console(file=file, width=None if file.isatty() else _WIDTH, highlight=False)
    if not found:
        console.print("nothing was released")
        return
    names = ("release", "state", "ordered", "ended", "messages", "released", "failed again", "why")
    table = Table(*names, box=box.SIMPLE_HEAD)
    for one in found:
        counts = (str(one.total), str(one.released), str(one.failed))
        cells = (str(one.number), one.state, _time(one.made_at), _time(one.ended_at), *counts, one.words)
        table.add_row(*(Text(printable(cell), overflow="fold") for cell in cells))
    console.print(table)


def _document(one: Release) -> dict[str, Any]:
    return {**asdict(one), "over": one.state not in AT_WORK}


def _time(at: float | None) -> str:
    return "" if at is None else datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S")
