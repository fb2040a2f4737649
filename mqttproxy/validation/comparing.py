"""Versions of subjects held against each other, as their compatibility mode wants it.

BACKWARD: who judges by the new version takes all that devices of the old one send: new firmware may come later.
FORWARD: who judges by the old version takes all that devices of the new one send: new firmware may come first.
FULL: both. TRANSITIVE: with all older versions, not only with the one before.
"""

from collections.abc import Iterable
from typing import Any, Final

from attrs import frozen

from mqttproxy.config.errors import Fault
from mqttproxy.config.model import PayloadSettings
from mqttproxy.validation.registry import Registry, Subject, Version
from mqttproxy.validation.words import Json

_KINDS: Final = {"json": "JSON Schema", "protobuf": "Protobuf", "avro": "Avro"}
_TRANSITIVE: Final = "_TRANSITIVE"


@frozen
class Difference:
    """One reason why a reader does not take all that a writer sends, in words."""

    pointer: str
    words: str
    example: Json = None  # a document that the writer may send and the reader refuses, where one was found


@frozen
class Answer:
    """Whether one version reads what devices of another one send: without differences it does."""

    reader: Version
    writer: Version
    differences: tuple[Difference, ...]


def compare(registry: Registry, old: Version, new: Version, mode: str, settings: PayloadSettings) -> list[Answer]:
    """Return an answer for each direction that a mode asks about.

    Args:
        registry: that has both versions.
        old: the older version.
        new: the newer one.
        mode: one of `MODES`; whether it is transitive, the caller decides by what is compared.
        settings: the bounds of a payload.

    Raises:
        OSError, ValueError: a version cannot be read; `mqttproxy schema check` tells why.

    """
    wanted = mode.removesuffix(_TRANSITIVE)
    pairs = []
    if wanted in ("BACKWARD", "FULL"):
        pairs.append((new, old))
    if wanted in ("FORWARD", "FULL"):
        pairs.append((old, new))
    return [Answer(reader, writer, _differences(registry, reader, writer, settings)) for reader, writer in pairs]


def elders(subject: Subject, version: Version, mode: str) -> tuple[Version, ...]:
    """Return the older versions that a mode compares one with, the newest first."""
    if mode == "NONE":
        return ()
    before = subject.before(version)
    return before if mode.endswith(_TRANSITIVE) else before[:1]


def compare_named(registry: Registry, versions: Iterable[Version], settings: PayloadSettings) -> list[Fault]:
    """Return what is incompatible among versions in force, those that have an alias, and their elders."""
    faults = []
    for name in sorted({version.subject for version in versions}):
        subject = registry.subject(name)
        named = {version.number for version in versions if version.subject == name}
        named |= set(subject.settings.aliases.values())
        for version in subject.versions:
            if version.number in named:
                faults += faults_of(registry, subject, version, settings)
    return faults


def faults_of(registry: Registry, subject: Subject, version: Version, settings: PayloadSettings) -> list[Fault]:
    """Return in what a version breaks the compatibility mode of its subject."""
    mode = subject.settings.compatibility
    faults = []
    for old in elders(subject, version, mode):
        try:
            answers = compare(registry, old, version, mode, settings)
        except (OSError, ValueError) as error:
            hint = "compatibility_from in subject.toml says which version to begin with"
            file = str(registry.directory / version.path)
            faults.append(Fault(file, "", f"nothing to compare with: {error}", f"{mode} with {old.path}", hint))
            continue
        found = f"a change against v{old.number} that {mode} does not allow"
        faults += [
            Fault(str(registry.directory / version.path), difference.pointer, found, hint=difference.words)
            for answer in answers
            for difference in answer.differences
        ]
    return faults


def _differences(
    registry: Registry, reader: Version, writer: Version, settings: PayloadSettings
) -> tuple[Difference, ...]:
    if reader.kind != writer.kind:
        words = f"v{reader.number} is {_KINDS[reader.kind]}, v{writer.number} {_KINDS[writer.kind]}"
        return (Difference("", words),)
    maker: Any
    if reader.kind == "json":
        from mqttproxy.validation import compare_json as maker  # noqa: PLC0415 - as in `compile`
    elif reader.kind == "protobuf":
        from mqttproxy.validation import compare_protobuf as maker  # noqa: PLC0415 - an extra
    else:
        from mqttproxy.validation import compare_avro as maker  # noqa: PLC0415 - an extra
    found: list[Difference] = maker.differences(registry, reader, writer, settings)
    return tuple(dict.fromkeys(found))


def contracts_of(registry: Registry, versions: Iterable[Version], settings: PayloadSettings) -> list[Any]:
    """Return the contracts of versions. Raises ValueError: one cannot be compiled, with all faults."""
    from mqttproxy.validation.compile import compile_versions  # noqa: PLC0415 - it asks this module

    wanted = {version: version.name for version in versions}
    contracts, faults = compile_versions(wanted, registry, settings, "")
    if faults:
        raise ValueError("; ".join(map(str, faults)))
    return [contracts[version] for version in wanted]
