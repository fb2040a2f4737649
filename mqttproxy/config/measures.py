"""The units that a `unit` step knows: their kind, and the exact factor and offset to the base unit of that kind.

Each is what its definition says (SI brochure, international yard and pound of 1959, NIST SP 811), as a fraction:
nothing is rounded before the result is. Units whose factor is no fraction, or not agreed on, are not here.
"""

from decimal import Decimal
from fractions import Fraction
from typing import Final

from attrs import frozen

_FOOT: Final = Fraction("0.3048")
_INCH: Final = Fraction("0.0254")
_POUND: Final = Fraction("0.45359237")
_GRAVITY: Final = Fraction("9.80665")
_GALLON: Final = Fraction("0.003785411784")


@frozen
class Measure:
    """One unit: `base = value * factor + offset`."""

    kind: str
    factor: Fraction
    offset: Fraction = Fraction(0)


@frozen
class Conversion:
    """From one unit to another, in whole numbers: `(value * times + plus) / by`."""

    times: Decimal
    plus: Decimal
    by: Decimal


def _of(kind: str, **factors: Fraction | str | int) -> dict[str, Measure]:
    return {name: Measure(kind, Fraction(factor)) for name, factor in factors.items()}


def _named(kind: str, factors: dict[str, Fraction | str | int]) -> dict[str, Measure]:
    return {name: Measure(kind, Fraction(factor)) for name, factor in factors.items()}


MEASURES: Final[dict[str, Measure]] = {
    "K": Measure("temperature", Fraction(1)),
    "C": Measure("temperature", Fraction(1), Fraction("273.15")),
    "F": Measure("temperature", Fraction(5, 9), Fraction("459.67") * Fraction(5, 9)),
    **_of("pressure", Pa=1, hPa=100, kPa=1000, MPa=1_000_000, bar=100_000, mbar=100, atm=101_325),
    **_of("pressure", psi=_POUND * _GRAVITY / _INCH**2, Torr=Fraction(101_325, 760), mmHg="133.322387415"),
    **_of("length", mm="0.001", cm="0.01", m=1, km=1000, ft=_FOOT, yd=3 * _FOOT, mi=5280 * _FOOT, nmi=1852),
    **_named("length", {"um": "0.000001", "in": _INCH}),
    **_of("area", mm2="0.000001", cm2="0.0001", m2=1, ha=10_000, km2=1_000_000, ft2=_FOOT**2),
    **_of("volume", ml="0.000001", l="0.001", m3=1, ft3=_FOOT**3, gal=_GALLON, floz=_GALLON / 128),
    **_of("mass", mg="0.000001", g="0.001", kg=1, t=1000, lb=_POUND, oz=_POUND / 16),
    **_of("force", N=1, kN=1000, lbf=_POUND * _GRAVITY, kgf=_GRAVITY),
    **_of("speed", mph=5280 * _FOOT / 3600, kn=Fraction(1852, 3600)),
    **_named("speed", {"m/s": 1, "km/h": Fraction(1000, 3600), "ft/s": _FOOT}),
    **_named("flow", {"l/s": "0.001", "l/min": Fraction(1, 60_000), "l/h": Fraction(1, 3_600_000)}),
    **_named("flow", {"m3/s": 1, "m3/h": Fraction(1, 3600), "gal/min": _GALLON / 60}),
    **_of("energy", J=1, kJ=1000, MJ=1_000_000, Wh=3600, kWh=3_600_000, MWh=3_600_000_000, cal="4.184", kcal=4184),
    **_of("energy", BTU="1055.05585262"),
    **_of("power", mW="0.001", W=1, kW=1000, MW=1_000_000, hp=550 * _FOOT * _POUND * _GRAVITY),
    **_of("voltage", mV="0.001", V=1, kV=1000),
    **_of("current", uA="0.000001", mA="0.001", A=1),
    **_of("frequency", Hz=1, kHz=1000, MHz=1_000_000, GHz=1_000_000_000, rpm=Fraction(1, 60)),
    **_of("time", us="0.000001", ms="0.001", s=1, min=60, h=3600, d=86_400),
    **_named("ratio", {"1": 1, "%": "0.01", "permille": "0.001", "ppm": "0.000001"}),
    **_of("bytes", B=1, kB=1000, MB=1_000_000, GB=1_000_000_000, KiB=2**10, MiB=2**20, GiB=2**30),
}


def units_like(name: str) -> list[str]:
    """Return the units of the kind of this one; all, if it is not known."""
    known = MEASURES.get(name)
    return [other for other, measure in MEASURES.items() if known is None or measure.kind == known.kind]


def conversion(source: str, target: str) -> Conversion:
    """Return how to convert between two units of one kind."""
    one, other = MEASURES[source], MEASURES[target]
    factor = one.factor / other.factor
    plus = (one.offset - other.offset) / other.factor
    by = factor.denominator * plus.denominator
    return Conversion(Decimal(int(factor * by)), Decimal(int(plus * by)), Decimal(by))
