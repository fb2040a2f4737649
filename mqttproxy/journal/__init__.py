"""The journal: what must not be lost, on its way to disk in one commit for all that waits. For rows of any room.

Rooms note rows: what they are from now on, or that they are gone. Which tables there are, `mqttproxy.database` says.
"""

from mqttproxy.journal.journal import Journal, Store
from mqttproxy.journal.rows import Changes, Key, Loaded, Row

__all__ = ["Changes", "Journal", "Key", "Loaded", "Row", "Store"]
