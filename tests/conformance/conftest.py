"""One proxy for all of these tests, with nothing but defaults and one policy; each test has devices of its own.

Devices come and go here faster than any real one, and refused ones share an identifier: nobody is banned for it.
With the environment's `CONFORMANCE_PORT` another broker is asked instead, at that port of 127.0.0.1.
"""

import os
from collections.abc import Iterator

import pytest

from tests.conformance.device import Server
from tests.harness import running_proxy, write_settings

SETTINGS = """
[limits]
connections_per_address = 5000
flapping_connects = 0

[[policies]]
name = "numbers"
topics = ["numbers/#"]
schema = "number@1"
on_failure = ["refuse"]
"""


@pytest.fixture(scope="session")
def ports(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, int]]:
    if other := os.environ.get("CONFORMANCE_PORT"):
        yield {"tcp": int(other)}
        return
    folder = tmp_path_factory.mktemp("conformance")
    file = write_settings(folder, SETTINGS, transports=("tcp", "ws"))
    (folder / "schemas" / "number").mkdir(parents=True)
    (folder / "schemas" / "number" / "1.json").write_text('{"type": "number"}')
    with running_proxy(file) as proxy:
        yield {transport: proxy.port(transport) for transport in ("tcp", "ws")}


@pytest.fixture
def server(ports: dict[str, int]) -> Iterator[Server]:
    server = Server(ports)
    yield server
    server.close()
