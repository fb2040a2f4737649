"""Every row that ends its connection, with Mosquitto: what it ends too, we do not end out of pedantry.

Where it bears more, the standard is on our side; `LAXER` names these rows. What Mosquitto says at the end is its own
business: for most of them it says nothing.
"""

import re
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from typing import Final

import pytest

from tests.bad_input.every_row import CUT_BYTES, ROWS
from tests.bad_input.rows import Row
from tests.bad_input.wire import connect, frames, publish
from tests.scenarios.mosquitto import running_brokers
from tests.waiting import PATIENCE

pytestmark = pytest.mark.wire("tcp")

# What Mosquitto 2.0 bears, by id and name of the rows.
LAXER: Final = {
    "A2": r"connect|empty_packet|publish|.*_of_no_bytes.*|.*bytes_of_length_too_many",  # reads such lengths
    "A3": r".*",  # takes packets of 256 MB unless it is told otherwise, and waits for them
    "A5": r"ping.*|.*(_and_a_byte_more|with_more)",  # skips what is behind the last field of packets without strings
    "A6": r"(ping|pub(ack|rec|comp)|0x[cd]).*",  # looks at the flags of some packets only
    "A7": r".*_from_a_client",  # skips some packets that only servers send
    "A11": r".*",  # has no bound but that of the packet
    "A12": r"identifier_from_a_client|.*(payload_format|0x01_is|0x0b_is_of).*",
    "B4": r"response_topic.*",
    "B5": r".*_128",  # has a bound of 200 levels
    "B6": r"no_local.*",
    "C1": r"too_long_a_name",
    "C3": r"DUP.*|publish_0x3[89]",
    "C8": r".*",  # does not look at reasons of acknowledgements
    "C17": r"data_without_a_method",
}
GOOD: Final = 77  # a packet identifier

_numbers = count(1)


def is_borne(row: Row) -> bool:
    return bool(re.fullmatch(LAXER.get(row.id, ""), str(row).split(row.state, 1)[1].lstrip("-")))


COMPARED: Final = [row for row in ROWS if row.expected != "answer" and len(row.send) < CUT_BYTES and not is_borne(row)]


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with running_brokers(tmp_path_factory.mktemp("mosquitto"), "mosquitto") as [broker]:
        yield broker.port


def what_is_wrong(port: int, row: Row) -> str:
    """Play a row; return what was said to it if it did not end the connection."""
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as line:
        if row.state == "open":
            line.sendall(connect(row.version, f"row-{next(_numbers)}"))
            assert line.recv(100)[:1] == b"\x20"
            line.sendall(publish(row.version, "good", b"1", qos=1, packet_id=GOOD))
            assert line.recv(100)[2:4] == bytes([0, GOOD])
        said = b""
        try:
            line.sendall(row.send + b"\xc0\x00")
            while more := line.recv(4096):
                said += more
                if any(
                    packet[0] == 0xD0 or (row.state == "new" and packet[:4:3] == b"\x20\x00") for packet in frames(said)
                ):
                    return f"{row}: {said.hex(' ')}"
        except ConnectionError:  # it was closed while we sent
            pass
    return ""


def test_what_ends_a_connection_ends_it_with_mosquitto_too(port: int) -> None:
    assert len(COMPARED) > 2000
    with ThreadPoolExecutor(32) as threads:
        wrong = [words for words in threads.map(lambda row: what_is_wrong(port, row), COMPARED) if words]
    assert not wrong, "\n".join(wrong)
