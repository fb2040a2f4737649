"""The schema folder, read and checked: every document that policies name, and those that they refer to.

The door for authors of schemas: slow, thorough, with good messages, and closed. Nothing is fetched from anywhere, and
nothing outside the folder is read (`BAD-INPUT` F9). A process that runs reads what another one has checked: it is as
strict, but words for the first fault of a file are enough there.
"""

from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import Final
from urllib.parse import urldefrag, urljoin

from attrs import define, field, frozen

from mqttproxy.config.errors import Fault, quoted
from mqttproxy.validation.drafts import DEFAULT, DRAFTS, Draft, draft_of
from mqttproxy.validation.files import LARGEST_SCHEMA, SchemaFiles, joined, path_of
from mqttproxy.validation.gate import PayloadError, read
from mqttproxy.validation.nodes import Schema, inner_schemas
from mqttproxy.validation.words import pointer, shown

REFERENCES: Final = ("$ref", "$dynamicRef", "$recursiveRef")
MOST_DOCUMENTS: Final = 1000

# The address of the schema folder. The domain can never exist (RFC 2606), and nobody would be asked anyway.
_FOLDER: Final = "https://mqttproxy.invalid/"
_DEEPEST: Final = 128
_MOST_VALUES: Final = 100_000
HERE: Final = "a place in this file, or a file in the schema folder"


@frozen
class Document:
    """One schema file, under one address: that of its place in the folder, or what a reference made of its `$id`."""

    path: str
    uri: str
    schema: Schema
    draft: Draft


@define
class Library:
    """Reads and checks schema files, and collects what is wrong with them."""

    files: SchemaFiles
    directory: Path  # only for words
    checked: bool = False  # by another process, whose words its author has read
    documents: dict[str, Document] = field(init=False, factory=dict)  # by address
    faults: list[Fault] = field(init=False, factory=list)
    told: set[tuple[str, str]] = field(init=False, factory=set)  # path and place of references that lead nowhere
    _ids: set[str] = field(init=False, factory=set)
    _broken: set[str] = field(init=False, factory=set)  # paths whose faults were told
    _unfollowed: list[Document] = field(init=False, factory=list)

    def add(self, schema: str, key: str, file: str) -> Document | None:
        """Read a schema and everything that it refers to.

        Args:
            schema: subject@version.
            key: the setting that names it, for words.
            file: the file of that setting, for words.

        Returns:
            The document, or None: it cannot be used, and `faults` says why.

        """
        path = path_of(schema)
        if path is None:
            self.faults.append(Fault(file, key, quoted(schema), "subject@version"))
            return None
        if path in self._broken:
            return None
        document = self.documents.get(_FOLDER + path)
        if document is not None:
            return document
        try:
            data = self.files.read(path)
        except OSError as error:
            hint = self._suggestion(schema) if isinstance(error, FileNotFoundError) else ""
            self.faults.append(
                Fault(file, key, quoted(schema), f"a readable file {self.name(path)}", hint or _words(error))
            )
            return None
        document = self._read(path, data, _FOLDER + path)
        while self._unfollowed:
            self._follow_all(self._unfollowed.pop())
        return document

    def name(self, path: str) -> str:
        """Return the path of a schema file as a person knows it."""
        return str(self.directory / path)

    def _suggestion(self, schema: str) -> str:
        known = [path.removesuffix(".json").replace("/", "@") for path in self.files.names() if path.endswith(".json")]
        close = get_close_matches(schema, known, n=1)
        return f"did you mean {quoted(close[0])}?" if close else ""

    def _read(self, path: str, data: bytes, uri: str) -> Document | None:
        document = self._checked(path, data, uri)
        if document is None:
            self._broken.add(path)
            return None
        self.documents[uri] = document
        self._unfollowed.append(document)
        return document

    def _follow_all(self, document: Document) -> None:
        """Read the files that a document refers to."""
        places = list(_places(document))
        for base, _, schema in places:
            if document.draft.id_keyword in schema:
                self._ids.add(base)
        for base, place, schema in places:
            for keyword in REFERENCES:
                if not isinstance(reference := schema.get(keyword), str):
                    continue
                key = pointer((*place, keyword))
                if (hint := self._follow(document, base, reference)) is None:
                    continue
                self.told.add((document.path, key))
                if hint:
                    self.faults.append(Fault(self.name(document.path), key, quoted(reference), HERE, hint))

    def _checked(self, path: str, data: bytes, uri: str) -> Document | None:
        name = self.name(path)
        if len(data) > LARGEST_SCHEMA:
            self.faults.append(Fault(name, "", f"{len(data)} bytes", f"at most {LARGEST_SCHEMA}"))
            return None
        try:
            schema = read(data, _DEEPEST, _MOST_VALUES)
        except PayloadError as error:
            self.faults.extend(Fault(name, failure.pointer, failure.message) for failure in error.failures)
            return None
        if isinstance(schema, bool):
            schema = {} if schema else {"not": {}}
        if not isinstance(schema, dict):
            self.faults.append(Fault(name, "", shown(schema), "a JSON Schema: an object, true or false"))
            return None
        draft = draft_of(schema.get("$schema", DEFAULT))
        if draft is None:
            known = ", ".join(DRAFTS)
            self.faults.append(Fault(name, "/$schema", shown(schema["$schema"]), f"one of {known}"))
            return None
        try:
            faults = [Fault(name, place, words, "valid JSON Schema") for place, words in self._faults(draft, schema)]
        except RecursionError:
            faults = [Fault(name, "", "schemas nested too deeply")]
        document = Document(path, uri, schema, draft)
        faults = faults or [
            Fault(name, pointer((*place, "$schema")), shown(inner["$schema"]), "the draft of the whole file")
            for _, place, inner in _places(document)
            if "$schema" in inner and draft_of(inner["$schema"]) is not draft
        ]
        self.faults.extend(faults)
        return None if faults else document

    def _faults(self, draft: Draft, schema: Schema) -> Iterable[tuple[str, str]]:
        if self.checked:
            return draft.first_fault(schema)
        from mqttproxy.validation import metaschemas  # noqa: PLC0415 - only where schemas are checked

        return metaschemas.faults(draft.name, schema)

    def _follow(self, document: Document, base: str, reference: str) -> str | None:
        """Read the file that a reference leads to, if it leads out of its document.

        Returns:
            None, or in words why it leads nowhere; no words: it leads to a file whose faults are told.

        """
        try:
            target = urldefrag(urljoin(base, reference)).url
            file = urldefrag(reference).url
        except ValueError as error:
            return str(error)
        if not file or target in self.documents or target in self._ids:
            return None
        path = joined(document.path, file)
        return "nothing is fetched from elsewhere" if path is None else self._fetch(path, target)

    def _fetch(self, path: str, uri: str) -> str | None:
        """Read a file of the folder; return as `_follow` does."""
        if path in self._broken:
            return ""
        if len(self.documents) >= MOST_DOCUMENTS:
            return f"there are more than {MOST_DOCUMENTS} schema files"
        try:
            data = self.files.read(path)
        except OSError as error:
            return f"{self.name(path)}: {_words(error)}"
        return None if self._read(path, data, uri) else ""


def _places(document: Document) -> Iterator[tuple[str, tuple[str | int, ...], Schema]]:
    """Yield base address, place and content of every schema of a document, the outermost first."""
    draft = document.draft
    waiting: list[tuple[str, tuple[str | int, ...], Schema]] = [(document.uri, (), document.schema)]
    while waiting:
        base, place, schema = waiting.pop()
        identifier = schema.get(draft.id_keyword)
        if isinstance(identifier, str):
            base = urldefrag(urljoin(base, identifier)).url
        yield base, place, schema
        for _, inner_place, inner in inner_schemas(schema, reference_alone=draft.reference_alone):
            waiting.append((base, (*place, *inner_place), inner))


def _words(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
