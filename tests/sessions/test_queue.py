from mqttproxy.mqtt.packets import Message, Properties, Timed
from mqttproxy.sessions.queue import OVERHEAD, DeviceQueue, weigh


def message(number: int, qos: int = 1, size: int = 1) -> Message:
    return Message(f"t/{number}", b"x" * size, qos)


def test_no_more_than_the_quota_of_qos_1_and_2_is_taken() -> None:
    queue = DeviceQueue()
    for number, qos in enumerate((1, 0, 1, 0), 1):
        queue.append(message(number, qos), None)
    for quota, expected in ((1, ["t/1", "t/2"]), (0, []), (1, ["t/3", "t/4"])):
        assert [taken.topic for taken, _ in queue.take(quota, 1000, 0.0)[0]] == expected


def test_taking_stops_after_about_the_bytes_asked_for() -> None:
    queue = DeviceQueue()
    for number in range(4):
        queue.append(message(number, size=50), None)
    assert len(queue.take(10, 60, 0.0)[0]) == 2
    assert queue.size == 100


def test_a_queue_of_any_length_gives_what_it_was_given_in_order() -> None:
    queue = DeviceQueue()
    for length in (1, 31, 32, 33, 100):
        for number in range(length):
            queue.append(message(number), number)
        assert len(queue) == length
        assert [token for _, token in queue] == list(range(length))
        taken, over = queue.take(length + 1, 1000, 0.0)
        assert [token for _, token in taken] == list(range(length))
        assert not over
        assert queue.size == len(queue) == 0


def test_removing_some_leaves_the_others_in_order() -> None:
    queue = DeviceQueue()
    for number in range(10):
        queue.append(message(number, qos=number % 2), number)
    assert [token for _, token in queue.remove(lambda waiting: waiting.qos == 0)] == [0, 2, 4, 6, 8]
    assert [token for _, token in queue] == [1, 3, 5, 7, 9]
    assert queue.size == 5


def test_what_is_over_is_given_apart_and_the_rest_with_what_is_left_of_its_time() -> None:
    queue = DeviceQueue()
    interval = Properties(message_expiry_interval=10)
    for end in (5.0, 8.5):
        queue.append(Timed("t", b"x", 1, False, interval, end), end)
    taken, over = queue.take(1, 1000, 5.0)
    assert [token for _, token in over] == [5.0]
    assert [waiting.properties.message_expiry_interval for waiting, _ in taken] == [4]


def test_weight_counts_all_that_a_device_can_make_long() -> None:
    long = Properties(
        correlation_data=b"12", content_type="345", response_topic="6789", user_properties=(("ab", "cd"), ("e", ""))
    )
    assert weigh(Message("topic", b"123")) == OVERHEAD + 8
    assert weigh(Message("topic", b"123", properties=long)) == OVERHEAD + 8 + 9 + 5
