"""The settings of who comes in, and what is known of them: `[access]`. Part of the model."""

from typing import Literal

from attrs import frozen

from mqttproxy.config.kinds import REQUIRED, setting


@frozen(kw_only=True)
class AttributeSettings:
    """`[[access.attributes]]`: what is known of a device from what it says of itself, for policies to choose by.

    A name gets its value from the first entry that has one; those of the listener come before all.
    """

    source: Literal["client_id", "username", "connect_property"] = setting(
        "client_id", "the text of CONNECT that is looked at; connect_property: a user property"
    )
    property: str | None = setting(None, "name of that user property")
    pattern: str = setting(
        REQUIRED,
        "what the text looks like: each `{name}` takes what stands there up to the text behind it, `+` the same "
        "without a name; a text that looks different gives no attributes",
    )


@frozen(kw_only=True)
class AccessSettings:
    """`[access]`: who may connect."""

    allow_anonymous: bool = setting(False, "true: devices connect without credentials; false: none can connect yet")
    attributes: tuple[AttributeSettings, ...] = setting((), "what is known of a device")
