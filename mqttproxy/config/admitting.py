"""The settings of who comes in, and what is known of them and allowed to them: `[access]`. Part of the model."""

from pathlib import Path
from typing import Literal

from attrs import Factory, frozen

from mqttproxy.config.kinds import REQUIRED, Bytes, Count, Labels, Seconds, TopicTemplate, setting
from mqttproxy.config.policies import WhenSettings

Algorithm = Literal[
    "HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "ES256", "ES384", "ES512", "EdDSA", "Ed25519"
]


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
class PostgresqlSettings:
    """`[access.passwords.postgresql]`: users in a table of a PostgreSQL server; `mqttproxy user prepare` makes it.

    The role needs to read only. Over a network TLS is spoken, and the server's certificate verified. Needs
    `mqttproxy[postgresql]`.
    """

    url: str | None = setting(
        None,
        "`postgresql://role@host:port/database`, without the password; for a socket in `/run/postgresql` the host is "
        "`%2Frun%2Fpostgresql`",
    )
    password_file: Path | None = setting(
        None, "file of the role's password, read at each connection; by default `PGPASSWORD` of the environment, if any"
    )
    ca: Path | None = setting(None, "CA that the server's certificate must come from; by default one of the system's")
    table: str = setting("mqttproxy_users", "the table, perhaps with its schema: `devices.mqttproxy_users`")
    connect_timeout: Seconds = setting(Seconds(3.0), "from dialling until the server is ready, in whole seconds")
    statement_timeout: Seconds = setting(Seconds(2.0), "for each answer")


@frozen(kw_only=True)
class PasswordSettings:
    """`[[access.passwords]]`: an authenticator that knows users and their passwords; `mqttproxy user` looks after them.

    Passwords are kept as argon2id only. Needs `mqttproxy[passwords]`.
    """

    name: str = setting(REQUIRED, "unique among authenticators, for chains and the audit trail")
    file: Path | None = setting(None, "users in a TOML file, read at start and reload")
    database: Path | None = setting(None, "users in an SQLite database, asked at each CONNECT; instead of `file`")
    scram: bool = setting(
        False,
        "true: also SCRAM-SHA-256 and SCRAM-SHA-512 over MQTT 5, for users added with `--scram`; needs "
        "`mqttproxy[scram]`",
    )
    client_id: str | None = setting(
        None, "what client identifiers a user may have, as a glob with `${username}` and attributes: `${username}-*`"
    )
    on_error: Literal["deny", "cached"] = setting(
        "deny", "when the users cannot be read: nobody comes in, or only whose password was right a moment ago"
    )
    postgresql: PostgresqlSettings = setting(
        PostgresqlSettings(), "users in PostgreSQL, asked at each CONNECT; instead of `file` or `database`"
    )


@frozen(kw_only=True)
class CertificateSettings:
    """`[[access.certificates]]`: an authenticator that goes by the client certificate that TLS has verified.

    The listener says by `client_ca` and `client_certificate` which ones those are. Needs `mqttproxy[certificates]`.
    """

    name: str = setting(REQUIRED, "unique among authenticators, for chains and the audit trail")
    identity: Literal["cn", "san_dns", "san_uri", "san_email"] = setting(
        "cn", "where the user name stands: common name, or the only subject alternative name of a kind"
    )
    pattern: str | None = setting(
        None, "what that must look like, and which attributes it gives: `{model}-{serial}.devices.example`"
    )
    username: str | None = setting(None, "the user name, if only a part of it: `${serial}`")
    client_id: str | None = setting(
        None, "what client identifiers it may have, as a glob with `${username}` and attributes"
    )
    bound_to: Literal["nothing", "client_id", "mac"] = setting(
        "nothing",
        "client_id: the client identifier must be the user name; mac: the same, as MAC addresses, however they are "
        "written",
    )
    crl: Path | None = setting(
        None, "certificates that were revoked, in PEM, signed by `ca`; read at start and reload, and refused when old"
    )
    ca: Path | None = setting(None, "the CA that signs `crl`, in PEM")


@frozen(kw_only=True)
class TokenKeySettings:
    """`[[access.tokens.keys]]`: a key that signs tokens of the issuer above, with the algorithms it is used for."""

    id: str | None = setting(None, "`kid` of the tokens it signs; without one, of tokens without one")
    algorithms: tuple[Algorithm, ...] = setting(REQUIRED, "algorithms, all of one kind of key; no other is accepted")
    file: Path = setting(REQUIRED, "the public key in PEM, or for HS256 and its kind the secret, as bytes")


@frozen(kw_only=True)
class TokenSettings:
    """`[[access.tokens]]`: an authenticator that goes by JSON Web Tokens. Needs `mqttproxy[tokens]`.

    Issuer, audience and expiry must be there and right. A device is disconnected when its token expires.
    """

    name: str = setting(REQUIRED, "unique among authenticators, for chains and the audit trail")
    issuer: str = setting(REQUIRED, "`iss`, which must be this text")
    audience: str = setting(REQUIRED, "`aud`, which must be this text or have it in its list")
    field: Literal["password", "username"] = setting("password", "where in CONNECT the token stands")
    username: str = setting("sub", "the claim that is the user name")
    attributes: Labels = setting(Labels(()), 'attributes and the claims they are taken from: `{ site = "site" }`')
    acl: str | None = setting(
        None, "a claim with what its device may do, after the rules: `{ publish = [filters], subscribe = [filters] }`"
    )
    client_id: str | None = setting(
        None, "what client identifiers it may have, as a glob with `${username}` and attributes"
    )
    leeway: Seconds = setting(Seconds(10.0), "how wrong clocks may be")
    longest: Seconds = setting(Seconds(86_400.0), "how far away the expiry may be")
    jwks: str | None = setting(None, "https:// address of the issuer's keys, instead of `keys`; or http:// on loopback")
    jwks_algorithms: tuple[Algorithm, ...] = setting(
        ("RS256", "ES256", "EdDSA", "Ed25519"),
        "algorithms that keys from there may be used for; none of shared secrets",
    )
    jwks_ca: Path | None = setting(None, "the CA of that address in PEM; by default the system's")
    jwks_refresh: Seconds = setting(Seconds(3600.0), "how long the keys are used before they are fetched again")
    jwks_keep: Seconds = setting(Seconds(86_400.0), "how long they are used at most while they cannot be fetched")
    jwks_timeout: Seconds = setting(Seconds(5.0), "from name look-up to the end of the answer")
    keys: tuple[TokenKeySettings, ...] = setting((), "its keys")


@frozen(kw_only=True)
class HttpSettings:
    """`[[access.http]]`: an authenticator that asks a service of yours by HTTP. Needs `mqttproxy[http]`.

    It is asked by POST with a JSON object: `client_id`, `username`, `password`, `address`, `listener`. It answers 200
    with `{ "result": "allow" | "deny" | "ignore" }`, and may add `username`, `attributes`, `expires_in` (seconds).
    """

    name: str = setting(REQUIRED, "unique among authenticators, for chains and the audit trail")
    url: str = setting(REQUIRED, "https:// address, or http:// on loopback")
    ca: Path | None = setting(None, "the CA of that address in PEM; by default the system's")
    token_file: Path | None = setting(None, "file with a bearer token that is sent along, read at start and reload")
    timeout: Seconds = setting(Seconds(2.0), "from name look-up to the end of the answer")
    at_once: Count = setting(Count(32), "questions on their way at once; others wait")
    cache: Seconds = setting(Seconds(60.0), "how long an answer that allows is used again for the same credentials")
    cache_entries: Count = setting(Count(10_000), "answers that are kept")
    breaker_failures: Count = setting(Count(5), "failures in a row after which it is not asked for a while")
    breaker_open: Seconds = setting(Seconds(10.0), "how long")
    client_id: str | None = setting(
        None, "what client identifiers it may have, as a glob with `${username}` and attributes"
    )
    on_error: Literal["deny", "cached"] = setting(
        "deny", "when it does not answer: nobody comes in, or whom it has allowed within `stale`"
    )
    stale: Seconds = setting(Seconds(3600.0), "how old an answer may be then")


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
    token_bytes: Bytes = setting(Bytes(8192), "longest token; a longer one is wrong")
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
    certificates: tuple[CertificateSettings, ...] = setting((), "client certificates")
    tokens: tuple[TokenSettings, ...] = setting((), "JSON Web Tokens")
    http: tuple[HttpSettings, ...] = setting((), "a service of yours")
    rules: tuple[RuleSettings, ...] = setting((), "what devices may do")

    @property
    def has_rules(self) -> bool:
        """Whether anything must be looked at before it is carried or delivered."""
        return bool(self.rules) or self.no_match == "deny" or any(one.acl is not None for one in self.tokens)
