"""The settings as text again: the reference page `docs/configuration.md`, and `proxy.toml.example`.

Both are rendered from the model, so that they cannot disagree with it. They are committed, a test fails when they are
stale, and this command in the top folder of the repository writes them anew:

    python -m mqttproxy.config.written
"""

import json
import textwrap
from pathlib import Path
from typing import Any, Final, get_args

import attrs

from mqttproxy.config.kinds import file_key
from mqttproxy.config.model import Bytes, Count, Labels, Seconds, every_table, table_class
from mqttproxy.config.ranges import CENTURY, own_range
from mqttproxy.config.structure import type_words
from mqttproxy.config.units import write_duration, write_size

REFERENCE: Final = Path("docs/configuration.md")
EXAMPLE: Final = Path("proxy.toml.example")

# Values for settings that have no default, as they are written in the file.
_EXAMPLES: Final = {
    ("proxy", "server_reference"): '"other.example:1883"',
    ("listeners", "name"): '"default"',
    ("listeners", "bind"): '"127.0.0.1:1883"',
    ("listeners", "certificate"): '"tls/server.pem"',
    ("listeners", "private_key"): '"tls/server.key"',
    ("listeners", "client_ca"): '"tls/devices-ca.pem"',
    ("listeners", "crl"): '"tls/devices-crl.pem"',
    ("listeners", "origins"): '["https://dashboard.example"]',
    ("quarantine", "keep_free"): '"128MiB"',
    ("policies", "name"): '"temperature"',
    ("policies", "topics"): '["sensor/+/temperature"]',
    ("policies", "schema"): '"temperature@1"',
    ("policies", "format"): '"json"',
    ("policies.when", "client_id"): '["tx-*"]',
    ("policies.when", "username"): '["plant-?"]',
    ("policies.when", "listener"): '["tls"]',
    ("policies.when", "attributes"): '{ model = "tx-*", firmware = ">=2.1" }',
    ("policies.bindings", "schema"): '"temperature@2"',
    ("policies.bindings.when", "client_id"): '["tx-*"]',
    ("policies.bindings.when", "username"): '["plant-?"]',
    ("policies.bindings.when", "listener"): '["tls"]',
    ("policies.bindings.when", "attributes"): '{ firmware = ">=2.1" }',
    ("policies.require", "qos"): "[1, 2]",
    ("policies.require", "retain"): "false",
    ("policies.require", "content_type"): '["application/json*"]',
    ("policies.require", "user_properties"): '["trace-id"]',
    ("policies.require", "max_expiry"): '"1d"',
    ("policies.require", "max_bytes"): '"4KiB"',
    ("policies.shadow", "schema"): '"temperature@2"',
    ("policies.shadow", "policy"): '"temperature, as it will be"',
    ("policies.expressions", "expression"): '"payload.celsius > -40"',
    ("policies.expressions", "message"): '"colder than any sensor can tell"',
    ("policies.plugins", "name"): '"plausible"',
    ("behaviours", "name"): '"at most 100 a minute"',
    ("behaviours", "topics"): '["sensor/{device}/#"]',
    ("behaviours", "rule"): '"quota"',
    ("behaviours", "messages"): "100",
    ("behaviours", "bytes"): '"1MiB"',
    ("behaviours", "window"): '"60s"',
    ("behaviours", "every"): '"60s"',
    ("behaviours", "pointer"): '"/seq"',
    ("behaviours", "user_property"): '"seq"',
    ("behaviours", "wrap"): "65536",
    ("behaviours", "max_skew"): '"5s"',
    ("behaviours", "device"): '"device"',
    ("behaviours", "on_failure"): '["refuse", "alert"]',
    ("behaviours.when", "client_id"): '["tx-*"]',
    ("behaviours.when", "username"): '["plant-?"]',
    ("behaviours.when", "listener"): '["tls"]',
    ("behaviours.when", "attributes"): '{ model = "tx-*", firmware = ">=2.1" }',
    ("limits.rates", "name"): '"of each client"',
    ("limits.rates", "per"): '"client"',
    ("limits.rates", "what"): '"messages"',
    ("limits.rates", "windows"): '"10:1,300:60"',
    ("access.attributes", "property"): '"firmware"',
    ("access.attributes", "pattern"): '"{model}-{firmware}-+"',
    ("access", "no_match"): '"deny"',
    ("access.chains", "listeners"): '["default"]',
    ("access.passwords", "name"): '"users"',
    ("access.passwords", "file"): '"users.toml"',
    ("access.passwords", "database"): '"users.db"',
    ("access.passwords", "client_id"): '"${username}-*"',
    ("access.passwords.postgresql", "url"): '"postgresql://mqttproxy@db.example/devices"',
    ("access.passwords.postgresql", "password_file"): '"secrets/db.password"',
    ("access.passwords.postgresql", "ca"): '"tls/db-ca.pem"',
    ("access.certificates", "name"): '"certificates"',
    ("access.certificates", "pattern"): '"{model}-{serial}.devices.example"',
    ("access.certificates", "username"): '"${serial}"',
    ("access.certificates", "client_id"): '"${username}-*"',
    ("access.certificates", "crl"): '"tls/devices-crl.pem"',
    ("access.certificates", "ca"): '"tls/devices-ca.pem"',
    ("access.tokens", "name"): '"tokens"',
    ("access.tokens", "issuer"): '"https://id.example"',
    ("access.tokens", "audience"): '"mqtt"',
    ("access.tokens", "acl"): '"acl"',
    ("access.tokens", "client_id"): '"${username}-*"',
    ("access.tokens", "jwks"): '"https://id.example/keys"',
    ("access.tokens", "jwks_ca"): '"tls/id-ca.pem"',
    ("access.tokens.keys", "id"): '"2026-01"',
    ("access.tokens.keys", "algorithms"): '["ES256"]',
    ("access.tokens.keys", "file"): '"tls/tokens.pub"',
    ("access.http", "name"): '"service"',
    ("access.http", "url"): '"https://auth.example/mqtt"',
    ("access.http", "ca"): '"tls/auth-ca.pem"',
    ("access.http", "token_file"): '"secrets/auth.token"',
    ("access.http", "client_id"): '"${username}-*"',
    ("access.rules", "action"): '"allow"',
    ("access.rules", "topics"): '["plant/${site}/${client_id}/#"]',
    ("access.rules", "qos"): "[0, 1]",
    ("access.rules", "retain"): "false",
    ("access.rules", "shared"): '["workers-*"]',
    ("access.rules.when", "client_id"): '["tx-*"]',
    ("access.rules.when", "username"): '["plant-?"]',
    ("access.rules.when", "listener"): '["tls"]',
    ("access.rules.when", "attributes"): '{ model = "tx-*", firmware = ">=2.1" }',
    ("upstreams", "name"): '"broker"',
    ("upstreams", "url"): '"mqtts://broker.example:8883"',
    ("upstreams", "client_id"): '"mqttproxy-broker"',
    ("upstreams", "username"): '"mqttproxy"',
    ("upstreams", "password"): '"change me"',
    ("upstreams", "password_file"): '"secrets/broker.password"',
    ("upstreams", "ca"): '"tls/broker-ca.pem"',
    ("upstreams", "certificate"): '"tls/proxy.pem"',
    ("upstreams", "private_key"): '"tls/proxy.key"',
    ("upstreams", "spool_bytes"): '"256MiB"',
    ("upstreams.topics", "local"): '"plant/{line}/#"',
    ("upstreams.topics", "remote"): '"acme/eu/{line}/in/#"',
    ("upstreams.transforms", "topics"): '["plant/{line}/+"]',
    ("upstreams.transforms", "steps"): '[{ op = "copy_topic", from = "{line}", to = "/line" }]',
    ("routes", "topics"): '["#"]',
    ("routes", "to"): '["broker"]',
    ("routes", "home"): '"broker"',
    ("routes", "max_age"): '"30s"',
    ("masking", "key"): '"change me to 16 bytes or more"',
    ("masking", "key_file"): '"secrets/masking.key"',
    ("masks", "paths"): '["/operator/name"]',
    ("masks", "length"): "4",
}

# Tables that change what the proxy does just by being there.
_COMMENTED_OUT: Final = frozenset(
    {
        "access.attributes", "access.chains", "access.passwords", "access.passwords.postgresql", "access.certificates",
        "access.tokens", "access.tokens.keys", "access.http", "access.rules", "access.rules.when", "policies",
        "policies.when", "policies.bindings", "policies.bindings.when", "policies.require", "policies.expressions",
        "policies.shadow", "policies.plugins", "behaviours", "behaviours.when", "limits.rates",
        "listeners.proxy_protocol", "upstreams", "upstreams.topics", "upstreams.transforms", "routes", "masks",
    }
)  # fmt: skip

_REFERENCE_HEAD: Final = """\
# Configuration

<!-- Written by `python -m mqttproxy.config.written` from mqttproxy/config/model.py: change the texts there. -->

`mqttproxy` reads one file in [TOML](https://toml.io), by custom `proxy.toml`. Every setting has a safe default, so the
file holds only what differs. Without upstreams the proxy is a broker by itself, on `127.0.0.1:1883`; nobody can connect
to it until `allow_anonymous = true`, or a chain of authenticators, is written under `[access]`. `proxy.toml.example`
shows every setting with its default.

- **Durations** are written `"500ms"`, `"30s"`, `"10m"`, `"12h"`, `"7d"`, or as a number of seconds.
- **Sizes** are written `"64KiB"`, `"16MiB"`, `"1GiB"` (powers of 1,024), `"1MB"`, `"1GB"` (powers of 1,000), or as a
  number of bytes.
- **Paths** are relative to the folder of the file.
- **Tables** in double brackets, `[[listeners]]`, may be written many times, once for each.

The file is read strictly: a key that is not known, a number where a text is expected, or a name that does not exist is
a fault, and `mqttproxy check proxy.toml` tells all of them at once:

```text
proxy.toml: limits.receive_maximun: found an unknown key; did you mean "receive_maximum"?
proxy.toml: listeners[0].bind: found 1883, expected "host:port" such as "0.0.0.0:1883"
```
"""

_EXAMPLE_HEAD: Final = """\
# Every setting of mqttproxy with its default; docs/configuration.md says the same as tables.
# Written by `python -m mqttproxy.config.written` from mqttproxy/config/model.py: change the texts there.
#
# Lines that begin with "# " explain. Lines that begin with "#" and no space are settings that are not in force:
# they have no default, and what is shown is an example. Durations are "500ms", "30s", "10m", "7d" or seconds, sizes
# "64KiB", "16MiB" or bytes, paths relative to this file.
"""


def render_reference() -> str:
    """Return the page that explains every setting."""
    return _REFERENCE_HEAD + "".join(_reference_table(*table) for table in every_table())


def render_example() -> str:
    """Return a configuration file that shows every setting."""
    return _EXAMPLE_HEAD + "".join(_example_table(*table) for table in every_table())


def _about(kind: Any) -> list[str]:
    """Return the paragraphs that a table's class says about it."""
    text = textwrap.dedent(f"    {kind.__doc__}").strip().split(": ", 1)[1]
    paragraphs = [" ".join(part.split()) for part in text.split("\n\n")]
    return [paragraph[0].upper() + paragraph[1:] for paragraph in paragraphs]


def _reference_table(name: str, heading: str, kind: Any) -> str:
    about = "\n\n".join(textwrap.fill(paragraph, 120) for paragraph in _about(kind))
    rows = "".join(_reference_row(name, attribute) for attribute in attrs.fields(kind))
    return f"\n## `{heading}`\n\n{about}\n\n| key | takes | default | meaning |\n|---|---|---|---|\n{rows}"


def _reference_row(table: str, attribute: Any) -> str:
    takes = _takes(table, attribute)
    meaning = attribute.metadata["text"].replace("<", "&lt;").replace("|", "&#124;")
    return f"| `{file_key(attribute.name)}` | {takes} | {_default_cell(attribute)} | {meaning} |\n"


def _takes(table: str, attribute: Any) -> str:
    kind = next((part for part in get_args(attribute.type) if type(None) in get_args(attribute.type)), attribute.type)
    limits = own_range(table, attribute.name)
    words = {Seconds: "a duration", Bytes: "a size", Count: limits and "a whole number"}.get(kind) or type_words(kind)
    if limits and kind is Seconds and limits.high == CENTURY:
        return f"{words}, or 0"
    return f"{words}, {limits.words(kind)}" if limits else words


def _default_cell(attribute: Any) -> str:
    if attribute.default is attrs.NOTHING:
        return "required"
    if attribute.default is None or is_table(attribute):
        return "none"
    return f"`{_value(attribute.default, attribute.type)}`"


def is_table(attribute: Any) -> bool:
    """Tell whether a setting is a table, or some, with a section of its own."""
    return attrs.has(attribute.type) or table_class(attribute.type) is not None


def _value(value: Any, kind: Any) -> str:
    """Return a value as it is written in the file."""
    if kind is Seconds:
        return f'"{write_duration(value)}"'
    if kind is Bytes:
        return f'"{write_size(value)}"'
    if kind is Labels:
        return f"{{ {', '.join(f'{name} = {json.dumps(text)}' for name, text in value)} }}" if value else "{}"
    if isinstance(value, tuple):
        return f"[{', '.join(_value(item, None) for item in value)}]"
    return json.dumps(str(value) if isinstance(value, Path) else value)


def _example_table(name: str, heading: str, kind: Any) -> str:
    off = "#" if name in _COMMENTED_OUT else ""
    about = "\n".join(_comment(paragraph) for paragraph in _about(kind))
    settings = "".join(
        _example_setting(name, off, attribute) for attribute in attrs.fields(kind) if not is_table(attribute)
    )
    return f"\n\n{about}\n{off}{heading}\n{settings}"


def _example_setting(table: str, off: str, attribute: Any) -> str:
    text, key = attribute.metadata["text"], file_key(attribute.name)
    if attribute.default is attrs.NOTHING:
        line = f"{off}{key} = {_EXAMPLES[table, attribute.name]}  # required"
    elif attribute.default is None:
        line = f"#{key} = {_EXAMPLES[table, attribute.name]}  # no default"
    else:
        line = f"{off}{key} = {_value(attribute.default, attribute.type)}"
    takes = _takes(table, attribute)
    return f"\n{_comment(text if takes == 'a text' else f'{text} ({takes})')}\n{line}\n"


def _comment(text: str) -> str:
    return textwrap.fill(text, 110, initial_indent="# ", subsequent_indent="# ")


if __name__ == "__main__":
    REFERENCE.write_text(render_reference(), encoding="utf-8")
    EXAMPLE.write_text(render_example(), encoding="utf-8")
