import pytest
from hypothesis import given, strategies as st

from mqttproxy.config.units import (
    BYTES,
    parse_address,
    parse_duration,
    parse_size,
    write_duration,
    write_size,
)


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ("30s", 30.0),
        ("10m", 600.0),
        ("7d", 604_800.0),
        ("12h", 43_200.0),
        ("500ms", 0.5),
        ("1.5s", 1.5),
        ("0s", 0.0),
        ("1 s", 1.0),
        (30, 30.0),
        (0.25, 0.25),
        (0, 0.0),
    ],
)
def test_a_duration_is_read(written: object, seconds: float) -> None:
    assert parse_duration(written) == seconds


@pytest.mark.parametrize(
    "written",
    [
        "",
        "30",
        "s",
        "-1s",
        "1w",
        "1S",
        "1h30m",
        "٣s",
        "1e3s",
        "inf",
        "nans",
        " 1s",
        "1s\n",
        "9" * 5000 + "s",
        "1  s",
        True,
        False,
        -1,
        -0.5,
        float("inf"),
        float("nan"),
        10**100,
        None,
        [],
        {},
    ],
)
def test_what_is_no_duration_is_none(written: object) -> None:
    assert parse_duration(written) is None


@pytest.mark.parametrize(
    ("written", "size"),
    [
        ("16MiB", 16 * 1024**2),
        ("64KiB", 65_536),
        ("1GB", 10**9),
        ("1kB", 1000),
        ("1KB", 1000),
        ("2TiB", 2 * 1024**4),
        ("5B", 5),
        ("5 MB", 5_000_000),
        (5, 5),
        (0, 0),
    ],
)
def test_a_size_is_read(written: object, size: int) -> None:
    assert parse_size(written) == size


@pytest.mark.parametrize(
    "written",
    [
        "",
        "16",
        "16M",
        "16mib",
        "iB",
        "1iB",
        "1kiB",
        "-1B",
        "1.5MiB",
        "٣B",
        "9" * 5000 + "B",
        "1MiB\n",
        True,
        1.0,
        -1,
        10**100,
        None,
        [],
    ],
)
def test_what_is_no_size_is_none(written: object) -> None:
    assert parse_size(written) is None


@pytest.mark.parametrize(
    ("written", "address"),
    [
        ("0.0.0.0:1883", (".".join("0000"), 1883)),
        ("localhost:0", ("localhost", 0)),
        ("broker-1.example:65535", ("broker-1.example", 65_535)),
        ("[::1]:1883", ("::1", 1883)),
        ("[fe80::1%eth0]:1883", ("fe80::1%eth0", 1883)),
    ],
)
def test_an_address_is_read(written: str, address: tuple[str, int]) -> None:
    assert parse_address(written) == address


@pytest.mark.parametrize(
    "written",
    [
        "",
        "1883",
        ":1883",
        "host",
        "host:",
        "host:65536",
        "host:-1",
        "host:x",
        "::1:1883",
        "[::1]",
        "ho st:1",
        "h:1\n",
        "h:٣",
        1883,
        None,
        True,
    ],
)
def test_what_is_no_address_is_none(written: object) -> None:
    assert parse_address(written) is None


@given(st.integers(0, 10**14))
def test_a_written_duration_is_read_back(milliseconds: int) -> None:
    assert parse_duration(write_duration(milliseconds / 1000)) == milliseconds / 1000


@given(st.integers(0, 10**15 - 1))
def test_a_written_size_is_read_back(size: int) -> None:
    assert parse_size(write_size(size)) == size


@pytest.mark.parametrize("unit", BYTES)
def test_every_unit_of_sizes_is_read(unit: str) -> None:
    assert parse_size(f"3{unit}") == 3 * BYTES[unit]


@given(st.one_of(st.text(), st.integers(), st.floats(), st.booleans(), st.none()))
def test_any_value_is_read_or_is_none(value: object) -> None:
    assert (parse_duration(value) or 0) >= 0
    assert (parse_size(value) or 0) >= 0
    assert parse_address(value) is None or isinstance(value, str)
