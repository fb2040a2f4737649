"""What the log says of one upstream: each state once, not once for each try."""

from collections.abc import Sequence

from mqttproxy.config.model import UpstreamSettings
from mqttproxy.telemetry.logs import Log
from mqttproxy.upstream.breaker import BreakerState, BreakerStatus
from mqttproxy.upstream.callbacks import Poison, Refusal
from mqttproxy.upstream.errors import LinkError


class Announcements:
    """See the module."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._error: str | None = None  # that was told last
        self._is_paused = False

    def connected(self, settings: UpstreamSettings) -> None:
        """Tell that a link came up, and whether it is to be trusted."""
        self._error = None
        self._log.info("upstream connected", url=settings.url)
        if settings.insecure_skip_verify:
            self._log.warning("upstream is insecure: its certificate is not checked", url=settings.url)

    def failed(self, error: LinkError, lasted: float) -> None:
        """Tell why a link was lost, or none came up, unless it is the same again."""
        if self._error != str(error):
            self._error = str(error)
            self._log.warning("upstream lost", error=str(error), kind=error.trouble.value, lasted=lasted)

    def contested(self, client_id: str) -> None:
        """Tell that somebody else takes our session over again and again."""
        self._log.error("somebody else uses our client identifier", client_id=client_id)

    def breaker(self, status: BreakerStatus) -> None:
        """Tell where the breaker has moved."""
        tell = self._log.info if status.state is BreakerState.CLOSED else self._log.warning
        tell(f"breaker {status.state.value}", reason=status.reason)

    def paused(self, reason: str | None) -> None:
        """Tell that the broker takes nothing for now, whatever number of pauses that is."""
        if not self._is_paused:
            self._is_paused = True
            self._log.warning("upstream paused", reason=reason)

    def resumed(self) -> None:
        """Tell that it takes messages again."""
        self._is_paused = False
        self._log.info("upstream takes messages again")

    def poison(self, found: Sequence[Refusal]) -> None:
        """Tell which message was taken out, because it kills links."""
        for _, message, why in found:
            if isinstance(why, Poison):
                self._log.error("a message kills every link and is held", topic=message.topic, links=why.links)
