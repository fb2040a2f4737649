"""`[[masks]]` over what commands show of held messages, and who wants to see through them: told in the audit trail.

The trail is written by the proxy that runs. Where none does, this process takes the data folder, so that none can begin
meanwhile, and writes the line itself. Where neither works nothing is shown.
"""

from pathlib import Path
from typing import Final

import trio
from attrs import evolve, frozen

from mqttproxy.cli.running import NotRunningError, ask_running, user_name
from mqttproxy.config.load import load_config
from mqttproxy.config.masking import key_of
from mqttproxy.config.model import ProxyConfig
from mqttproxy.quarantine.lock import lock_data_dir
from mqttproxy.quarantine.model import Record
from mqttproxy.telemetry.audit import AuditTrail
from mqttproxy.validation import Failure
from mqttproxy.validation.transforms import NO_MASKS, Masker, make_masker


class UnauditedError(OSError):
    """Nobody can be told that somebody wants to see what is masked, so it is not shown."""


@frozen
class Veil:
    """What may be shown of held messages. Those that were masked when they were stored stay as they are."""

    masker: Masker = NO_MASKS

    def record(self, record: Record) -> Record:
        """Return a message without words that may quote what is masked."""
        failures = self.masker.failures([Failure(*failure) for failure in record.failures], record.topic)
        told = tuple((failure.pointer, failure.keyword, failure.message) for failure in failures)
        return record if told == record.failures else evolve(record, failures=told)

    def payload(self, payload: bytes, topic: str) -> bytes:
        """Return a payload as it may be shown."""
        return self.masker.payload(payload, topic)


NO_VEIL: Final = Veil()


def veil_of(file: Path, *, unmasked: bool, what: str) -> Veil:
    """Return the veil that a configuration asks for.

    Args:
        file: the configuration.
        unmasked: none is wanted; this is told in the audit trail if there are masks.
        what: is looked at, in words, for the trail.

    Raises:
        ConfigError: it cannot be read, or the key of its hashes cannot.
        OSError: the trail cannot be written.

    """
    config = load_config(file)
    if not config.masks:
        return NO_VEIL
    if unmasked:
        _tell(file, config, what)
        return NO_VEIL
    return Veil(make_masker(config, key_of(config, str(file))))


def _tell(file: Path, config: ProxyConfig, what: str) -> None:
    try:
        answer = ask_running(file, "unmasked", what=what)
    except NotRunningError:
        _write(config, what)
        return
    if not answer.get("done"):
        raise UnauditedError(f"the proxy does not write the audit trail: {'; '.join(answer.get('faults', ()))}")


def _write(config: ProxyConfig, what: str) -> None:
    audit = config.audit
    with lock_data_dir(config.proxy.data_dir):
        trail = AuditTrail(
            config.proxy.data_dir / "audit", rotate_bytes=audit.rotate_bytes, keep_files=audit.keep_files
        )
        trail.write({"event": "unmasked", "cause": "command", "who": user_name(), "what": what})
        trio.run(trail.flush)
    if trail.trouble is not None:
        raise UnauditedError(trail.trouble)
