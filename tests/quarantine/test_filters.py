import sqlite3

import pytest
from hypothesis import given, strategies as st

from mqttproxy.quarantine.filters import Filters, conditions, prepare
from mqttproxy.quarantine.schema import migrate

texts = st.none() | st.text()
filters = st.builds(
    Filters,
    since=st.none() | st.floats(allow_nan=False, allow_infinity=False),
    client_id=texts,
    user=texts,
    policy=texts,
    keyword=texts,
    pointer=texts,
    failure=texts,
    reason=st.none() | st.integers(0, 255),
    ids=st.lists(st.text()).map(tuple),
    states=st.lists(st.text()).map(tuple),
)


@given(filters.filter(lambda chosen: "surrogates not allowed" not in repr(chosen)))
def test_filters_come_back_from_json_as_they_were(chosen: Filters) -> None:
    assert Filters.from_json(chosen.to_json()) == chosen


@pytest.fixture(scope="module")
def empty() -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    migrate(connection, 2)
    prepare(connection)
    return connection


@given(chosen=filters)
def test_any_filters_make_a_condition_that_sqlite_takes(empty: sqlite3.Connection, chosen: Filters) -> None:
    where, values = conditions(chosen)
    assert empty.execute(f"SELECT count(*) FROM held WHERE {' AND '.join(where)}", values).fetchone() == (0,)  # noqa: S608 # ours
