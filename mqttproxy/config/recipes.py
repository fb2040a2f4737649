"""The file of a recipe: what mends held messages before they are released."""

from typing import Final

from mqttproxy.config.errors import ConfigError
from mqttproxy.config.load import parse_toml
from mqttproxy.config.model import LimitSettings
from mqttproxy.config.report import Report
from mqttproxy.config.structure import structure_as
from mqttproxy.config.transform_checks import check_entry
from mqttproxy.config.transforms import DestinationTransforms

FILE: Final = "recipe"


def parse_recipe(text: str, limits: LimitSettings, *, has_key: bool) -> DestinationTransforms:
    """Return what a recipe says: the keys of a table of `[[upstreams.transforms]]`, but `topics` need not be given.

    Args:
        text: TOML.
        limits: of topics.
        has_key: `[masking]` has a key for hashes.

    Raises:
        ConfigError: with everything that is wrong with it.

    """
    document = {"topics": ["#"], **parse_toml(text, FILE)}
    recipe: DestinationTransforms = structure_as(document, DestinationTransforms, FILE)
    report = Report(FILE, lambda _: None)
    check_entry(recipe, "", has_key=has_key, limits=limits, report=report)
    if report.faults:
        raise ConfigError(report.faults)
    return recipe
