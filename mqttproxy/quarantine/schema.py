"""The tables of the quarantine and how they came to be: one migration for each step, never changed once released.

Only imported when there is something to migrate, because sqlite-utils costs 4 MB.
"""

from functools import partial
from typing import Final

from sqlite_utils import Database
from sqlite_utils.migrations import Migrations

from mqttproxy import migrating
from mqttproxy.quarantine.fingerprint import DEVICES_KEPT, fingerprint, normalise

_ISSUES_TAKEN_OVER: Final = 1000  # of messages that were held before there were issues

migrations: Final = Migrations("quarantine")


@migrations()
def m001_held_and_failures(db: Database) -> None:
    """Make the first tables. `payload` stands last, so that filters need not read over it."""
    db.execute("""
        CREATE TABLE held (
            seq INTEGER PRIMARY KEY,
            id TEXT NOT NULL UNIQUE,
            at REAL NOT NULL,
            state TEXT NOT NULL,
            client_id TEXT NOT NULL,
            username TEXT,
            address TEXT NOT NULL,
            listener TEXT NOT NULL,
            topic TEXT NOT NULL,
            qos INTEGER NOT NULL,
            retain INTEGER NOT NULL,
            policy TEXT,
            schema TEXT,
            reason INTEGER NOT NULL,
            weight INTEGER NOT NULL,
            payload_size INTEGER NOT NULL,
            file TEXT,
            properties TEXT,
            payload BLOB
        )
    """)
    db.execute("""
        CREATE TABLE failures (
            held INTEGER NOT NULL REFERENCES held(seq) ON DELETE CASCADE,
            place INTEGER NOT NULL,
            pointer TEXT NOT NULL,
            keyword TEXT NOT NULL,
            message TEXT NOT NULL,
            PRIMARY KEY (held, place)
        ) WITHOUT ROWID
    """)
    # The first one also answers "how many, how large" and "which are the oldest" without touching the table.
    db.execute("CREATE INDEX held_by_time ON held(at, weight, file)")
    db.execute("CREATE INDEX held_by_topic ON held(topic, at)")
    db.execute("CREATE INDEX held_by_client ON held(client_id, at)")
    db.execute("CREATE INDEX held_by_policy ON held(policy, at)")
    db.execute("CREATE INDEX held_by_file ON held(file) WHERE file IS NOT NULL")


@migrations()
def m002_issues_and_releases(db: Database) -> None:
    """Make the tables of issues and of releases, and group what is held already."""
    columns = "destination TEXT", "attributes TEXT", "is_masked INTEGER NOT NULL DEFAULT 0"
    for column in (*columns, "release INTEGER", "released_at REAL"):
        db.execute(f"ALTER TABLE held ADD COLUMN {column}")
    # policy and schema: where they are not those of the message
    for column in ("issue TEXT NOT NULL DEFAULT ''", "policy TEXT", "schema TEXT"):
        db.execute(f"ALTER TABLE failures ADD COLUMN {column}")
    db.execute("""
        CREATE TABLE issues (
            id TEXT PRIMARY KEY,
            policy TEXT,
            schema TEXT,
            pointer TEXT NOT NULL,
            keyword TEXT NOT NULL,
            state TEXT NOT NULL,
            state_at REAL NOT NULL,
            first_seen REAL NOT NULL,
            last_seen REAL NOT NULL,
            count INTEGER NOT NULL,
            devices INTEGER NOT NULL,
            sample TEXT NOT NULL
        ) WITHOUT ROWID
    """)
    db.execute("""
        CREATE TABLE issue_devices (
            issue TEXT NOT NULL REFERENCES issues(id) ON DELETE CASCADE,
            device TEXT NOT NULL,
            PRIMARY KEY (issue, device)
        ) WITHOUT ROWID
    """)
    db.execute("""
        CREATE TABLE releases (
            number INTEGER PRIMARY KEY,
            state TEXT NOT NULL,
            words TEXT NOT NULL,
            made_at REAL NOT NULL,
            ended_at REAL,
            filters TEXT NOT NULL,
            recipe TEXT,
            destinations TEXT,
            options TEXT NOT NULL,
            rate REAL NOT NULL,
            failure_ratio REAL NOT NULL,
            upto INTEGER NOT NULL,
            cursor INTEGER NOT NULL,
            total INTEGER NOT NULL,
            released INTEGER NOT NULL,
            failed INTEGER NOT NULL
        )
    """)
    _group(db)
    db.execute("CREATE INDEX failures_by_issue ON failures(issue, held)")
    db.execute("CREATE INDEX failures_by_policy ON failures(policy, held) WHERE policy IS NOT NULL")
    db.execute("CREATE INDEX held_by_release ON held(release, state) WHERE release IS NOT NULL")


@migrations()
def m003_owners(db: Database) -> None:
    """Count what each owner has. What is held already is its user's, if it has one: nobody knows who was asked."""
    db.execute("ALTER TABLE held ADD COLUMN owner TEXT NOT NULL DEFAULT ''")
    db.execute("""
        CREATE TABLE owners (
            owner TEXT PRIMARY KEY,
            messages INTEGER NOT NULL,
            bytes INTEGER NOT NULL
        ) WITHOUT ROWID
    """)
    if db.execute("SELECT 1 FROM held LIMIT 1").fetchone():  # what this needs is not imported for a new database
        db.register_function(_owner_before)
        db.execute("UPDATE held SET owner = _owner_before(username, address, listener)")
    db.execute("INSERT INTO owners SELECT owner, count(*), sum(weight) FROM held GROUP BY owner")
    db.execute("CREATE INDEX held_by_owner ON held(owner, at, weight, file)")
    # The writer adds, once for a commit; commands remove too.
    db.execute("""
        CREATE TRIGGER held_removed AFTER DELETE ON held BEGIN
            UPDATE owners SET messages = messages - 1, bytes = bytes - OLD.weight WHERE owner = OLD.owner;
            DELETE FROM owners WHERE owner = OLD.owner AND messages <= 0;
        END
    """)


def _owner_before(username: str | None, address: str, listener: str) -> str:
    from mqttproxy.quarantine.owners import owner_of  # noqa: PLC0415 - 10 MB

    return owner_of(username, address, listener, is_authenticated=True)


def _group(db: Database) -> None:
    """Give each failure its issue, and upstreams' refusals their destination."""
    db.register_function(fingerprint)
    db.register_function(normalise)
    db.execute("""
        UPDATE failures SET issue = (
            SELECT fingerprint(held.policy, held.schema, failures.pointer, failures.keyword)
            FROM held WHERE seq = failures.held
        )
    """)
    db.execute(f"""
        INSERT INTO issues
        SELECT issue, held.policy, held.schema, normalise(pointer), keyword, 'open', max(at), min(at), max(at),
               count(DISTINCT seq), 0, max(id)
        FROM failures JOIN held ON seq = held GROUP BY issue ORDER BY max(at) DESC LIMIT {_ISSUES_TAKEN_OVER}
    """)  # noqa: S608 # our own number
    db.execute(f"""
        INSERT INTO issue_devices SELECT issue, device FROM (
            SELECT issue, device, row_number() OVER (PARTITION BY issue) AS place FROM (
                SELECT DISTINCT issue, substr(iif(client_id = '', listener, client_id), 1, 100) AS device
                FROM failures JOIN held ON seq = held WHERE issue IN (SELECT id FROM issues)
            )
        ) WHERE place <= {DEVICES_KEPT}
    """)  # noqa: S608 # our own number
    db.execute("UPDATE issues SET devices = (SELECT count(*) FROM issue_devices WHERE issue = id)")
    for keyword, begin, end in (
        ("upstream", "upstream ", " answered "),
        ("upstream_poison", "the link to upstream ", " was lost "),
    ):
        db.execute(
            """
            UPDATE held SET destination = substr(message, :from, instr(message, :end) - :from)
            FROM failures WHERE failures.held = held.seq AND keyword = :keyword AND held.policy IS NULL
            AND substr(message, 1, :from - 1) = :begin AND instr(message, :end) > :from
        """,
            {"from": len(begin) + 1, "begin": begin, "end": end, "keyword": keyword},
        )


migrate: Final = partial(migrating.migrate, migrations)
