"""The table of units."""

from decimal import Decimal
from fractions import Fraction

from mqttproxy.config.measures import MEASURES, Conversion, conversion, units_like


def test_a_conversion_is_exact() -> None:
    assert conversion("F", "C") == Conversion(times=Decimal(45), plus=Decimal(-1440), by=Decimal(81))
    how = conversion("psi", "bar")
    assert (
        Fraction(how.times) / Fraction(how.by)
        == Fraction("0.45359237") * Fraction("9.80665") / Fraction("0.0254") ** 2 / 100_000
    )


def test_there_and_back_is_nothing() -> None:
    for source, measure in MEASURES.items():
        for target in units_like(source):
            there, back = conversion(source, target), conversion(target, source)
            assert Fraction(there.times) / Fraction(there.by) * Fraction(back.times) / Fraction(back.by) == 1
            assert MEASURES[target].kind == measure.kind
            zero = Fraction(there.plus) / Fraction(there.by)
            assert zero * Fraction(back.times) + Fraction(back.plus) == 0


def test_units_of_one_kind_are_known_together() -> None:
    assert units_like("C") == ["K", "C", "F"]
    assert units_like("furlong") == list(MEASURES)
