"""From schema files to contracts: references resolved, files checked, and one compiler for each kind of schema.

Each kind is imported when the first schema of it is wanted: the libraries of the others are never loaded.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mqttproxy.config.errors import Fault, quoted
from mqttproxy.config.model import PayloadSettings
from mqttproxy.validation.contract import Contract
from mqttproxy.validation.files import SchemaFiles
from mqttproxy.validation.ledger import Ledger
from mqttproxy.validation.registry import Registry, UnresolvedError, Version


def compile_contracts(
    wanted: Mapping[str, str],
    files: SchemaFiles,
    directory: Path,
    settings: PayloadSettings,
    file: str,
    *,
    checked: bool = False,
) -> tuple[dict[str, Contract], list[Fault]]:
    """Read, check and compile schemas.

    Args:
        wanted: references such as `subject@1` or `subject@stable`, and the key of the setting that has each.
        files: the schema folder.
        directory: its path, for words.
        settings: the bounds of a payload.
        file: the file of the settings, for words.
        checked: another process has checked them, see `Library`; versions are not compared again.

    Returns:
        Contracts by reference, each with the name of the version that it means now; and all that is wrong with any.

    """
    ledger = Ledger(files, directory)
    registry = Registry(ledger, directory)
    found, faults = _resolved(wanted, registry, file)
    versions: dict[Version, str] = {}
    for reference, version in found.items():
        versions.setdefault(version, wanted[reference])
    contracts: dict[Version, Contract] = {}
    for kind in sorted({version.kind for version in versions}):
        of_kind = {version: key for version, key in versions.items() if version.kind == kind}
        compiled, more = _compile(kind, of_kind, registry, settings, file, checked=checked)
        contracts |= compiled
        faults += more
    faults = [*registry.faults, *faults, *ledger.faults()]
    hashes = dict(ledger.hashes)  # of what will be in force, without what it is compared with
    if not checked and not faults:
        from mqttproxy.validation.comparing import compare_named  # noqa: PLC0415 - only where schemas are checked

        faults = compare_named(registry, versions, settings)
    if faults:
        return {}, faults
    files.use(hashes)
    return {reference: contracts[version] for reference, version in found.items()}, []


def compile_versions(
    versions: Mapping[Version, str], registry: Registry, settings: PayloadSettings, file: str
) -> tuple[dict[Version, Contract], list[Fault]]:
    """Return contracts of any versions, for those who compare or show them, and what is wrong with them.

    Args:
        versions: with the key of what wants each, for words.
        registry: that has them.
        settings: the bounds of a payload.
        file: the file of those keys, for words.

    """
    contracts: dict[Version, Contract] = {}
    faults: list[Fault] = []
    for kind in sorted({version.kind for version in versions}):
        of_kind = {version: key for version, key in versions.items() if version.kind == kind}
        compiled, more = _compile(kind, of_kind, registry, settings, file, checked=False)
        contracts |= compiled
        faults += more
    return contracts, faults


def _resolved(wanted: Mapping[str, str], registry: Registry, file: str) -> tuple[dict[str, Version], list[Fault]]:
    found, faults = {}, []
    for reference, key in wanted.items():
        try:
            found[reference] = registry.find(reference)
        except UnresolvedError as error:
            faults.append(Fault(file, key, quoted(reference), error.expected, error.hint))
    return found, faults


def _compile(
    kind: str,
    versions: Mapping[Version, str],
    registry: Registry,
    settings: PayloadSettings,
    file: str,
    *,
    checked: bool,
) -> tuple[Mapping[Version, Contract], list[Fault]]:
    maker: Any
    if kind == "json":
        from mqttproxy.validation import compile_json as maker  # noqa: PLC0415 - see the module
    elif kind == "protobuf":
        from mqttproxy.validation import compile_protobuf as maker  # noqa: PLC0415 - an extra
    else:
        from mqttproxy.validation import compile_avro as maker  # noqa: PLC0415 - an extra
    made: tuple[Mapping[Version, Contract], list[Fault]] = maker.compile_versions(
        versions, registry, settings, file, checked=checked
    )
    return made
