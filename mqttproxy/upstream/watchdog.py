"""Is the broker still there: by the progress of its acknowledgements and its answers to pings, not by TCP."""

from mqttproxy.mqtt.client import ClientConnection
from mqttproxy.upstream.errors import LinkError, Trouble


class Watchdog:
    """One link's watchdog. `now` is monotonic seconds, from the same clock in every call.

    Attributes:
        is_held: we do not read the broker, so that its silence is ours.

    """

    def __init__(self, conn: ClientConnection, now: float) -> None:
        self._conn = conn
        self._progress = now  # when an acknowledgement last came, or the first message without one went
        self._pinged: float | None = None  # when a PINGREQ went that nothing answered yet
        self._releases = 0
        self.is_held = False

    def progressed(self, now: float) -> None:
        """Hear that an exchange came to its end, or that the first one begins."""
        self._progress = now

    def read(self, now: float) -> None:
        """Hear that something was read: PUBREC is progress too, though it ends no exchange."""
        if self._conn.releases != self._releases:
            self._releases = self._conn.releases
            self._progress = now

    def let_go(self, now: float) -> None:
        """Read again: what the broker has to say now counts from now."""
        self.is_held = False
        self._progress = now
        self._pinged = None

    def look(self, now: float, patience: float) -> float:
        """Ping if it is time for it, and return when to look again.

        Args:
            now: as above.
            patience: seconds without an acknowledgement, or an answer to a ping.

        Raises:
            LinkError: the broker is silent.

        """
        return min(self._look_at_acks(now, patience), self._look_at_pings(now, patience))

    def _look_at_acks(self, now: float, patience: float) -> float:
        if not self._conn.session.outgoing or self.is_held:
            return now + patience  # early enough for whatever is sent from now on
        if now >= self._progress + patience:
            raise LinkError(Trouble.SILENT, f"the broker acknowledged nothing for {patience:g} s")
        return self._progress + patience

    def _look_at_pings(self, now: float, patience: float) -> float:
        conn = self._conn
        if now >= conn.ping_due:
            conn.ping(now)
            self._pinged = self._pinged or now
        if self._pinged is None or conn.last_received >= self._pinged or self.is_held:
            self._pinged = None
            return conn.ping_due
        # [MQTT-3.1.2-24] leaves the time to us: with 0.75 of the keep alive until PINGREQ, 1.25 of it at most in all.
        patience = min(patience, conn.server.keep_alive / 2)
        if now >= self._pinged + patience:
            raise LinkError(Trouble.SILENT, f"the broker did not answer a ping within {patience:g} s")
        return min(conn.ping_due, self._pinged + patience)
