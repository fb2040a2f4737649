from pathlib import Path

from mqttproxy.database import make_store
from mqttproxy.journal import Changes
from mqttproxy.quarantine.rows import ReleaseRow


def test_rows_come_back_until_they_are_removed(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    changes = Changes()
    for identifier in ("a", "b"):
        changes.put(ReleaseRow(identifier), is_new=True)
    store.apply(changes)
    assert store.load()[ReleaseRow] == [ReleaseRow("a"), ReleaseRow("b")]
    gone = Changes()
    gone.remove(ReleaseRow, "a")
    store.apply(gone)
    assert store.load()[ReleaseRow] == [ReleaseRow("b")]
    store.close()
