"""What a rule remembers of devices, bounded: whoever was heard of longest ago is forgotten first."""

from collections import OrderedDict
from typing import Generic, TypeVar

from attrs import define, field

State = TypeVar("State")


@define(eq=False)
class Bound:
    """How many states each memory may have, and how many were forgotten over it so far in all of them."""

    most: int
    forgotten: int = 0


@define(eq=False)
class Memory(Generic[State]):
    """A state for each key."""

    bound: Bound
    # Not a dict: to find its oldest key takes longer the more were removed before it.
    _states: OrderedDict[str | bytes, State] = field(init=False, factory=OrderedDict)

    def __len__(self) -> int:
        """Return how many states there are."""
        return len(self._states)

    def get(self, key: str | bytes) -> State | None:
        """Return what is remembered, None: nothing."""
        return self._states.get(key)

    def put(self, key: str | bytes, state: State) -> None:
        """Remember this from now on, as the newest."""
        states = self._states
        states[key] = state
        states.move_to_end(key)
        if len(states) > self.bound.most:
            states.popitem(last=False)
            self.bound.forgotten += 1
