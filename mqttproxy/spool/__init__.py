"""The spool: durable hand-over between the acknowledgement and the destinations.

One commit for many messages, each stored once for all its destinations; a cursor for each destination.
"""

from mqttproxy.spool.entry import Entry
from mqttproxy.spool.exchanges import Exchanges
from mqttproxy.spool.feeding import Feeding
from mqttproxy.spool.lane import SpoolLane
from mqttproxy.spool.spool import Spool, TooManyDestinationsError

__all__ = ["Entry", "Exchanges", "Feeding", "Spool", "SpoolLane", "TooManyDestinationsError"]
