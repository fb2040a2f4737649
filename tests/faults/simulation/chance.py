"""Chance that is the same each time."""

from random import Random


def chance_of(seed: int) -> Random:
    """Return a source of its own."""
    return Random(seed)  # to be the same each time is the purpose


def part_of(chance: Random) -> Random:
    """Return a source that draws from another one only now."""
    return chance_of(chance.getrandbits(64))
