"""Libraries imported without what they import in turn and nobody here uses: a proxy at rest is to be small.

Stand-ins take the place of such modules while a library is imported, and load the real ones if they are used after all.
A test (tests/cli/test_memory.py) holds that they are not.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType
from typing import Any, Final, cast


class _WhenUsed(ModuleType):
    # For `import module`: loads it when they first look into it.
    def __getattr__(self, name: str) -> object:
        return getattr(_real(self), name)

    def __bool__(self) -> bool:
        return False  # `logging` looks whether asyncio is there at every record, and structlog makes one at import


class _WhenCalled(ModuleType):
    # For `from module import Class`: loads it when they first make one.
    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("__"):  # the import system's own questions
            raise AttributeError(name)

        def make(*args: Any, **kwargs: Any) -> Any:
            return getattr(_real(self), name)(*args, **kwargs)

        return make


class _Blank(ModuleType):
    # For `from module import Class` by those who make subclasses of it, which nobody here may use then.
    def __getattr__(self, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


def _real(stand_in: ModuleType) -> ModuleType:
    if sys.modules.get(stand_in.__name__) is stand_in:
        del sys.modules[stand_in.__name__]
    return import_module(stand_in.__name__)


_STAND_INS: Final[dict[str, ModuleType | None]] = {
    # structlog: 4 MB to paint tracebacks with local variables, which would show passwords. Optional, and None in
    # sys.modules makes an import fail, as documented.
    "rich": None,
    "asyncio": _WhenUsed("asyncio"),  # structlog: 1.4 MB, for methods that nobody calls here
    # prometheus_client: 2 MB for an HTTP server and a client of its own
    "http.server": _Blank("http.server"),
    "wsgiref.simple_server": _Blank("wsgiref.simple_server"),
    "urllib.request": _Blank("urllib.request"),
    # Hypercorn: HTTP/2 1.6 MB, WebSocket 0.5 MB, processes 0.2 MB
    "h2.events": _WhenUsed("h2.events"),
    "hypercorn.protocol.h2": _WhenCalled("hypercorn.protocol.h2"),
    "hypercorn.protocol.ws_stream": _WhenCalled("hypercorn.protocol.ws_stream"),
    "multiprocessing.synchronize": _WhenCalled("multiprocessing.synchronize"),
}


@contextmanager
def light_imports() -> Iterator[None]:
    """Import libraries inside of this. Afterwards everything can be imported as if nothing had been."""
    modules = cast("dict[str, object]", sys.modules)
    for_now = {name: stand_in for name, stand_in in _STAND_INS.items() if name not in modules}
    modules |= for_now
    try:
        yield
    finally:
        for name, stand_in in for_now.items():
            if modules.get(name) is stand_in:
                del modules[name]
