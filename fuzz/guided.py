"""Targets run under Atheris: libFuzzer chooses the inputs by the lines of ours that they reach.

Atheris is no dependency, since its wheels are not for every Python that we run on: `pip install atheris`.
"""

import importlib
import importlib.util
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from fuzz.limits import watched
from fuzz.mutations import LONGEST
from fuzz.session import BrokenError, Session

INSTRUMENTED: Final = ["mqttproxy"]


def is_there() -> bool:
    """Tell whether Atheris can be imported."""
    return importlib.util.find_spec("atheris") is not None


def load(module: str) -> Any:
    """Import a target so that Atheris sees which lines it reaches. Nothing of ours may be imported before."""
    atheris = importlib.import_module("atheris")
    with atheris.instrument_imports(include=INSTRUMENTED, enable_loader_override=False):
        return importlib.import_module(module)


def run(session: Session, seed: int, ended: Callable[[str, bytes | None], None]) -> None:
    """Run a session until it is over. Does not return: libFuzzer ends the process.

    Args:
        session: as made, nothing run yet.
        seed: of what libFuzzer leaves to chance.
        ended: is told why in words, empty: it is over and all is well; and the input that breaks the invariant.

    """
    atheris = importlib.import_module("atheris")
    with watched():
        session.replay()
        session.generate()

    def try_one(data: bytes) -> None:
        try:
            if session.try_one(data) and session.keep:
                session.remember(data)
        except BrokenError as broken:
            end(str(broken), broken.data)
        if session.runs % 500 == 0:
            session.look()
        if session.is_over:
            end(session.growth.fault() if session.growth else "", None)

    def end(why: str, data: bytes | None) -> None:
        ended(why, data)
        shutil.rmtree(folder)
        os._exit(bool(why))

    folder = Path(tempfile.mkdtemp())
    pool = folder / "pool"
    pool.mkdir()
    for number, data in enumerate(session.pool):
        (pool / str(number)).write_bytes(data)
    with watched():
        words = _dictionary(folder / "words", getattr(session.target, "WORDS", ()))
        options = [
            f"-seed={seed % 2**31}",
            f"-max_len={getattr(session.target, 'LARGEST', LONGEST)}",
            "-rss_limit_mb=0",
            "-verbosity=0",
            "-handle_int=0",
            "-handle_term=0",  # see fuzz/run.py
            *words,
        ]
        atheris.Setup(["fuzz", str(pool), *options], try_one)
        atheris.Fuzz()


def _dictionary(path: Path, words: tuple[bytes, ...]) -> list[str]:
    """Write the words of a target as libFuzzer reads them; return the option that names them."""
    if not words:
        return []
    quoted = ("".join(f"\\x{byte:02x}" for byte in word) for word in words)
    path.write_text("".join(f'"{word}"\n' for word in quoted))
    return [f"-dict={path}"]
