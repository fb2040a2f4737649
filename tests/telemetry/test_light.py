import subprocess
import sys

import pytest

from tests.waiting import PATIENCE


@pytest.mark.parametrize(
    "program",
    [
        "import sys, mqttproxy.telemetry.logs; assert not {'rich', 'asyncio'} & set(sys.modules)",
        "import structlog",
        "import mqttproxy.telemetry.logs, structlog; assert structlog.stdlib.asyncio.sleep",
        "import mqttproxy.telemetry.logs, rich.console; rich.console.Console()",
        "import rich.console, mqttproxy.telemetry.logs; rich.console.Console()",
        "import mqttproxy.telemetry.logs, asyncio; asyncio.run(asyncio.sleep(0))",
        "import mqttproxy.telemetry.logs; from asyncio.events import get_event_loop_policy as get; assert get()",
        "import asyncio, mqttproxy.telemetry.logs; asyncio.run(asyncio.sleep(0))",
        "import mqttproxy.telemetry.server, html; assert html.unescape('&lt;') == '<'",
        "import mqttproxy.telemetry.server; from http.server import HTTPServer; assert HTTPServer.server_bind",
        "import mqttproxy.telemetry.server, urllib.request; urllib.request.urlopen('data:,x').close()",
        "import mqttproxy.telemetry.server; from hypercorn.protocol.h2 import H2Protocol; assert H2Protocol.initiate",
        "import mqttproxy.telemetry.server; from hypercorn.protocol.ws_stream import WSStream; assert WSStream.handle",
        "import mqttproxy.telemetry.server; from multiprocessing.synchronize import Event; assert Event.set",
    ],
)
def test_what_is_not_needed_is_neither_in_memory_nor_broken(program: str) -> None:
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True, timeout=PATIENCE)
