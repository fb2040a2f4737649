"""`mqttproxy quarantine …`: look at what was held, decide on it, let it go. Here: list, show and purge."""

import sys
from typing import Annotated, Final

from cyclopts import App, Parameter
from cyclopts.validators import Number

from mqttproxy.cli.held_export import export
from mqttproxy.cli.held_issues import issues, mute, reopen, resolve
from mqttproxy.cli.held_masks import veil_of
from mqttproxy.cli.held_options import (
    ALL,
    FILE,
    Config,
    FilterOptions,
    Switch,
    Unmasked,
    agreed,
    look,
    messages_of,
)
from mqttproxy.cli.held_output import as_line, describe, printable, tabulate
from mqttproxy.cli.held_release import cancel, release, releases
from mqttproxy.cli.output import complain, say
from mqttproxy.quarantine.archive import Archive

quarantine_app: Final = App(
    name="quarantine",
    help="Look at the messages that were held, and why; decide on them; export, purge or release them. Times in tables "
    "are UTC.",
)


@quarantine_app.command(name="list")
def list_(
    *,
    config: Config = FILE,
    options: FilterOptions = ALL,
    limit: Annotated[int, Parameter(validator=Number(gte=1))] = 50,
    after: str | None = None,
    unmasked: Unmasked = False,
    json: Switch = False,
) -> int:
    """List held messages, the newest first.

    Args:
        config: the configuration of the proxy, which tells where its data is.
        options: which messages.
        limit: at most so many.
        after: only those behind this one, by its identifier: the next page.
        unmasked: what failures say, also where `[[masks]]` hide the value; it is told in the audit trail.
        json: one JSON object a line, for programs.

    """

    def work(archive: Archive) -> int:
        last = None if after is None else archive.get(after.upper())
        if after is not None and last is None:
            complain(f"{printable(after)}: no such message is held")
            return 1
        veil = veil_of(config, unmasked=unmasked, what="quarantine list")
        records = [veil.record(one) for one in archive.search(options.filters(), limit=limit + 1, after=last)]
        for record in records[:limit] if json else ():
            say(as_line(record))
        if not json:
            tabulate(records[:limit], sys.stdout)
            if len(records) > limit:
                which = "newest" if after is None else "next"
                say(f"the {which} {limit} are shown: --after {records[limit - 1].id} shows those behind them")
        return 0

    return look(config, work, none=0)


@quarantine_app.command
def show(
    identifier: str,
    /,
    *,
    config: Config = FILE,
    raw: Switch = False,
    unmasked: Unmasked = False,
    json: Switch = False,
) -> int:
    """Show everything about one held message.

    Args:
        identifier: as `list` shows it.
        config: the configuration of the proxy.
        raw: write only the payload, its original bytes if they are not masked.
        unmasked: the payload as it is stored, without `[[masks]]`; it is told in the audit trail.
        json: write one JSON object, as `export` does.

    """
    if raw and json:
        complain("use either --raw or --json")
        return 2

    def work(archive: Archive) -> int:
        record = archive.get(identifier.upper())
        payload = None if record is None else archive.payload(record)
        if record is None or payload is None:
            complain(f"{printable(identifier)}: no such message is held")
            return 1
        veil = veil_of(config, unmasked=unmasked, what=f"quarantine show {record.id}")
        record, payload = veil.record(record), veil.payload(payload, record.topic)
        if raw:
            sys.stdout.buffer.write(payload)
            sys.stdout.buffer.flush()
        else:
            say(as_line(record, payload) if json else describe(record, payload))
        return 0

    return look(config, work, none=1)


@quarantine_app.command
def purge(
    *,
    config: Config = FILE,
    options: FilterOptions = ALL,
    everything: Annotated[bool, Parameter(name="--all", negative=())] = False,
    yes: Switch = False,
    json: Switch = False,
) -> int:
    """Remove held messages for good. The proxy may be running.

    Args:
        config: the configuration of the proxy.
        options: which messages; at least one filter, or --all.
        everything: remove all messages.
        yes: do not ask.
        json: tell the number as a JSON object.

    """
    if everything == (options != ALL):
        complain("give filters for what to remove, or --all" + (", not both" if everything else ""))
        return 2

    def work(archive: Archive) -> int:
        filters = options.filters(("held", "released"))  # one that is being released will be one or the other
        total = archive.total(filters)
        if total.messages and not (yes or agreed(f"remove {messages_of(total.messages)} for good?")):
            complain("nothing was removed")
            return 1
        removed = archive.purge(filters) if total.messages else 0
        say(f'{{"removed": {removed}}}' if json else f"{messages_of(removed)} removed")
        return 0

    return look(config, work, none=0, writable=True)


for command in (issues, mute, resolve, reopen, export, release, releases, cancel):
    quarantine_app.command(command)
