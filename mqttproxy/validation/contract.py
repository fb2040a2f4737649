"""What a schema of any kind is once it is in force: it judges payloads, and reads and writes them as JSON."""

from typing import Protocol

from mqttproxy.validation.verdict import Failure
from mqttproxy.validation.words import Json


class Contract(Protocol):
    """One version of one subject. Immutable: the same payload gets the same answer for ever."""

    @property
    def name(self) -> str:
        """The `subject@version`; a setting may have named it by an alias or a range."""

    @property
    def kind(self) -> str:
        """One of json, protobuf, avro."""

    @property
    def reads_text(self) -> bool:
        """Whether a payload that is not UTF-8 fails for certain: that of JSON does."""

    def failures(self, payload: bytes) -> tuple[Failure, ...]:
        """Return everything that is wrong with a payload, at most `FAILURES_KEPT`; nothing: it is good."""

    def document(self, payload: bytes) -> Json:
        """Return what the payload says, as JSON has it, whether or not the schema likes what it says.

        Raises:
            PayloadError: it cannot be read, or not within the bounds.

        """

    def encode(self, document: Json) -> bytes:
        """Return the payload that says a document: what `document` would read again.

        Raises:
            PayloadError: the schema has no way to say it.

        """
