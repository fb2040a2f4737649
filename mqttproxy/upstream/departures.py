"""What waits for a broker, made ready to go: with what is left of its time, in its shape, under the broker's names."""

from collections.abc import Callable

import trio

from mqttproxy.mqtt.packets import Timed
from mqttproxy.mqtt.reasons import ReasonCode
from mqttproxy.upstream.books import Books, size_of
from mqttproxy.upstream.callbacks import Callbacks, Refusal
from mqttproxy.upstream.guard import without_stamps
from mqttproxy.upstream.mapping import NO_MAP
from mqttproxy.upstream.naming import Naming
from mqttproxy.upstream.outbox import Item, still_alive
from mqttproxy.upstream.shaping import shaped


class Departures:
    """Of one link. `refuse` is told of what has no place at the broker, or with nothing: something came to its end."""

    def __init__(
        self, name: str, naming: Naming, books: Books, callbacks: Callbacks, refuse: Callable[[list[Refusal]], None]
    ) -> None:
        self._name = name
        self._naming = naming
        self._books = books
        self._callbacks = callbacks
        self._refuse = refuse

    def ready(self, items: list[Item], size: int, *, loop_guard: bool) -> tuple[list[Item], int]:
        """Return items as they go, and their payload bytes, which were `size`."""
        if Timed in [type(item[0]) for item in items]:
            items, size = self._alive(items)
        if not loop_guard:
            items = [(without_stamps(message), token) for message, token in items]
        if (shape := self._callbacks.shape_of(self._name)) is not None:
            items, refused = shaped(items, shape)
            size = size_of(items)
            if refused:
                self._refuse(refused)
        if self._naming.topics is not NO_MAP:
            return self._renamed(items)
        return items, size

    def _alive(self, items: list[Item]) -> tuple[list[Item], int]:
        alive, over = still_alive(items, trio.current_time())
        if over:
            self._books.drop(len(over), "expired")
            if told := [token for token in over if token is not None]:
                self._callbacks.dropped(self._name, told)
            self._refuse([])
        return alive, size_of(alive)

    def _renamed(self, items: list[Item]) -> tuple[list[Item], int]:
        named, homeless = self._naming.departures(items)
        if homeless:
            self._refuse([(token, message, ReasonCode.TOPIC_NAME_INVALID) for message, token in homeless])
        return named, size_of(named)
