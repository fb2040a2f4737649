"""A file with rules that are to be tried: a whole configuration, or only policies."""

from pathlib import Path
from typing import Any, Final

from mqttproxy.config.load import check_document, decode, parse_toml, read_file
from mqttproxy.config.model import ProxyConfig

POLICIES: Final = "policies"


def load_candidate(new: Path, config: Path) -> ProxyConfig:
    """Return the configuration that a file would make of another one.

    A file that has nothing but `[[policies]]` stands for the other one with these policies: each takes the place of
    that of the same name, the others come behind. Any other file is a whole configuration. Paths are relative to the
    folder of `config`.

    Raises:
        ConfigError: with everything that is wrong with it.

    """
    document = _tables(new)
    if document.keys() <= {POLICIES}:
        document = _merged(_tables(config), document)
    return check_document(document, str(new), config.parent.absolute())


def _tables(path: Path) -> dict[str, Any]:
    return parse_toml(decode(read_file(path), str(path)), str(path))


def _merged(document: dict[str, Any], added: dict[str, Any]) -> dict[str, Any]:
    """Return the tables with policies added; what is none is left for the check to find."""
    given, new = document.get(POLICIES, []), added.get(POLICIES, [])
    if not isinstance(given, list) or not isinstance(new, list):
        return {**document, **added}
    left = {
        policy["name"]: policy for policy in new if isinstance(policy, dict) and isinstance(policy.get("name"), str)
    }
    twice = len(left) < len(new)
    if twice:  # or without a name: the check tells it
        return {**document, POLICIES: [*given, *new]}
    kept = [left.pop(policy.get("name"), policy) if isinstance(policy, dict) else policy for policy in given]
    return {**document, POLICIES: [*kept, *left.values()]}
