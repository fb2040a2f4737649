"""The settings of who comes in, and what is known of them and allowed to them: `[access]`. Part of the model."""

from pathlib import Path
from typing import Literal

from attrs import Factory, frozen

from mqttproxy.config.kinds import REQUIRED, Bytes, Count, Seconds, TopicTemplate, setting
from mqttproxy.config.policies import WhenSettings


@frozen(kw_only=True)
class AttributeSettings:
    """`[[access.attributes]]`: what is known of a device from what it says of itself, for policies to choose by.

    A name gets its value from the first entry that has one; those of the listener, and then those that an
    authenticator vouches for, come before all.
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
class ChainSettings:
    """`[[access.chains]]`: who is asked about devices that come in by some listeners, instead of `access.chain`."""

    listeners: tuple[str, ...] = setting(REQUIRED, "their names")
    chain: tuple[str, ...] = setting((), "authenticators in the order in which they are asked")
    allow_anonymous: bool = setting(False, "true: devices may connect there without credentials")


@frozen(kw_only=True)
class PasswordSettings:
    """`[[access.passwords]]`: an authenticator that knows users and their passwords; `mqttproxy user` looks after them.

    Passwords are kept as argon2id only. Needs `mqttproxy[passwords]`.
    """

    name: str = setting(REQUIRED, "unique among authenticators, for chains and the audit trail")
    file: Path | None = setting(None, "users in a TOML file, read at start and reload")
    database: Path | None = setting(None, "users in an SQLite database, asked at each CONNECT; either this or `file`")
    client_id: str | None = setting(
        None, "what client identifiers a user may have, as a glob with `${username}` and attributes: `${username}-*`"
    )
    on_error: Literal["deny", "cached"] = setting(
        "deny", "when the users cannot be read: nobody comes in, or only whose password was right a moment ago"
    )


@frozen(kw_only=True)
class RuleSettings:
    """`[[access.rules]]`: what devices may publish and subscribe to. The first rule that fits decides.

    Messages are looked at when they are published, wills when they are set and when they are due, and everything again
    before a device gets it. A change takes effect at once, for devices that are connected too.
    """

    topics: tuple[TopicTemplate, ...] = setting(
        REQUIRED,
        "topic filters with `${client_id}`, `${username}` or `${name of an attribute}`; for a device without it, the "
        "filter fits nothing",
    )
    action: Literal["allow", "deny"] = setting(REQUIRED, "what is decided where it fits")
    on: Literal["publish", "subscribe", "both"] = setting("both", "what it is about")
    qos: tuple[int, ...] | None = setting(None, "only for these QoS, of the message or of the subscription")
    retain: bool | None = setting(None, "only for messages to be retained, or only for others; not for subscriptions")
    shared: tuple[str, ...] | None = setting(
        None, "only for shared subscriptions of these groups, as globs; not for messages"
    )
    when: WhenSettings = setting(Factory(WhenSettings), "whom it is about")


@frozen(kw_only=True)
class AccessSettings:
    """`[access]`: who may connect, and what for. `docs/access.md` explains it all."""

    allow_anonymous: bool = setting(
        False,
        "true: devices may connect without credentials; with an empty chain, whatever credentials they show are not "
        "looked at",
    )
    chain: tuple[str, ...] = setting(
        (), "names of authenticators in the order in which they are asked; the first that knows the device decides"
    )
    check_threads: Count = setting(
        Count(2), "passwords checked at once: each takes 64 MiB, and a processor for a tenth of a second"
    )
    remember: Seconds = setting(
        Seconds(600.0), "how long a password that was right is known again without that work; only a keyed hash is kept"
    )
    refusal_delay: Seconds = setting(
        Seconds(0.5), "a refusal comes at least so long after CONNECT, so that its time tells nothing"
    )
    password_bytes: Bytes = setting(Bytes(1024), "longest password; a longer one is wrong")
    failures: Count = setting(
        Count(10), "failed attempts of one IP address within `failure_window`; then it waits, longer each time"
    )
    failure_window: Seconds = setting(Seconds(60.0), "after so long without one, failed attempts are forgotten")
    failure_ban: Seconds = setting(Seconds(300.0), "longest such wait; it begins with a second and doubles")
    no_match: Literal["allow", "deny"] | None = setting(
        None, "where no rule fits; by default deny, and allow if there are no rules at all"
    )
    attributes: tuple[AttributeSettings, ...] = setting((), "what is known of a device")
    chains: tuple[ChainSettings, ...] = setting((), "other chains for some listeners")
    passwords: tuple[PasswordSettings, ...] = setting((), "users with passwords")
    rules: tuple[RuleSettings, ...] = setting((), "what devices may do")

    @property
    def has_rules(self) -> bool:
        """Whether anything must be looked at before it is carried or delivered."""
        return bool(self.rules) or self.no_match == "deny"
