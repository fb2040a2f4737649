"""What becomes of one message, and why; computes only, and never asks a proxy that runs.

walk       `explain`: message, sender and configuration in, `Explanation` out
sender     `sender`: a device as the proxy would know it
trying     `run`: cases held against what `explain` finds
coverage   which rules the cases have exercised
"""

from mqttproxy.explain.coverage import Coverage
from mqttproxy.explain.sender import NoSuchSenderError, NotLetInError, sender
from mqttproxy.explain.trying import Tried, run
from mqttproxy.explain.walk import Explanation, Premises, explain

__all__ = [
    "Coverage",
    "Explanation",
    "NoSuchSenderError",
    "NotLetInError",
    "Premises",
    "Tried",
    "explain",
    "run",
    "sender",
]
