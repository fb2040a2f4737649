from mqttproxy.mqtt.packets import Message
from mqttproxy.sessions import DeviceQueue


def message(number: int, qos: int = 1, size: int = 1) -> Message:
    return Message(f"t/{number}", b"x" * size, qos)


def test_messages_come_out_in_the_order_they_went_in() -> None:
    queue = DeviceQueue(max_messages=10, max_bytes=1000)
    queue.put([message(1), message(2, qos=0), message(3)])
    assert [taken.topic for taken in queue.take(10, 1000)] == ["t/1", "t/2", "t/3"]
    assert len(queue) == 0
    assert queue.size == 0


def test_exactly_the_bound_in_messages_is_taken_and_the_rest_dropped() -> None:
    queue = DeviceQueue(max_messages=3, max_bytes=1000)
    assert queue.put([message(n) for n in range(5)]) == 2
    assert len(queue) == 3


def test_the_bound_in_bytes_holds_as_well() -> None:
    queue = DeviceQueue(max_messages=100, max_bytes=10)
    assert queue.put([message(1, size=6), message(2, size=6)]) == 1
    assert queue.size == 6


def test_no_more_than_the_quota_of_qos_1_and_2_is_taken() -> None:
    queue = DeviceQueue(max_messages=10, max_bytes=1000)
    queue.put([message(1), message(2, qos=0), message(3), message(4, qos=0)])
    assert [taken.topic for taken in queue.take(1, 1000)] == ["t/1", "t/2"]
    assert [taken.topic for taken in queue.take(0, 1000)] == []
    assert [taken.topic for taken in queue.take(1, 1000)] == ["t/3", "t/4"]


def test_taking_stops_after_about_the_bytes_asked_for() -> None:
    queue = DeviceQueue(max_messages=10, max_bytes=1000)
    queue.put([message(n, size=50) for n in range(4)])
    assert len(queue.take(10, 60)) == 2
    assert queue.size == 100
