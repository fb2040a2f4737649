import pytest

from mqttproxy.cli.held_options import FilterOptions, moment


@pytest.mark.parametrize("text", ["1h", "60m", "3600s", "1970-01-12T13:46:40+00:00"])
def test_a_moment_is_a_duration_ago_or_a_time(text: str) -> None:
    assert moment(text, 1_003_600.0) == 1_000_000.0


@pytest.mark.parametrize("text", ["", "1", "h", "-1h", "now", "9" * 400 + "s", "\udc80"])
def test_anything_else_is_no_moment(text: str) -> None:
    with pytest.raises(ValueError, match="neither"):
        moment(text, 0.0)


def test_options_ask_for_what_is_not_released_unless_they_say_otherwise() -> None:
    assert FilterOptions(client="a").filters().states == ("held", "releasing")
    assert FilterOptions().filters(("held",)).states == ("held",)
    assert FilterOptions(state=("released",)).filters(("held",)).states == ("released",)
