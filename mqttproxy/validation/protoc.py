"""`.proto` files compiled by the compiler that `grpcio-tools` brings, in a process of its own with a time limit.

The sources come from the schema folder as bytes, and are laid out in a temporary folder: whatever an `import` says,
nothing else can be read but what Google ships with the compiler.
"""

import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Final

EXTRA: Final = "needs the extra mqttproxy[protobuf]: pip install 'mqttproxy[protobuf]'"

_COMMENT: Final = re.compile(rb'("(?:[^"\\\n]|\\.)*")|//[^\n]*|/\*.*?\*/', re.DOTALL)
_IMPORT: Final = re.compile(rb'\bimport\s+(?:public\s+|weak\s+|option\s+)?"([^"\n]+)"\s*;')
_NOTE: Final = re.compile(r"WARNING: All log messages|[IWE]\d{4} ")
_LARGEST_WORDS: Final = 4000  # characters of the compiler's complaints

# `-P` and this path: what lies in the folder that the proxy was started in is not run under our name.
_CODE: Final = """\
import os, signal, sys
signal.alarm({alarm})
sys.path[:] = {path!r}
import grpc_tools
from grpc_tools import protoc
folder, root = sys.argv[1:]
shipped = os.path.join(os.path.dirname(grpc_tools.__file__), "_proto")
sys.exit(protoc.main(["protoc", "-I" + os.path.join(folder, "in"), "-I" + shipped, "--include_imports",
    "--descriptor_set_out=" + os.path.join(folder, "out"), root]))
"""


class ProtocError(Exception):
    """The sources cannot be compiled; in words, one line for each fault."""


def compile_protos(sources: Mapping[str, bytes], root: str, seconds: float) -> bytes:
    """Return the descriptor set of a source and of all that it imports.

    Args:
        sources: by path, as an `import` names it.
        root: the path of the one that is wanted.
        seconds: longest time that it may take.

    Raises:
        ProtocError: they are faulty, there is no compiler, or it took too long.
        OSError: there is no disk or no process left.

    """
    if find_spec("grpc_tools") is None:
        raise ProtocError(EXTRA)
    with tempfile.TemporaryDirectory(prefix="mqttproxy-protoc-") as name:
        folder = Path(name)
        for path, data in sources.items():
            file = folder / "in" / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(data)
        code = _CODE.format(alarm=int(seconds) + 2, path=sys.path)
        try:
            done = subprocess.run(  # noqa: S603 - our own interpreter and code
                [sys.executable, "-P", "-c", code, name, root],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                check=False,
                timeout=seconds,
            )
        except subprocess.TimeoutExpired:
            raise ProtocError(f"{root}: it takes longer than {seconds:g} s to compile (schemas.check_time)") from None
        if done.returncode != 0:
            raise ProtocError(_words(done.stderr, folder) or f"the compiler ended with {done.returncode}")
        return (folder / "out").read_bytes()


def imports(source: bytes) -> list[str]:
    """Return what a `.proto` file imports."""
    bare = _COMMENT.sub(lambda match: match[1] or b" ", source)
    return [found.decode(errors="backslashreplace") for found in _IMPORT.findall(bare)]


def _words(stderr: bytes, folder: Path) -> str:
    """Return what the compiler said, without notes of its logging."""
    text = stderr.decode(errors="backslashreplace")[:_LARGEST_WORDS].replace(f"{folder}/in/", "")
    return "\n".join(line for line in text.splitlines() if line.strip() and not _NOTE.match(line))
