"""Recipes: what mends held messages before they are released, as a TOML file of steps."""

from collections.abc import Callable

from mqttproxy.config.errors import ConfigError, Told
from mqttproxy.config.model import ProxyConfig
from mqttproxy.mqtt.packets import Message
from mqttproxy.validation import Failure

Mend = Callable[[Message], Message]  # may raise RecipeError
CompileRecipe = Callable[[str, ProxyConfig], Mend]


class RecipeError(Exception):
    """A recipe cannot be applied to a message: it stays as it is."""

    def __init__(self, failures: tuple[Failure, ...]) -> None:
        super().__init__(failures[0].message)
        self.failures = failures


def compile_recipe(text: str, config: ProxyConfig) -> Mend:  # noqa: ARG001 # until there are transforms
    """Make a recipe ready.

    Args:
        text: of the file.
        config: in force, for bounds and keys.

    Raises:
        ConfigError: it is faulty.

    """
    raise ConfigError([Told("", "", "recipe: this version has no transforms")])
