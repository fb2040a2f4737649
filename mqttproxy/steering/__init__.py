"""How a running proxy is told to change: by a signal, by its files, by a command; and how it takes a change back."""

from mqttproxy.steering.banning import Banning
from mqttproxy.steering.causes import Cause
from mqttproxy.steering.control import Control
from mqttproxy.steering.resume import Resumed, resume
from mqttproxy.steering.steering import Steering
from mqttproxy.steering.trial import Records
from mqttproxy.steering.watch import watch

__all__ = ["Banning", "Cause", "Control", "Records", "Resumed", "Steering", "resume", "watch"]
