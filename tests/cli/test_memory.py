"""What a running proxy has in memory: rules on modules, which are exact. Bytes are measured by bench/memory.py."""

import json
import subprocess
import sys
from pathlib import Path

from tests.waiting import PATIENCE

# The real program, that tells what it has imported when it is ready, and stops.
_PROGRAM = """
import json, os, signal, sys
from mqttproxy.cli import main

from mqttproxy.app import Proxy
say_ready = Proxy._say_ready
def tell(self, metrics_at):
    say_ready(self, metrics_at)
    print(json.dumps(list(sys.modules)), flush=True)
    os.kill(os.getpid(), signal.SIGTERM)
Proxy._say_ready = tell
main()
"""
_CONFIG = """
[[listeners]]
name = "plain"
bind = "127.0.0.1:0"
{listener}
[access]
allow_anonymous = true
[[policies]]
name = "p"
topics = ["t"]
schema = "t@1"
[telemetry]
metrics_bind = "127.0.0.1:0"
"""
# For reading command lines, checking schemas, migrating tables, painting terminals, and protocols that nobody speaks.
NOT_NEEDED = {
    "asyncio",
    "cel_expr_python",
    "cyclopts",
    "fastavro",
    "google.protobuf",
    "grpc_tools",
    "h2.connection",
    "html",
    "http.server",
    "jsonschema",
    "jsonschema_specifications",
    "rich",
    "sqlite_utils",
    "urllib.request",
    "websockets",
    "wsproto",
}


def modules_of_a_proxy(folder: Path, listener: str = "") -> set[str]:
    (folder / "schemas" / "t").mkdir(parents=True)
    (folder / "schemas" / "t" / "1.json").write_text('{"type": "number"}')
    path = folder / "proxy.toml"
    path.write_text(_CONFIG.format(listener=listener))
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, "run", str(path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout))


def test_a_proxy_at_rest_has_imported_nothing_that_it_does_not_need(tmp_path: Path) -> None:
    loaded = modules_of_a_proxy(tmp_path)
    assert "jsonschema_rs" in loaded  # there is a policy
    assert not loaded & NOT_NEEDED


def test_a_websocket_listener_brings_its_library_before_the_first_device(tmp_path: Path) -> None:
    assert "websockets" in modules_of_a_proxy(tmp_path, 'transport = "ws"')
