"""Behaviour rules at work: asked beside the judge for each message from a device that one covers, and for silence.

Rates that refuse messages are asked here too, and first: what is one too many goes no further, whatever else it is.

What they find joins the verdict of the policies, and goes through `refusal` as theirs does. Silence has no message:
it is told in the log, the audit trail and the metrics.
"""

from typing import Final

from attrs import define, field

from mqttproxy.config.model import ProxyConfig
from mqttproxy.limiting.rates import Rates
from mqttproxy.mqtt.packets import Publish
from mqttproxy.refusal import Refusal
from mqttproxy.validation import Identity, Verdict
from mqttproxy.validation.behaviour import Silence, Watch
from mqttproxy.validation.verdict import join

TOLD_AT_ONCE: Final = 500  # silences that begin; the others are told at the next look


@define(eq=False)
class Behaving:
    """See the module. One for the process."""

    refusal: Refusal
    watch: Watch
    has_rules: bool = field(init=False, default=False)
    _rates: Rates | None = field(init=False, default=None)  # those that refuse messages, if there are any

    def __attrs_post_init__(self) -> None:
        """Tell the metrics."""
        self.refusal.metrics.refresh.append(self._refresh)

    def use(self, config: ProxyConfig) -> None:
        """Put the rules of a configuration in force; those that did not change go on with what they remember."""
        self.watch.use(config.behaviours, config.payload)
        self.has_rules = bool(self.watch.rules) or self._rates is not None

    def limit(self, rates: Rates) -> None:
        """Ask these too."""
        if rates.refusing:
            self._rates, self.has_rules = rates, True

    def judge(self, verdict: Verdict, message: Publish, identity: Identity, now: float) -> Verdict:
        """Return the verdict on a message by its policies and by what its device has done before.

        Args:
            verdict: of the policies.
            message: as the device sent it.
            identity: of the device.
            now: monotonic seconds.

        """
        if self._rates is not None and (refused := self._rates.judge(message, identity, now)) is not None:
            return refused
        if not (rules := self.watch.covering(message.topic)):
            return verdict
        try:
            failed, ended = self.watch.ask(rules, message, identity, now=now, wall=self.refusal.wall())
        except Exception as error:  # noqa: BLE001 # a bug of ours: this message fails closed (promise P7), told
            return self.refusal.judge_raised(error)
        for silence in ended:
            self._tell(silence)
        if not failed:
            return verdict
        before = (verdict.parts or (verdict,)) if verdict.failures else ()
        return join([*before, *failed])

    def look(self, now: float) -> None:
        """Tell which devices have fallen silent by now."""
        for silence in self.watch.fallen_silent(now, TOLD_AT_ONCE):
            self._tell(silence)

    def _tell(self, silence: Silence) -> None:
        refusal, seconds = self.refusal, round(silence.seconds, 1)
        state = "began" if silence.began else "ended"
        if silence.began:
            refusal.metrics.silences.add(silence.rule)
        refusal.audit.write(
            {
                "event": "silence",
                "state": state,
                "policy": silence.rule,
                "device": silence.device,
                "seconds": seconds,
                "generation": refusal.generation,
            }
        )
        refusal.alerts.warning(
            f"silence:{silence.rule}:{state}",
            f"silence_{state}",
            policy=silence.rule,
            device=silence.device,
            seconds=seconds,
        )

    def _refresh(self) -> None:
        metrics, watch = self.refusal.metrics, self.watch
        metrics.behaviour_states, metrics.behaviour_forgotten = watch.remembered, watch.forgotten
        metrics.silent = watch.silent
