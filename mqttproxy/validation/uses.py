"""Who uses which schema file: policies, aliases, `$ref` and `import`. What is used cannot be removed."""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any, Final
from urllib.parse import urldefrag

from attrs import frozen

from mqttproxy.config.errors import quoted
from mqttproxy.validation.files import SUBJECT, SchemaFiles, joined
from mqttproxy.validation.library import REFERENCES
from mqttproxy.validation.protoc import imports
from mqttproxy.validation.registry import Registry, UnresolvedError

_SUFFIXES: Final = (".json", ".proto")


@frozen
class Use:
    """One user of a schema file, in words; `kind`: policy, alias or file."""

    kind: str
    words: str


def uses(registry: Registry, references: Iterable[tuple[str, str]], file: str) -> dict[str, list[Use]]:
    """Return the users of each schema file, by its path.

    Args:
        registry: of the folder.
        references: key and text of the settings that name schemas, see `schema_references`.
        file: of those settings, for words.

    """
    found: dict[str, list[Use]] = defaultdict(list)
    for key, reference in references:
        try:
            version = registry.find(reference)
        except UnresolvedError:
            continue  # a fault of the configuration, which others tell
        found[version.path].append(Use("policy", f"{file}: {key} = {quoted(reference)}"))
    for subject in registry.subjects():
        for alias, target in subject.settings.aliases.items():
            if (version_of := subject.version(target)) is not None:
                toml = registry.directory / subject.name / SUBJECT
                found[version_of.path].append(Use("alias", f"{toml}: alias {alias}"))
    for path in registry.files.names():
        if path.endswith(_SUFFIXES):
            for target in sorted(set(_targets(path, registry.files))):
                found[target].append(Use("file", str(registry.directory / path)))
    return found


def _targets(path: str, files: SchemaFiles) -> Iterator[str]:
    """Yield the paths of the files that one refers to, itself left out."""
    try:
        data = files.read(path)
        names = imports(data) if path.endswith(".proto") else list(_references(json.loads(data)))
    except (OSError, ValueError, RecursionError):
        return  # a draft
    for name in names:
        target = joined("" if path.endswith(".proto") else path, name)
        if target is not None and target != path:
            yield target


def _references(document: Any) -> Iterator[str]:
    waiting = [document]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            for keyword in REFERENCES:
                if isinstance(reference := one.get(keyword), str):
                    try:
                        name = urldefrag(reference).url
                    except ValueError:
                        continue
                    if name:
                        yield name
            waiting += one.values()
        elif isinstance(one, list):
            waiting += one
