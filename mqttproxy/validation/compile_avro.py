"""Avro schemas to contracts."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from mqttproxy.config.errors import Fault, quoted
from mqttproxy.config.model import PayloadSettings
from mqttproxy.validation.files import LARGEST_SCHEMA
from mqttproxy.validation.gate import PayloadError, read
from mqttproxy.validation.registry import Registry, Version

if TYPE_CHECKING:
    from mqttproxy.validation.avro import AvroContract

EXTRA: Final = "needs the extra mqttproxy[avro]: pip install 'mqttproxy[avro]'"

_DEEPEST: Final = 128
_MOST_VALUES: Final = 100_000


def compile_versions(
    versions: Mapping[Version, str],
    registry: Registry,
    settings: PayloadSettings,
    file: str,
    *,
    checked: bool,  # noqa: ARG001 - as for the other kinds: there is no second, better set of words
) -> tuple[dict[Version, "AvroContract"], list[Fault]]:
    """Read, check and compile Avro schemas, see `compile_contracts`."""
    try:
        from mqttproxy.validation.avro import AvroContract, parsed  # noqa: PLC0415 - an extra
    except ImportError:
        return {}, [
            Fault(file, key, quoted(version.name), "the library for it", EXTRA) for version, key in versions.items()
        ]
    contracts: dict[Version, AvroContract] = {}
    faults: list[Fault] = []
    for version in versions:
        name = str(registry.directory / version.path)
        try:
            data = registry.files.read(version.path)
            if len(data) > LARGEST_SCHEMA:
                faults.append(Fault(name, "", f"{len(data)} bytes", f"at most {LARGEST_SCHEMA}"))
                continue
            schema = parsed(read(data, _DEEPEST, _MOST_VALUES))
        except OSError as error:
            faults.append(Fault(name, "", (error.strerror or str(error)).lower(), "a readable file"))
        except PayloadError as error:
            faults.extend(Fault(name, failure.pointer, failure.message) for failure in error.failures)
        except ValueError as error:
            faults.append(Fault(name, "", str(error), "an Avro schema"))
        else:
            contracts[version] = AvroContract(version.name, schema, settings.json_depth, settings.json_items)
    return contracts, faults
