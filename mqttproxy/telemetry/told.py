"""How a number is told to Prometheus, written beside the number."""

from typing import Literal

from attrs import frozen


@frozen
class Told:
    """How one attribute of `Metrics` is told: the family's kind, name without `_total`, label and meaning.

    An int is one sample (with `value` under `label`, if several attributes share the family), a mapping one for
    each key, a list one for each index, a histogram its buckets. With several labels, keys are tuples of as many.
    """

    kind: Literal["counter", "gauge", "histogram"]
    name: str
    text: str
    label: str | tuple[str, ...] | None = None
    value: str = ""

    @property
    def labels(self) -> tuple[str, ...]:
        """Return the names of all labels."""
        return (self.label,) if isinstance(self.label, str) else self.label or ()


def counter(name: str, text: str, label: str | tuple[str, ...] | None = None, value: str = "") -> dict[str, Told]:
    """Return the metadata of an attribute that only grows."""
    return {"told": Told("counter", name, text, label, value)}


def gauge(name: str, text: str, label: str | None = None) -> dict[str, Told]:
    """Return the metadata of an attribute that goes up and down."""
    return {"told": Told("gauge", name, text, label)}


def histogram(name: str, text: str) -> dict[str, Told]:
    """Return the metadata of a histogram."""
    return {"told": Told("histogram", name, text)}
