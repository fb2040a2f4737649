"""Settings so low that a test can reach every bound."""

from typing import Final

RECEIVE_MAXIMUM: Final = 256  # the default
QUEUE_MOST: Final = 100
RETAINED_MOST: Final = 50
WILLS_PER_SECOND: Final = 200
FLAPPING_MOST: Final = 5
SESSIONS_MOST: Final = 30
# Nobody is at the upstream's address: what goes there is acknowledged by nobody. A device that takes nothing is cut
# only after its queue is full, also where that takes a while.
BOUNDED: Final = f"""
[limits]
connections_per_address = 2000
queue_messages = {QUEUE_MOST}
queue_bytes = "4MiB"
write_timeout = "3s"
retained_messages = {RETAINED_MOST}
wills_per_second = {WILLS_PER_SECOND}
flapping_connects = {FLAPPING_MOST}

[[upstreams]]
name = "dead"
url = "mqtt://127.0.0.1:1"
queue_messages = 100000
breaker_failures = 100000  # an open breaker would take nothing

[[routes]]
topics = ["stuck/#"]
to = ["dead"]
ack = "all"

[[routes]]
topics = ["#"]
to = ["local"]
"""
STRICT: Final = f"""
[limits]
connections_per_address = 2000
keep_alive = "2s"
session_expiry = "1h"
sessions = {SESSIONS_MOST}
queues_bytes = "100KiB"
flapping_connects = 0
"""
