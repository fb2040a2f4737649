"""What becomes of one message, and why; computes only, and never asks a proxy that runs.

walk       `explain`: message, sender and configuration in, `Explanation` out
sender     `sender`: a device as the proxy would know it
trying     `run`: cases held against what `explain` finds
recorded   recorded messages as the judge sees them
backtest   `backtest`: recorded messages judged by two configurations
coverage   which rules the cases have exercised
"""

from mqttproxy.explain.backtest import Backtest, backtest
from mqttproxy.explain.coverage import Coverage
from mqttproxy.explain.recorded import identity_of, message_of
from mqttproxy.explain.sender import NoSuchSenderError, NotLetInError, sender
from mqttproxy.explain.trying import Tried, run
from mqttproxy.explain.walk import Explanation, Premises, explain

__all__ = [
    "Backtest",
    "Coverage",
    "Explanation",
    "NoSuchSenderError",
    "NotLetInError",
    "Premises",
    "Tried",
    "backtest",
    "explain",
    "identity_of",
    "message_of",
    "run",
    "sender",
]
