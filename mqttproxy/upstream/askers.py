"""Who asked lately for what a broker retains, where its messages do not say which asking brought them (MQTT 3.1.1).

The broker answers each SUBSCRIBE with all that it retains for the filter, and says of such a message only that it is a
retained one. The first copy of it after an asking is for everybody who asked and has not had the topic since, retained
or live; further copies are for those who asked later. That is exact, but in two cases:

- A message that comes more than PATIENCE after the last one for an asking, or after ASKINGS_LIMIT others have asked, is
  not counted as its answer: the device does not get it.
- Of more than TOPICS_LIMIT topics, those beyond may reach a device once more when another one asks meanwhile.
"""

from typing import Final

from attrs import define, field

from mqttproxy.mqtt.topics import FilterTree

PATIENCE: Final = 30.0  # seconds
ASKINGS_LIMIT: Final = 1000
TOPICS_LIMIT: Final = 100_000  # remembered over all askings


@define(eq=False)
class _Asked:
    topic_filter: str
    retained_for: tuple[object, ...]
    latest: float  # when it was asked, or something retained came for it
    had: set[str] = field(factory=set)  # topics


class Askers:
    """Memory of one link."""

    def __init__(self) -> None:
        self._tree: FilterTree[_Asked] = FilterTree()
        self._asked: dict[_Asked, None] = {}  # oldest first
        self._topics = 0

    def note(self, topic_filter: str, retained_for: tuple[object, ...], now: float) -> None:
        """Remember who has asked now for a filter that is not shared. `now`: monotonic seconds."""
        while self._asked:
            oldest = next(iter(self._asked))
            if len(self._asked) < ASKINGS_LIMIT and now - oldest.latest <= PATIENCE:
                break
            self._forget(oldest)
        asked = _Asked(topic_filter, retained_for, now)
        self._asked[asked] = None
        self._tree.add(topic_filter, asked)

    def claim(self, topic: str, now: float) -> list[object]:
        """Return for whom a retained message is."""
        claimed: list[object] = []
        for asked in self._waiting(topic, now):
            asked.latest = now
            claimed.extend(asked.retained_for)
        return claimed

    def saw(self, topic: str, now: float) -> None:
        """Hear that a live message came: a retained one that comes later is older, or the very same."""
        if self._asked:
            self._waiting(topic, now)

    def _waiting(self, topic: str, now: float) -> list[_Asked]:
        """Return the askings that had nothing on this topic until now; from now on they had."""
        waiting = []
        for asked in self._tree.match(topic):
            if now - asked.latest > PATIENCE:
                self._forget(asked)
            elif topic not in asked.had:
                waiting.append(asked)
                if self._topics < TOPICS_LIMIT:
                    asked.had.add(topic)
                    self._topics += 1
        return waiting

    def _forget(self, asked: _Asked) -> None:
        self._topics -= len(asked.had)
        self._tree.remove(asked.topic_filter, asked)
        del self._asked[asked]
