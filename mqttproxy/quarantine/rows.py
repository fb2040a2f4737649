"""What the journal keeps of releases: the messages that were let go and of which the quarantine may not know it yet."""

from typing import Final

from mqttproxy.journal import Key, Row
from mqttproxy.journal.store import Table


class ReleaseRow(Row, frozen=True, gc=False):
    """A held message was let go: it is in the same commit as whatever was noted of it for spool and sessions."""

    id: str

    @property
    def key(self) -> Key:
        """The identifier of the held message."""
        return self.id


TABLES: Final[dict[type[Row], Table]] = {
    ReleaseRow: Table("releases", "id", "id", lambda row: (row.id,), lambda values: ReleaseRow(*values)),
}
