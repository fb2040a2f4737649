"""What a fleet has sent, and what became of it."""

from collections import Counter
from random import Random
from typing import Any, Final, Literal

from attrs import Factory, define

Quality = Literal["good", "bad"]

TIMES_KEPT: Final = 10_000  # round trips, a fair choice of all of them
REASONS_KEPT: Final = 50
OTHERS: Final = "others"


@define(eq=False)
class Outcome:
    """Of all messages of one quality. `refused`: by reason; `unanswered`: at QoS 1 and 2, the connection was lost."""

    sent: int = 0
    acknowledged: int = 0
    refused: Counter[str] = Factory(Counter)
    unanswered: int = 0

    @property
    def answered(self) -> int:
        """Return how many have an answer."""
        return self.acknowledged + self.refused.total()


@define(eq=False)
class Tally:
    """The books of a fleet. Bounded, however long it runs."""

    chance: Random
    good: Outcome = Factory(Outcome)
    bad: Outcome = Factory(Outcome)
    faults: Counter[str] = Factory(Counter)  # of bad messages, by what is wrong with them
    told: int = 0  # error documents on the devices' own error topics
    held_back: int = 0  # not sent when they were due, because too many had no answer yet
    connects: int = 0
    failed_connects: Counter[str] = Factory(Counter)  # by reason
    lost: Counter[str] = Factory(Counter)  # connections, by how they ended
    connected: int = 0  # devices, now
    ever_connected: set[str] = Factory(set)
    times: list[float] = Factory(list)  # seconds from a message to its answer
    _timed: int = 0

    def of(self, quality: Quality) -> Outcome:
        """Return the outcome of one quality."""
        return self.good if quality == "good" else self.bad

    def took(self, seconds: float) -> None:
        """Count the time of an answer."""
        self._timed += 1
        if len(self.times) < TIMES_KEPT:
            self.times.append(seconds)
        elif (place := self.chance.randrange(self._timed)) < TIMES_KEPT:
            self.times[place] = seconds

    def percentile(self, share: float) -> float | None:
        """Return the time within which a share of the answers came; None: there were none."""
        if not self.times:
            return None
        ordered = sorted(self.times)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]

    def as_json(self) -> dict[str, Any]:
        """Return it for programs."""
        return {
            **{
                quality: {
                    "sent": one.sent,
                    "acknowledged": one.acknowledged,
                    "refused": dict(one.refused.most_common()),
                    "unanswered": one.unanswered,
                }
                for quality, one in (("good", self.good), ("bad", self.bad))
            },
            "faults": dict(self.faults.most_common()),
            "told": self.told,
            "held_back": self.held_back,
            "connects": self.connects,
            "failed_connects": dict(self.failed_connects.most_common()),
            "lost": dict(self.lost.most_common()),
            "devices_connected": len(self.ever_connected),
            "seconds_median": self.percentile(0.5),
            "seconds_99": self.percentile(0.99),
        }


def count(counter: Counter[str], reason: str) -> None:
    """Count a reason; those beyond the first fifty together."""
    counter[reason if reason in counter or len(counter) < REASONS_KEPT else OTHERS] += 1
