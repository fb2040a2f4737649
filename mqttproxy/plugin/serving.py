"""The process of one plug-in check: `python -m mqttproxy.plugin.serving NAME`. The proxy starts it, and ends it.

It lives as long as its standard input is open. What the check prints goes to standard error, which is the proxy's.
"""

import os
import signal
import sys
from collections.abc import Callable, Iterable
from importlib.metadata import entry_points
from typing import Any, BinaryIO, Final

from mqttproxy.plugin.view import (
    ENCODER,
    GROUP,
    HEADER,
    LONGEST_TEXT,
    MOST_FAILURES,
    REQUESTS,
    Reply,
    Request,
    framed,
)

SPARE: Final = 1.0  # seconds beyond its time after which a check that hangs ends, though nobody is there to end it


def answer(check: Callable[..., Any], request: Request) -> Reply:
    """Return what a check says of a message, whatever it does."""
    try:
        return Reply(None, tuple(_pairs(check(request.view))))
    except Exception as error:  # noqa: BLE001 # somebody else's code: whatever it raises is told
        return Reply(f"{type(error).__name__}: {error}"[:LONGEST_TEXT])


def _pairs(found: Iterable[Any] | None) -> Iterable[tuple[str, str]]:
    for count, item in enumerate(found or ()):
        if count == MOST_FAILURES:
            return
        pointer, text = item
        if not (isinstance(pointer, str) and isinstance(text, str)):
            raise TypeError(f"a failure is a pair of texts, pointer and what is wrong, not {item!r}")
        yield pointer[:LONGEST_TEXT], text[:LONGEST_TEXT]


def load(name: str) -> Callable[..., Any]:
    """Return the check. Whatever its module raises is raised."""
    found = list(entry_points(group=GROUP, name=name))
    if not found:
        raise LookupError(f"there is no entry point {name!r} in the group {GROUP!r}")
    check = found[0].load()
    if not callable(check):
        raise TypeError(f"{found[0].value} cannot be called")
    return check  # type: ignore[no-any-return] # it was asked


def serve(name: str, requests: BinaryIO, replies: BinaryIO) -> int:
    """Load a check and answer until there is nothing more to read; returns the exit code."""

    def send(reply: Reply) -> None:
        replies.write(framed(ENCODER.encode(reply)))
        replies.flush()

    try:
        check = load(name)
    except BaseException as error:  # noqa: BLE001 # SystemExit too: the proxy is told why there will be no answers
        send(Reply(f"{type(error).__name__}: {error}"[:LONGEST_TEXT]))
        return 1
    send(Reply())
    while len(header := requests.read(HEADER)) == HEADER:
        request = REQUESTS.decode(requests.read(int.from_bytes(header)))
        signal.setitimer(signal.ITIMER_REAL, request.seconds + SPARE)
        reply = answer(check, request)
        signal.setitimer(signal.ITIMER_REAL, 0)
        send(reply)
    return 0


def main() -> int:
    """Keep the check away from the pipes, then serve."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of a terminal: the proxy drains, and needs its checks for that
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    requests, replies = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    with open(os.devnull, "rb") as nothing:  # noqa: PTH123 # a name, no place
        os.dup2(nothing.fileno(), 0)
    os.dup2(2, 1)
    return serve(sys.argv[1], requests, replies)


if __name__ == "__main__":
    sys.exit(main())
