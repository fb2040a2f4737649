"""What is still to be written: what rows are now, each once, and nothing of those that came and went."""

from hypothesis import settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from mqttproxy.journal import Changes, Key, Row
from mqttproxy.sessions.records import IncomingRow, SessionRow


def row(number: int, client_id: str = "a") -> SessionRow:
    return SessionRow(number, client_id, 60.0, None)


def test_of_a_row_that_changed_only_what_it_is_now_is_written() -> None:
    changes = Changes()
    for client_id in "abc":
        changes.put(row(1, client_id), is_new=client_id == "a")
    assert changes.rows[SessionRow] == {1: row(1, "c")}
    assert len(changes) == 1


def test_what_came_and_went_is_not_written_at_all() -> None:
    changes = Changes()
    changes.put(row(1), is_new=True)
    changes.remove(SessionRow, 1)
    assert changes.rows[SessionRow] == {}
    assert not changes


def test_what_may_have_been_there_before_is_removed_for_sure() -> None:
    changes = Changes()
    changes.put(row(1), is_new=False)
    changes.remove(SessionRow, 1)
    changes.remove(SessionRow, 2)
    assert changes.rows[SessionRow] == {1: None, 2: None}
    assert len(changes) == 2


def test_rows_of_different_kinds_have_keys_of_their_own() -> None:
    changes = Changes()
    changes.put(row(1), is_new=True)
    changes.put(IncomingRow(1, 1), is_new=True)
    changes.remove(SessionRow, 1)
    assert changes.rows[IncomingRow] == {(1, 1): IncomingRow(1, 1)}
    assert len(changes) == 1


class AnyOrder(RuleBasedStateMachine):
    """Rows come, change and go; whenever what waits is written, the table is what the rows are."""

    def __init__(self) -> None:
        super().__init__()
        self.changes = Changes()
        self.now: dict[Key, Row] = {}
        self.table: dict[Key, Row] = {}

    @rule(number=st.integers(1, 4), client_id=st.sampled_from("ab"))
    def put(self, number: int, client_id: str) -> None:
        there = number in self.now
        self.now[number] = row(number, client_id)
        self.changes.put(self.now[number], is_new=not there)

    @precondition(lambda self: self.now)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(sorted(self.now)))
        del self.now[number]
        self.changes.remove(SessionRow, number)

    @rule(times=st.integers(1, 2))
    def write(self, times: int) -> None:
        for _ in range(times):  # twice does no harm
            for number, there in self.changes.rows[SessionRow].items():
                if there is None:
                    self.table.pop(number, None)
                else:
                    self.table[number] = there
        self.changes = Changes()
        assert self.table == self.now

    @invariant()
    def counts(self) -> None:
        assert len(self.changes) == len(self.changes.rows[SessionRow])


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(max_examples=60, stateful_step_count=25)
