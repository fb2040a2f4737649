"""What is on record of exchanges of QoS 2 with a broker: enough that nothing comes twice after a crash, and no more."""

import pytest

from mqttproxy.journal import Row
from mqttproxy.mqtt.packets import Message
from mqttproxy.spool import Entry, Exchanges
from mqttproxy.spool.entry import Share
from mqttproxy.spool.feed import Feed, Item
from mqttproxy.spool.rows import InFlightRow
from tests.fake_rooms import FakeJournal
from tests.spool.examples import SENDER


class Notebook(FakeJournal):
    """Keeps the rows that are there, by key, and commits when the test says so."""

    def __init__(self) -> None:
        super().__init__(at_once=False)
        self.rows: dict[object, Row] = {}

    def put(self, row: Row) -> None:
        self.rows[row.key] = row

    def remove(self, kind: type[Row], key: object) -> None:
        assert kind is InFlightRow
        self.rows.pop(key, None)

    @property
    def there(self) -> list[tuple[int, int, bool]]:
        """Packet identifier, number and whether PUBREC came, of each row."""
        rows = [row for row in self.rows.values() if isinstance(row, InFlightRow)]
        assert {row.destination for row in rows} <= {3}
        return sorted((row.packet_id, row.message, row.released) for row in rows)


def item(number: int, qos: int = 2) -> Item:
    return Message("t", b"%d" % number, qos), Entry(number, 1, Share(8), SENDER, None, 1)


def make() -> tuple[Exchanges, Notebook, Feed]:
    journal, feed = Notebook(), Feed(3, "a")
    return Exchanges(journal, feed), journal, feed


def send(exchanges: Exchanges, *numbers: int) -> None:
    """Send messages under packet identifiers that are ten times their numbers."""
    for number in numbers:
        exchanges.outgoing[10 * number] = item(number)
    exchanges.begin([10 * number for number in numbers])


def test_before_publish_goes_out_its_packet_identifier_is_on_record_and_until_then_it_is_held() -> None:
    exchanges, journal, _ = make()
    told: list[int] = []
    exchanges.on_commit = lambda: told.append(exchanges.committed)
    send(exchanges, 1, 2)
    assert journal.there == [(10, 1, False), (20, 2, False)]
    assert (exchanges.holds, exchanges.committed) == (1, 0)  # one for what goes together
    journal.commit()
    assert (exchanges.committed, told) == (1, [1])


def test_before_pubrel_goes_out_pubrec_is_on_record() -> None:
    exchanges, journal, _ = make()
    send(exchanges, 1)
    journal.commit()
    exchanges.release(10)
    assert journal.there == [(10, 1, True)]
    assert (exchanges.holds, exchanges.committed) == (2, 1)


def test_of_qos_1_nothing_is_noted_and_nothing_held() -> None:
    exchanges, journal, _ = make()
    exchanges.outgoing[1] = item(1, qos=1)
    exchanges.begin([1])
    assert (journal.there, exchanges.holds) == ([], 0)


def test_of_what_is_not_in_the_spool_the_packet_identifier_is_noted_until_the_exchange_is_over() -> None:
    exchanges, journal, _ = make()
    exchanges.outgoing[2] = (Message("t", b"", 2), "another token")
    exchanges.begin([2])
    exchanges.release(2)
    assert (journal.there, exchanges.holds) == ([(2, 0, True)], 2)
    exchanges.end([2], accepted=True)
    assert journal.there == []


def test_an_exchange_that_is_over_stays_on_record_until_the_cursor_on_disk_has_passed_it() -> None:
    exchanges, journal, feed = make()
    send(exchanges, 1, 2)
    for packet_id in (20, 10):
        exchanges.release(packet_id)
    exchanges.end([20, 10], accepted=True)
    assert journal.there == [(10, 1, True), (20, 2, True)]
    feed.cursor_noted(0)
    assert journal.there == [(10, 1, True), (20, 2, True)]
    feed.cursor_noted(1)
    assert journal.there == [(20, 2, True)]
    feed.cursor_noted(2)
    assert journal.there == []


def test_one_that_was_refused_goes_at_once() -> None:
    exchanges, journal, _ = make()
    send(exchanges, 1, 2)
    exchanges.end([10], accepted=False)
    assert journal.there == [(20, 2, False)]


def test_a_packet_identifier_that_is_used_again_before_that_is_the_new_messages() -> None:
    exchanges, journal, feed = make()
    send(exchanges, 1)
    exchanges.end([10], accepted=True)
    exchanges.outgoing[10] = item(2)
    exchanges.begin([10])
    assert journal.there == [(10, 2, False)]
    feed.cursor_noted(1)
    assert journal.there == [(10, 2, False)]  # the old one's end does not strike it off
    exchanges.end([10], accepted=True)
    feed.cursor_noted(2)
    assert journal.there == []


def test_what_the_last_process_left_goes_on_and_ends_as_any_other() -> None:
    exchanges, journal, feed = make()
    rows = [InFlightRow(3, 10, 1, True), InFlightRow(3, 20, 2, False)]
    for row in rows:
        journal.put(row)
    exchanges.go_on([(row, item(row.message)) for row in rows], [])
    assert list(exchanges.outgoing) == [10, 20]
    assert exchanges.released == {10}
    exchanges.end([10], accepted=True)
    exchanges.release(20)
    feed.cursor_noted(1)
    assert journal.there == [(20, 2, True)]


@pytest.mark.parametrize(("left", "doubtful"), [(None, (0, 1, 1)), ([], None), ([11], (0, 1, 0))])
def test_in_doubt_is_what_is_on_record_without_its_message_or_all_if_there_is_no_record(
    left: list[int] | None, doubtful: tuple[int, int, int] | None
) -> None:
    exchanges, _, _ = make()
    exchanges.go_on([(InFlightRow(3, 10, 1, False), item(1))], left)
    exchanges.doubt()
    found = exchanges.doubtful
    assert (None if found is None else tuple(found[10:13])) == doubtful


def test_when_the_broker_has_forgotten_us_publish_is_the_next_step_on_record_too() -> None:
    exchanges, journal, _ = make()
    send(exchanges, 1, 2)
    exchanges.release(10)
    exchanges.forget_progress()
    assert exchanges.released == set()
    assert journal.there == [(10, 1, False), (20, 2, False)]


def test_with_the_destination_its_record_goes() -> None:
    exchanges, journal, _ = make()
    send(exchanges, 1, 2)
    exchanges.release(10)
    exchanges.abandon()
    assert journal.there == []
