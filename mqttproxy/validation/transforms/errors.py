"""What is raised when a document cannot be transformed."""

from typing import Final

from mqttproxy.validation.verdict import Failure
from mqttproxy.validation.words import MESSAGE_LENGTH, POINTER_LENGTH, printable

KEYWORD: Final = "transform"


class TransformError(Exception):
    """A step cannot be done. The message fails; nothing of the work is used.

    `failures` says why, as the judge does: `pointer` leads into the document as it was before the step.
    """

    def __init__(self, pointer: str, why: str, *failures: Failure) -> None:
        super().__init__(f"{why} at {pointer}" if pointer else why)
        self.pointer = pointer
        self.why = why
        self.failures = failures or (
            Failure(printable(pointer, POINTER_LENGTH), KEYWORD, printable(why, MESSAGE_LENGTH)),
        )
