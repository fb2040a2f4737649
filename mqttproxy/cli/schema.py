"""`mqttproxy schema list | show | check | compat | alias | remove`."""

import json as json_module
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from attrs import frozen
from cyclopts import App, Parameter

from mqttproxy.cli.held_output import printable
from mqttproxy.cli.output import complain, say, tell
from mqttproxy.cli.subject_file import with_alias, without_alias
from mqttproxy.config.errors import ConfigError, Fault, quoted
from mqttproxy.config.load import load_config
from mqttproxy.config.model import ProxyConfig
from mqttproxy.config.references import parse_reference, schema_references
from mqttproxy.validation.comparing import Answer, compare, elders, faults_of
from mqttproxy.validation.compile import compile_versions
from mqttproxy.validation.files import SUBJECT, digest, schema_folder
from mqttproxy.validation.ledger import Ledger
from mqttproxy.validation.registry import Registry, Subject, UnresolvedError, Version
from mqttproxy.validation.uses import Use, uses

schema_app: Final = App(name="schema", help="Look after the schemas: versions, aliases, compatibility, who uses what.")

schema_app.command(
    "mqttproxy.cli.schema_infer:infer", name="infer", help="Propose a JSON Schema from recorded messages."
)

Config = Annotated[Path, Parameter(name="--config")]
Switch = Annotated[bool, Parameter(negative=())]
Mode = Literal["NONE", "BACKWARD", "FORWARD", "FULL", "BACKWARD_TRANSITIVE", "FORWARD_TRANSITIVE", "FULL_TRANSITIVE"]

_FILE: Final = Path("proxy.toml")


@frozen
class _Shelf:
    """The schema folder that a configuration names, and what the configuration says of it."""

    file: Path
    config: ProxyConfig
    registry: Registry
    ledger: Ledger

    def users(self) -> dict[str, list[Use]]:
        """Return who uses which file."""
        return uses(self.registry, schema_references(self.config), str(self.file))

    def find(self, reference: str) -> Version:
        """Return the version that a reference means.

        Raises:
            ConfigError: there is none.

        """
        try:
            return self.registry.find(reference)
        except UnresolvedError as error:
            fault = Fault(str(self.registry.directory), "", quoted(reference), error.expected, error.hint)
            raise ConfigError([fault]) from error


def _open(file: Path) -> _Shelf:
    config = load_config(file)
    directory = config.schemas.directory
    ledger = Ledger(schema_folder(config), directory)
    return _Shelf(file, config, Registry(ledger, directory), ledger)


@schema_app.command(name="list")
def list_(*, config: Config = _FILE, json: Switch = False) -> int:
    """List all versions of all subjects, with their aliases and who uses them.

    Args:
        config: the configuration of the proxy, which tells where schemas are.
        json: one JSON object a line, for programs.

    """
    try:
        shelf = _open(config)
        users = shelf.users()
    except ConfigError as error:
        return tell(error)
    for subject in shelf.registry.subjects():
        for version in subject.versions:
            facts = _facts(shelf, subject, version, users)
            say(json_module.dumps(facts) if json else _line(facts))
    return 0


@schema_app.command
def show(reference: str, /, *, config: Config = _FILE, json: Switch = False) -> int:
    """Show what a reference means, who uses it, and the schema itself.

    Args:
        reference: `subject@version`, `subject@alias` or a range such as `subject@>=1,<3`.
        config: the configuration of the proxy.
        json: one JSON object, for programs.

    """
    try:
        shelf = _open(config)
        version = shelf.find(reference)
        facts = _facts(shelf, shelf.registry.subject(version.subject), version, shelf.users())
        data = shelf.ledger.read(version.path)
    except ConfigError as error:
        return tell(error)
    except OSError as error:
        complain(f"{printable(reference)}: {error}")
        return 1
    if json:
        say(json_module.dumps({**facts, "content": data.decode(errors="backslashreplace")}))
        return 0
    for name in ("schema", "kind", "file", "sha256", "aliases", "compatibility", "used_before", "used_by"):
        value = facts[name]
        words = ", ".join(value) if isinstance(value, list) else str(value)
        say(f"{name.replace('_', ' ') + ':':<15}{printable(words)}".rstrip())
    if b"\0" not in data:
        say(printable(data.decode(errors="backslashreplace"), keep="\n\t").rstrip())
    return 0


@schema_app.command
def check(*subjects: str, config: Config = _FILE, json: Switch = False) -> int:
    """Check all versions of all subjects, or of some: drafts that nothing names too, and their compatibility.

    Args:
        subjects: which ones; none: all.
        config: the configuration of the proxy.
        json: one JSON object for each fault, for programs.

    """
    try:
        shelf = _open(config)
    except ConfigError as error:
        return tell(error)
    registry = shelf.registry
    chosen = [subject for subject in registry.subjects() if not subjects or subject.name in subjects]
    faults = [
        Fault(str(registry.directory), "", quoted(name), "a subject that is there")
        for name in subjects
        if not registry.subject(name).versions
    ]
    count = 0
    for subject in chosen:
        good = []
        for version in subject.versions:
            _, found = compile_versions({version: version.name}, registry, shelf.config.payload, str(config))
            faults += found
            good += [] if found else [version]
            count += 1
        for version in good:
            faults += faults_of(registry, subject, version, shelf.config.payload)
    faults = list(dict.fromkeys([*registry.faults, *faults, *shelf.ledger.faults()]))
    for fault in faults:
        complain(json_module.dumps({"file": fault.file, "key": fault.key, "words": str(fault)}) if json else str(fault))
    if not faults and not json:
        say(f"{registry.directory}: ok: {len(chosen)} subjects, {count} versions")
    return 1 if faults else 0


@schema_app.command
def compat(
    reference: str,
    /,
    *,
    against: str | None = None,
    mode: Mode | None = None,
    config: Config = _FILE,
    json: Switch = False,
) -> int:
    """Say whether a version is compatible with the older ones, and if not, why.

    The exit code is 0 if it is, 1 if it is not.

    Args:
        reference: the newer version, such as `temperature@3`.
        against: the older version; by default those that the mode asks about.
        mode: by default what `subject.toml` says, or BACKWARD where that says NONE.
        config: the configuration of the proxy.
        json: one JSON object for each answer, for programs.

    """
    try:
        shelf = _open(config)
        version = shelf.find(reference)
        subject = shelf.registry.subject(version.subject)
        declared = subject.settings.compatibility
        wanted = mode or (declared if declared != "NONE" else "BACKWARD")
        others = (shelf.find(against),) if against is not None else elders(subject, version, wanted)
        answers: list[Answer] = []
        for other in others:
            answers += compare(shelf.registry, other, version, wanted, shelf.config.payload)
    except ConfigError as error:
        return tell(error)
    except (OSError, ValueError) as error:
        complain(f"{printable(reference)}: it cannot be compared: {error}")
        return 1
    for answer in answers:
        say(json_module.dumps(_answer(answer)) if json else _sentences(answer))
    if not answers and not json:
        say(f"{version.name}: nothing to compare it with")
    return 1 if any(answer.differences for answer in answers) else 0


@schema_app.command
def alias(  # noqa: PLR0911 - each refusal has words of its own
    name: str, version: str | None = None, /, *, remove: Switch = False, config: Config = _FILE
) -> int:
    """Give a version another name, such as `temperature@stable`, or move that name to another version.

    It is in force after the next reload.

    Args:
        name: `subject@alias`.
        version: the version that it shall mean.
        remove: take the alias away instead; refused while something uses it.
        config: the configuration of the proxy.

    """
    parsed = parse_reference(name)
    if parsed is None or parsed.conditions or remove == (version is not None):
        complain("use: mqttproxy schema alias SUBJECT@ALIAS VERSION, or SUBJECT@ALIAS --remove")
        return 2
    try:
        shelf = _open(config)
        subject = shelf.registry.subject(parsed.subject)
        if remove:
            return _remove_alias(shelf, subject, parsed.spec)
        target = shelf.find(f"{parsed.subject}@{version}")
        if subject.version(parsed.spec) is not None:
            complain(f"{name}: it is the name of a version")
            return 1
        _, faults = compile_versions({target: target.name}, shelf.registry, shelf.config.payload, str(config))
        faults = [*shelf.registry.faults, *faults] or faults_of(shelf.registry, subject, target, shelf.config.payload)
        if faults:
            return tell(ConfigError(faults))
        _write(shelf, subject, with_alias(_text(shelf, subject), parsed.spec, target.number))
    except ConfigError as error:
        return tell(error)
    except (OSError, ValueError) as error:
        complain(f"{printable(name)}: {error}")
        return 1
    say(f"{name} means {target.name}")
    for key, reference in schema_references(shelf.config):
        if reference == name:
            say(f"{config}: {key} names it: the next reload puts {target.name} in force there")
    return 0


@schema_app.command
def remove(name: str, /, *, config: Config = _FILE) -> int:
    """Remove a version, unless something uses it. Its number is never given to other content.

    Args:
        name: `subject@version`.
        config: the configuration of the proxy.

    """
    parsed = parse_reference(name)
    if parsed is None or parsed.conditions:
        complain("use: mqttproxy schema remove SUBJECT@VERSION")
        return 2
    try:
        shelf = _open(config)
        version = shelf.registry.subject(parsed.subject).version(parsed.spec)
        if version is None:
            complain(f"{printable(name)}: no such version" + ("" if not _is_alias(shelf, name) else ", it is an alias"))
            return 1
        if found := shelf.users().get(version.path):
            for use in found:
                complain(f"{version.name} is used: {use.words}")
            return 1
        (shelf.registry.directory / version.path).unlink()
    except ConfigError as error:
        return tell(error)
    except OSError as error:
        complain(f"{printable(name)}: {error}")
        return 1
    say(f"{version.name} is removed")
    return 0


def _is_alias(shelf: _Shelf, name: str) -> bool:
    subject, _, spec = name.partition("@")
    return spec in shelf.registry.subject(subject).settings.aliases


def _remove_alias(shelf: _Shelf, subject: Subject, name: str) -> int:
    full = f"{subject.name}@{name}"
    if name not in subject.settings.aliases:
        complain(f"{printable(full)}: no such alias")
        return 1
    users = [key for key, reference in schema_references(shelf.config) if reference == full]
    for key in users:
        complain(f"{full} is used: {shelf.file}: {key}")
    if users:
        return 1
    _write(shelf, subject, without_alias(_text(shelf, subject), name))
    say(f"{full} is removed")
    return 0


def _text(shelf: _Shelf, subject: Subject) -> str:
    try:
        return shelf.ledger.read(f"{subject.name}/{SUBJECT}").decode()
    except FileNotFoundError:
        return ""


def _write(shelf: _Shelf, subject: Subject, text: str) -> None:
    file = shelf.registry.directory / subject.name / SUBJECT
    draft = file.with_name(f".{SUBJECT}.new")
    draft.write_text(text)
    draft.replace(file)


def _facts(shelf: _Shelf, subject: Subject, version: Version, users: dict[str, list[Use]]) -> dict[str, Any]:
    try:
        sha = digest(shelf.ledger.read(version.path))
    except OSError as error:
        sha = str(error)
    return {
        "schema": version.name,
        "kind": version.kind,
        "file": str(shelf.registry.directory / version.path),
        "sha256": sha.removeprefix("sha256:"),
        "aliases": [name for name, target in subject.settings.aliases.items() if target == version.number],
        "compatibility": subject.settings.compatibility,
        "used_before": version.path in _used(shelf),
        "used_by": [use.words for use in users.get(version.path, ()) if use.kind != "alias"],
    }


def _used(shelf: _Shelf) -> Any:
    try:
        return shelf.ledger.used()
    except (OSError, ValueError):
        return {}


def _line(facts: dict[str, Any]) -> str:
    aliases = f" ({', '.join(facts['aliases'])})" if facts["aliases"] else ""
    used = f"  used by {len(facts['used_by'])}" if facts["used_by"] else ""
    before = "" if used or not facts["used_before"] else "  used before"
    return f"{facts['schema'] + aliases:<40}  {facts['kind']:<8}{used}{before}".rstrip()


def _answer(answer: Answer) -> dict[str, Any]:
    return {
        "reader": answer.reader.name,
        "writer": answer.writer.name,
        "compatible": not answer.differences,
        "differences": [{"pointer": one.pointer, "words": one.words} for one in answer.differences],
    }


def _sentences(answer: Answer) -> str:
    head = f"{answer.reader.name} takes what devices of {answer.writer.name} send: "
    if not answer.differences:
        return f"{head}yes"
    return "\n".join([f"{head}no", *(f"  {printable(one.words)}" for one in answer.differences)])
