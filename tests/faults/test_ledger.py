"""The oracle itself: each kind of fault is seen, and what is no fault is not."""

import pytest

from tests.faults.ledger import Ledger, Report, Stream

ONE = Stream("pump", "plant/pump", 1)
TWO = Stream("pump", "plant/pump", 2)


def sent(ledger: Ledger, count: int, stream: Stream = ONE) -> list[bytes]:
    """Send so many messages, all of them acknowledged."""
    payloads = [ledger.send(stream) for _ in range(count)]
    for payload in payloads:
        ledger.acknowledge(payload)
    return payloads


def arrive(ledger: Ledger, *payloads: bytes, at: str = "a", topic: str = ONE.topic) -> Report:
    for payload in payloads:
        ledger.receive(at, topic, payload)
    return ledger.report()


def test_what_arrives_once_everywhere_in_order_is_well() -> None:
    ledger = Ledger(["a", "b"])
    payloads = sent(ledger, 3)
    assert ledger.missing == [3, 3]
    arrive(ledger, *payloads)
    report = arrive(ledger, *payloads, at="b")
    report.check()
    assert (report.sent, report.acknowledged, report.received) == (3, 3, {"a": 3, "b": 3})
    assert ledger.missing == [0, 0]


def test_an_acknowledged_message_that_one_destination_did_not_get_is_lost() -> None:
    ledger = Ledger(["a", "b"])
    payloads = sent(ledger, 3)
    arrive(ledger, *payloads)
    report = arrive(ledger, payloads[0], payloads[2], at="b")
    assert report.lost == 1
    with pytest.raises(AssertionError, match="lost: pump plant/pump 1 1 at b"):
        report.check()


def test_what_was_not_acknowledged_may_arrive_or_not() -> None:
    ledger = Ledger(["a"])
    payloads = [ledger.send(ONE) for _ in range(2)]
    report = arrive(ledger, payloads[1])
    report.check()
    assert (report.sent, report.acknowledged) == (2, 0)


def test_an_acknowledgement_after_the_arrival_and_one_that_comes_twice_change_nothing() -> None:
    ledger = Ledger(["a"])
    payload = ledger.send(ONE)
    arrive(ledger, payload)
    ledger.acknowledge(payload)
    ledger.acknowledge(payload)
    ledger.report().check()


@pytest.mark.parametrize("is_acknowledged", [True, False])
def test_what_was_refused_or_is_held_need_not_arrive(is_acknowledged: bool) -> None:
    ledger = Ledger(["a"])
    refused, held = ledger.send(ONE), ledger.send(ONE)
    if is_acknowledged:
        ledger.acknowledge(held)
    ledger.refuse(refused)
    ledger.hold(held)
    ledger.hold(held)
    report = ledger.report()
    report.check()
    assert (report.refused, report.held) == (1, 1)


@pytest.mark.parametrize("stream", [ONE, TWO])
def test_duplicates_are_counted_by_qos_and_by_the_incident_that_found_them_delivered(stream: Stream) -> None:
    ledger = Ledger(["a"])
    first, second, third = sent(ledger, 3, stream)
    arrive(ledger, first, first)
    ledger.incident()
    arrive(ledger, second, first, first)
    ledger.incident()
    report = arrive(ledger, second, second, third, third)
    assert report.duplicated[stream.qos] == 6
    assert report.worst[stream.qos] == 3  # first, at the first of them
    with pytest.raises(AssertionError, match=f"QoS {stream.qos} twice"):
        report.check()
    report.check(repeats=[stream.qos])


def test_what_a_device_sends_again_is_blamed_on_the_incident_that_took_its_acknowledgement() -> None:
    ledger = Ledger(["a"])
    late = []
    for _ in range(3):
        payloads = [ledger.send(ONE) for _ in range(2)]
        ledger.incident()
        for payload in payloads:
            ledger.acknowledge(payload)
        late += payloads
    for payload in late:  # at a destination that lags
        report = arrive(ledger, payload, payload)
    assert (report.duplicated[1], report.worst[1]) == (6, 2)


def test_a_first_arrival_behind_a_later_one_is_out_of_order_and_a_repetition_is_not() -> None:
    ledger = Ledger(["a"])
    first, second, third = sent(ledger, 3)
    assert arrive(ledger, first, third, first, second).inversions == 1


def test_streams_have_an_order_each() -> None:
    ledger = Ledger(["a"])
    ones, twos = sent(ledger, 2), sent(ledger, 2, TWO)
    arrive(ledger, twos[0], *ones, twos[1]).check()


def test_a_gap_is_not_out_of_order() -> None:
    ledger = Ledger(["a"])
    payloads = [ledger.send(ONE) for _ in range(3)]
    arrive(ledger, payloads[0], payloads[2]).check()


def test_what_was_never_sent_is_a_ghost() -> None:
    ledger, other = Ledger(["a"]), Ledger(["a"])
    sent(ledger, 1)
    strange = [*sent(other, 2), *sent(other, 1, TWO)]
    report = arrive(ledger, *strange)
    assert report.ghosts == 2  # the second of a stream that has one, and one of a stream that has none
    with pytest.raises(AssertionError, match="never sent"):
        report.check()


def test_a_flipped_bit_is_seen_wherever_it_is() -> None:
    ledger = Ledger(["a"])
    (payload,) = sent(ledger, 1)
    for place in range(len(payload)):
        flipped = bytearray(payload)
        flipped[place] ^= 1
        arrive(ledger, bytes(flipped))
    report = arrive(ledger, payload)
    assert report.corrupted == len(payload)
    assert report.lost == report.ghosts == 0
    with pytest.raises(AssertionError, match="corrupted"):
        report.check()


@pytest.mark.parametrize("payload", [b"", b"hello", b"a b c d e"])
def test_what_is_no_payload_of_ours_is_corrupted(payload: bytes) -> None:
    assert arrive(Ledger(["a"]), payload).corrupted == 1


def test_a_message_on_another_topic_than_its_own_is_corrupted() -> None:
    ledger = Ledger(["a"])
    (payload,) = sent(ledger, 1)
    report = arrive(ledger, payload, topic="plant/other")
    assert report.corrupted == 1
    assert report.lost == 1
