"""Whether one Protobuf message reads what another one sends, by field numbers, in words with field paths.

Stricter than the wire: a value must mean the same. A number that was given to another field, a type that loses values
and a field under a new name are differences, although the bytes could be parsed.
"""

from collections.abc import Iterator
from typing import Any, Final

from attrs import define, field
from google.protobuf import descriptor_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor as Field

from mqttproxy.config.model import PayloadSettings
from mqttproxy.validation.comparing import Difference, contracts_of
from mqttproxy.validation.protobuf import ProtobufContract
from mqttproxy.validation.registry import Registry, Version
from mqttproxy.validation.wire import TYPES
from mqttproxy.validation.words import listed, pointer

Place = tuple[str | int, ...]

# What a reader takes besides its own type, without losing a value.
_WIDER: Final = {
    Field.TYPE_INT64: (Field.TYPE_INT32, Field.TYPE_UINT32, Field.TYPE_BOOL, Field.TYPE_ENUM),
    Field.TYPE_INT32: (Field.TYPE_BOOL, Field.TYPE_ENUM),
    Field.TYPE_UINT64: (Field.TYPE_UINT32, Field.TYPE_BOOL),
    Field.TYPE_UINT32: (Field.TYPE_BOOL,),
    Field.TYPE_SINT64: (Field.TYPE_SINT32,),
    Field.TYPE_BYTES: (Field.TYPE_STRING,),
}


def differences(registry: Registry, reader: Version, writer: Version, settings: PayloadSettings) -> list[Difference]:
    """Return why the reader does not take all that the writer sends, see `comparing`."""
    reading, writing = contracts_of(registry, (reader, writer), settings)
    return compare_messages(reading, writing, f"v{reader.number}", f"v{writer.number}")


def compare_messages(reader: ProtobufContract, writer: ProtobufContract, reads: str, writes: str) -> list[Difference]:
    """Return the same for two contracts. `reads`, `writes`: what the versions are called."""
    comparison = _Comparison(reads, writes, strict=reader.settings.unknown_fields == "refuse")
    found = list(comparison.messages(reader.descriptor, writer.descriptor, ()))
    return [*found, *_newly_required(reader, writer, comparison)]


def _newly_required(
    reading: ProtobufContract, writing: ProtobufContract, comparison: "_Comparison"
) -> Iterator[Difference]:
    known = {_path(path) for path in writing.required}
    for path in reading.required:
        if _path(path) not in known:
            yield comparison.required(_path(path), there=False)


def _path(path: tuple[Field, ...]) -> Place:
    return tuple(one.name for one in path)


@define
class _Comparison:
    reads: str
    writes: str
    strict: bool = field(kw_only=True)  # the reader refuses what it does not know
    seen: set[tuple[str, str]] = field(init=False, factory=set)

    def messages(self, reader: Descriptor, writer: Descriptor, place: Place) -> Iterator[Difference]:
        pair = (reader.full_name, writer.full_name)
        if pair in self.seen:
            return
        self.seen.add(pair)
        for sent in writer.fields:
            known = reader.fields_by_number.get(sent.number)
            if known is not None:
                yield from self._fields(known, sent, (*place, sent.name))
            elif self.strict:
                inside = pointer((*place, sent.name))
                words = (
                    f"{self.reads} does not know {inside} (field {sent.number}), which {self.writes} devices may send"
                )
                yield Difference(inside, f"{words}, and refuses unknown fields")
        yield from self._missing(reader, writer, place)
        yield from self._oneofs(reader, writer, place)

    def required(self, place: Place, *, there: bool) -> Difference:
        """Return that the reader requires a field that may be missing; `there`: the writer has it, as optional."""
        how = "need not send" if there else "do not send"
        inside = pointer(place)
        return Difference(inside, f"{self.reads} requires {inside}, which {self.writes} devices {how}")

    def _missing(self, reader: Descriptor, writer: Descriptor, place: Place) -> Iterator[Difference]:
        proto = descriptor_pb2.DescriptorProto()
        writer.CopyToProto(proto)
        for known in reader.fields:
            sent = writer.fields_by_number.get(known.number)
            inside = (*place, known.name)
            if known.is_required and (sent is None or not sent.is_required):
                yield self.required(inside, there=sent is not None)
            if sent is not None:
                continue
            if any(span.start <= known.number < span.end for span in proto.reserved_range):
                words = f"{self.reads} uses the number {known.number} again for {pointer(inside)}"
                yield Difference(pointer(inside), f"{words}; {self.writes} has it reserved")
            elif known.name in writer.fields_by_name:
                other = writer.fields_by_name[known.name].number
                words = f"{pointer(inside)} is number {known.number} in {self.reads} and {other} in {self.writes}"
                yield Difference(pointer(inside), words)

    def _fields(self, known: Field, sent: Field, place: Place) -> Iterator[Difference]:
        inside, renamed = pointer(place), known.name != sent.name
        fits = known.type == sent.type or sent.type in _WIDER.get(known.type, ())
        if renamed:
            there = pointer((*place[:-1], known.name))
            if not fits:
                words = f"the number {sent.number} is {there} in {self.reads} and {inside} in {self.writes}: used again"
                yield Difference(inside, words)
                return
            words = f"field {sent.number} is called {there} in {self.reads} and {inside} in {self.writes}"
            yield Difference(inside, f"{words}: rules, transforms and JSON know it by its name")
        if not fits:
            words = f"{self.reads} has {TYPES[known.type]} for {inside}, {self.writes} devices send {TYPES[sent.type]}"
            yield Difference(inside, words)
            return
        if sent.is_repeated and not known.is_repeated:
            words = f"{self.reads} has one value for {inside}, {self.writes} devices may send several"
            yield Difference(inside, words)
        elif known.is_repeated and not sent.is_repeated:
            words = f"{self.reads} has a list for {inside}, {self.writes} devices send one value"
            yield Difference(inside, words)
        yield from self._inner(known, sent, place)

    def _inner(self, known: Field, sent: Field, place: Place) -> Iterator[Difference]:
        reader, writer = known.message_type, sent.message_type
        if reader is not None and writer is not None:
            maps = [_is_map(one) for one in (reader, writer)]
            if maps[0] != maps[1]:
                yield Difference(pointer(place), f"{pointer(place)} is a map in only one of the versions")
                return
            yield from self.messages(reader, writer, place)
        if known.enum_type is not None and sent.enum_type is not None and (self.strict or known.enum_type.is_closed):
            numbers = known.enum_type.values_by_number
            lost = [value.name for value in sent.enum_type.values if value.number not in numbers]
            if lost:
                words = f"{self.reads} does not know {listed(lost)} at {pointer(place)}"
                yield Difference(pointer(place), f"{words}, which {self.writes} devices may send")

    def _oneofs(self, reader: Descriptor, writer: Descriptor, place: Place) -> Iterator[Difference]:
        for oneof in reader.oneofs:
            sent = [
                writer.fields_by_number[one.number] for one in oneof.fields if one.number in writer.fields_by_number
            ]
            apart = {one.containing_oneof.name if one.containing_oneof else f" {one.name}" for one in sent}
            if len(apart) > 1:
                names = listed([one.name for one in sent])
                words = f"{self.reads} keeps only one of {names}, {self.writes} devices may send several"
                yield Difference(pointer((*place, oneof.name)), words)


def _is_map(kind: Any) -> bool:
    return bool(kind.GetOptions().map_entry)
