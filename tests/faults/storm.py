"""All devices come back at once after the proxy was killed: `python -m tests.faults.storm --devices 10000`.

Each has a persistent session with a subscription, and dials again a moment after its connection is lost. Says how long
it takes until all are back, and how many of them found their sessions.
"""

import argparse
import resource
import tempfile
from pathlib import Path
from random import Random

import trio
from attrs import frozen

from tests.faults.ledger import Ledger
from tests.faults.network import until
from tests.faults.peers import Ear
from tests.harness import start_proxy, write_settings
from tests.ports import free_port

PATIENCE = 300.0  # seconds for all to connect


@frozen
class Storm:
    """What came of it.

    Attributes:
        back: seconds from the kill until everybody had a CONNACK.
        kept: how many found their session.

    """

    back: float
    kept: int


async def storm(folder: Path, count: int) -> Storm:
    """Connect so many devices, kill the proxy, start it again, and wait until all are back."""
    port = free_port()
    file = write_settings(folder, f"[limits]\nconnections_per_address = {2 * count}")
    file.write_text(file.read_text().replace('bind = "127.0.0.1:0"', f'bind = "127.0.0.1:{port}"', 1))
    chance = Random(1)
    names, ledger = [f"device-{number}" for number in range(count)], Ledger(["nobody"])
    devices = [
        Ear(f"mqtt://127.0.0.1:{port}", name, chance, destination="nobody", ledger=ledger, filter=f"to/{name}")
        for name in names
    ]
    proxy = start_proxy(file)
    try:
        with trio.fail_after(PATIENCE):
            async with trio.open_nursery() as nursery:
                for device in devices:
                    nursery.start_soon(device.run)
                await until(lambda: all(device.is_listening for device in devices))
                proxy.kill()
                began = trio.current_time()
                proxy = start_proxy(file)
                await until(lambda: all(device.connections > 1 for device in devices))
                back = trio.current_time() - began
                nursery.cancel_scope.cancel()
        proxy.check_unharmed()
    finally:
        proxy.kill()
    return Storm(back, count - sum(device.forgotten for device in devices))


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--devices", type=int, default=10_000)
    count = parser.parse_args().devices
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, 2 * count + 1000), most))
    with tempfile.TemporaryDirectory() as folder:
        result = trio.run(storm, Path(folder), count)
    print(f"{count} devices are back after {result.back:.1f} s, {result.kept} of them found their sessions")


if __name__ == "__main__":
    main()
