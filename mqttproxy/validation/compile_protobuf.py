"""Protobuf to contracts."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from mqttproxy.config.errors import Fault, quoted
from mqttproxy.config.model import PayloadSettings
from mqttproxy.validation.files import SUBJECT
from mqttproxy.validation.protoc import EXTRA
from mqttproxy.validation.registry import Registry, Version

if TYPE_CHECKING:
    from mqttproxy.validation.protobuf import ProtobufContract


def compile_versions(
    versions: Mapping[Version, str],
    registry: Registry,
    settings: PayloadSettings,
    file: str,
    *,
    checked: bool,  # noqa: ARG001 - as for the other kinds: there is no second, better set of words
) -> tuple[dict[Version, "ProtobufContract"], list[Fault]]:
    """Read, check and compile Protobuf, see `compile_contracts`."""
    try:
        import google.protobuf  # noqa: F401, PLC0415 - an extra
    except ImportError:
        return {}, [
            Fault(file, key, quoted(version.name), "the library for it", EXTRA) for version, key in versions.items()
        ]
    contracts: dict[Version, ProtobufContract | None] = {}
    faults: list[Fault] = []
    for version in versions:
        try:
            contracts[version] = _contract(version, registry, settings, faults)
        except OSError as error:
            words = (error.strerror or str(error)).lower()
            faults.append(Fault(str(registry.directory / version.path), "", words, "a readable file"))
    return {version: contract for version, contract in contracts.items() if contract is not None}, faults


def _contract(
    version: Version, registry: Registry, settings: PayloadSettings, faults: list[Fault]
) -> "ProtobufContract | None":
    from mqttproxy.validation.protobuf import ProtobufContract, required_paths  # noqa: PLC0415 - an extra
    from mqttproxy.validation.protofiles import UnusableError, describe  # noqa: PLC0415 - an extra

    subject = registry.subject(version.subject)
    of_subject = subject.settings.protobuf
    toml = str(registry.directory / version.subject / SUBJECT)
    try:
        described = describe(version.path, registry.files, of_subject.message)
    except UnusableError as error:
        place = (toml, error.key) if error.key else (str(registry.directory / version.path), "")
        faults.append(Fault(*place, error.found, error.expected, error.hint))
        return None
    required, missing, blind = required_paths(described.message, of_subject.required)
    faults += [
        Fault(
            toml,
            "protobuf.required",
            quoted(path),
            f"a field that can be absent in {version.path}",
            "write `optional` before it",
        )
        for path in blind
    ]
    if len(subject.versions) == 1:  # else other versions may have it
        faults += [Fault(toml, "protobuf.required", quoted(path), f"a field of {version.path}") for path in missing]
    return ProtobufContract(version.name, described.message, of_subject, tuple(required), settings.json_items)
