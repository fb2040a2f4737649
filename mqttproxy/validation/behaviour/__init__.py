"""What devices do over time: rules that remember. Computes only; time comes in, verdicts and news go out.

watch    `Watch`: all rules in force and what they remember; asked once for each message, and now and then for silence
kinds    one class for each kind of rule: what it remembers of a device, and what it finds wrong
memory   what is remembered, bounded: the oldest is forgotten first
places   where a rule finds its number, time or value in a message
"""

from mqttproxy.validation.behaviour.kinds import Silence
from mqttproxy.validation.behaviour.watch import Rule, Watch

__all__ = ["Rule", "Silence", "Watch"]
