"""The table of results, kept in a file: a new one, or a page that has it already, such as docs/security.md."""

from pathlib import Path

from fuzz.session import HEAD, Summary


def add_row(path: Path, summary: Summary) -> None:
    """Write the row of a run into the table of a file, in place of the one that the target had, guided the same way.

    What is around the table stays as it is; a file without it gets it at its end. Runs at the same time need
    a file each.
    """
    row = str(summary)
    text = path.read_text() if path.exists() else ""
    if HEAD not in text:
        text = f"{text}{HEAD}\n"
    before, _, after = text.partition(f"{HEAD}\n")
    lines = after.splitlines()
    size = next((number for number, line in enumerate(lines) if not line.startswith("|")), len(lines))
    rows, rest = lines[:size], lines[size:]
    places = [number for number, line in enumerate(rows) if _subject(line) == _subject(row)]
    if places:
        rows[places[0]] = row
    else:
        rows.append(row)
    path.write_text(f"{before}{HEAD}\n" + "".join(f"{line}\n" for line in (*rows, *rest)))


def _subject(row: str) -> list[str]:
    """Return the target of a row, and by what it was guided."""
    return row.split("|")[1:3]
