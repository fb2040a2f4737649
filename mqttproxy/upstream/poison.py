"""Taking out the message that kills every link, see `suspects`."""

from mqttproxy.mqtt.session_state import SessionState
from mqttproxy.upstream.books import Books
from mqttproxy.upstream.callbacks import Poison, Refusal
from mqttproxy.upstream.errors import LinkError, Trouble
from mqttproxy.upstream.naming import Naming
from mqttproxy.upstream.suspects import Suspects


class PoisonWatch:
    """Of one upstream, over all its links."""

    def __init__(self, session: SessionState, naming: Naming, books: Books) -> None:
        self._session = session
        self._naming = naming
        self._books = books
        self._suspects = Suspects()

    def begin_anew(self) -> None:
        """Forget what was lost so far, because the settings changed."""
        self._suspects = Suspects()

    @property
    def suspects(self) -> frozenset[int]:
        """Packet identifiers of the messages that must go alone over the next link."""
        return self._suspects.among(self._session.outgoing)

    def ended(self, sent: list[int], error: LinkError) -> list[Refusal]:
        """Count a link that ended against what it carried, and take out of the session what kills every link.

        Args:
            sent: packet identifiers of what went over it and was not answered.
            error: how it ended; only loss and silence count.

        Returns:
            The refusal of what was taken out, for the callback; or nothing.

        """
        if not error.trouble.is_suspicious:
            return []
        found = self._suspects.lost(
            self._session.outgoing, sent, was_silent=error.trouble is Trouble.SILENT, answers=self._books.answers
        )
        if found is None:
            return []
        message, token = self._session.give_up(found.packet_id)
        if self._session.is_durable:
            self._session.end((found.packet_id,), accepted=True)  # remembered until it is in the quarantine
        self._books.in_flight_bytes -= len(message.payload)
        self._books.refused += 1
        self._books.poisoned += 1
        return [(token, self._naming.local(message), Poison(found.links))]
