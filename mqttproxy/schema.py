"""The tables of the journal and how they came to be: one migration for each step, never changed once released.

Only imported when there is something to migrate, because sqlite-utils costs 4 MB.
"""

from functools import partial
from typing import Final

from sqlite_utils import Database
from sqlite_utils.migrations import Migrations

from mqttproxy import migrating

migrations: Final = Migrations("sessions")


@migrations()
def m001_sessions(db: Database) -> None:
    """Make the first tables. Rows are found by their key only, or all are read: there is no other index.

    Nothing refers to another table for SQLite to check: all of a session goes in one transaction.
    """
    db.execute("""
        CREATE TABLE sessions (
            number INTEGER PRIMARY KEY,
            client_id TEXT NOT NULL,
            expiry REAL NOT NULL,
            ended_at REAL
        )
    """)
    db.execute("""
        CREATE TABLE subscriptions (
            session INTEGER NOT NULL,
            topic_filter TEXT NOT NULL,
            qos INTEGER NOT NULL,
            no_local INTEGER NOT NULL,
            retain_as_published INTEGER NOT NULL,
            retain_handling INTEGER NOT NULL,
            identifier INTEGER NOT NULL,
            PRIMARY KEY (session, topic_filter)
        ) WITHOUT ROWID
    """)
    db.execute("""
        CREATE TABLE messages (
            number INTEGER PRIMARY KEY,
            topic TEXT NOT NULL,
            expires_at REAL,
            properties TEXT,
            payload BLOB NOT NULL
        )
    """)
    db.execute("""
        CREATE TABLE queued (
            number INTEGER PRIMARY KEY,
            session INTEGER NOT NULL,
            message INTEGER NOT NULL,
            qos INTEGER NOT NULL,
            retain INTEGER NOT NULL,
            identifiers TEXT,
            shared_filter TEXT,
            packet_id INTEGER NOT NULL,
            released INTEGER NOT NULL
        )
    """)
    db.execute("""
        CREATE TABLE incoming_qos2 (
            session INTEGER NOT NULL,
            packet_id INTEGER NOT NULL,
            PRIMARY KEY (session, packet_id)
        ) WITHOUT ROWID
    """)
    db.execute("""
        CREATE TABLE retained (
            topic TEXT PRIMARY KEY,
            qos INTEGER NOT NULL,
            expires_at REAL,
            properties TEXT,
            payload BLOB NOT NULL
        )
    """)
    db.execute("""
        CREATE TABLE wills (
            number INTEGER PRIMARY KEY,
            client_id TEXT NOT NULL,
            username TEXT,
            address TEXT NOT NULL,
            listener TEXT NOT NULL,
            delay REAL NOT NULL,
            due REAL,
            topic TEXT NOT NULL,
            qos INTEGER NOT NULL,
            retain INTEGER NOT NULL,
            properties TEXT,
            payload BLOB NOT NULL
        )
    """)


@migrations()
def m002_spool(db: Database) -> None:
    """Make the tables of the spool, and count commits and starts, so that missing ones are noticed."""
    db.execute("""
        CREATE TABLE runs (
            first INTEGER PRIMARY KEY,
            last INTEGER NOT NULL,
            mask INTEGER NOT NULL,
            epoch INTEGER NOT NULL,
            at REAL NOT NULL,
            messages INTEGER NOT NULL,
            size INTEGER NOT NULL,
            data BLOB NOT NULL
        )
    """)
    db.execute("CREATE INDEX runs_by_mask ON runs (mask, last, messages, size)")
    db.execute("""
        CREATE TABLE destinations (
            number INTEGER PRIMARY KEY,
            name TEXT NOT NULL,
            cursor INTEGER NOT NULL,
            account TEXT NOT NULL
        )
    """)
    db.execute("""
        CREATE TABLE in_flight (
            destination INTEGER NOT NULL,
            packet_id INTEGER NOT NULL,
            message INTEGER NOT NULL,
            released INTEGER NOT NULL,
            PRIMARY KEY (destination, packet_id)
        ) WITHOUT ROWID
    """)
    db.execute("CREATE TABLE starts (commits INTEGER NOT NULL, epoch INTEGER NOT NULL)")
    db.execute("INSERT INTO starts VALUES (0, 0)")


@migrations()
def m003_attributes(db: Database) -> None:
    """Keep with a will what policies choose by."""
    db.execute("ALTER TABLE wills ADD COLUMN attributes TEXT")


@migrations()
def m004_releases(db: Database) -> None:
    """Make the table of held messages that were let go."""
    db.execute("CREATE TABLE releases (id TEXT PRIMARY KEY) WITHOUT ROWID")


@migrations()
def m005_owners(db: Database) -> None:
    """Keep with a session whose it is. Those that were there before are nobody's, until a user takes them up."""
    db.execute("ALTER TABLE sessions ADD COLUMN owner TEXT")


@migrations()
def m006_senders(db: Database) -> None:
    """Keep with a retained message who sent it, for subscriptions with No Local."""
    db.execute("ALTER TABLE retained ADD COLUMN sender TEXT NOT NULL DEFAULT ''")


migrate: Final = partial(migrating.migrate, migrations)
