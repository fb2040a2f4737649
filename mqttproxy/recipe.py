"""Recipes: what mends held messages before they are released, as a TOML file of steps."""

from collections.abc import Callable

from attrs import frozen

from mqttproxy.config.masking import key_of
from mqttproxy.config.model import ProxyConfig
from mqttproxy.config.recipes import parse_recipe
from mqttproxy.mqtt.packets import Message
from mqttproxy.validation import Failure
from mqttproxy.validation.transforms import TopicCarrier, TransformError
from mqttproxy.validation.transforms.carrying import carrier_of

Mend = Callable[[Message], Message]  # may raise RecipeError
CompileRecipe = Callable[[str, ProxyConfig], Mend]


class RecipeError(Exception):
    """A recipe cannot be applied to a message: it stays as it is."""

    def __init__(self, failures: tuple[Failure, ...]) -> None:
        super().__init__(failures[0].message)
        self.failures = failures


def compile_recipe(text: str, config: ProxyConfig) -> Mend:
    """Make a recipe ready.

    Args:
        text: of the file.
        config: in force, for bounds and keys.

    Raises:
        ConfigError: it is faulty.

    """
    key = key_of(config)
    recipe = parse_recipe(text, config.limits, has_key=bool(key))
    return _Recipe(carrier_of([recipe], key, config.payload, config.limits)).mend


@frozen
class _Recipe:
    carrier: TopicCarrier

    def mend(self, message: Message) -> Message:
        try:
            return self.carrier.carry(message)
        except TransformError as error:
            raise RecipeError(error.failures) from error
