"""Which message kills the link: what was in flight at several lost links is suspect, and tried alone.

A broker that crashes over one message, or hangs up on it, would be sent that message for ever, and nothing behind it
would arrive. So each message is counted against the links that were lost while it was in flight. After `SUSPECT_AFTER`
of them it is in flight by itself over the next link; a link that is lost then shows that it was this one.
"""

from collections.abc import Collection, Mapping
from typing import Final

from attrs import define, frozen

from mqttproxy.mqtt.packets import Message

SUSPECT_AFTER: Final = 3  # lost links

Item = tuple[Message, object]  # with the token of whoever wants to hear of it


@define
class _Record:
    item: Item
    links: int = 0  # lost with it in flight
    alone: int = 0  # of these, since it was in flight by itself
    answers: int = 0  # of the broker when it became suspect


@frozen
class Verdict:
    """The message that kills links, and how many it was in flight at."""

    packet_id: int
    links: int


class Suspects:
    """Counts lost links against the messages of one session. The caller says which links count: see `Trouble`."""

    def __init__(self) -> None:
        self._records: dict[int, _Record] = {}

    def lost(
        self, outgoing: Mapping[int, Item], sent: Collection[int], *, was_silent: bool, answers: int
    ) -> Verdict | None:
        """Count a link that was lost or fell silent.

        Args:
            outgoing: the session's messages, by packet identifier.
            sent: those that went over the link and were not answered. Not those that have PUBREC: they are not sent
                again, whatever becomes of the link.
            was_silent: it fell silent, which a broker that acknowledges nothing at all does too.
            answers: how often the broker has acknowledged anything, over all links.

        Returns:
            The message that is to be taken out, or None.

        """
        self._keep(outgoing)
        guilty = None
        for packet_id in sent:
            record = self._records.setdefault(packet_id, _Record(outgoing[packet_id]))
            if record.links >= SUSPECT_AFTER:
                record.alone += 1
                # Silence shows something only of a broker that acknowledges others, or when it goes on.
                if not was_silent or answers > record.answers or record.alone >= SUSPECT_AFTER:
                    guilty = packet_id
            record.links += 1
            if record.links == SUSPECT_AFTER:
                record.answers = answers
        return None if guilty is None else Verdict(guilty, self._records.pop(guilty).links)

    def among(self, outgoing: Mapping[int, Item]) -> frozenset[int]:
        """Return the packet identifiers of those that must go alone."""
        if not self._records:
            return frozenset()
        self._keep(outgoing)
        return frozenset(packet_id for packet_id, record in self._records.items() if record.links >= SUSPECT_AFTER)

    def _keep(self, outgoing: Mapping[int, Item]) -> None:
        """Clear what has arrived since; its packet identifier may stand for another message now."""
        self._records = {
            packet_id: record
            for packet_id, record in self._records.items()
            if packet_id in outgoing and _is_same(record.item, outgoing[packet_id])
        }


def _is_same(one: Item, other: Item) -> bool:
    # A broker with lower limits makes another `Message` of it, with the same payload.
    return one is other or (one[1] is other[1] and one[0].payload is other[0].payload)
