"""The recorder: a bounded ring of recent messages, on disk, of which nothing that is promised depends.

recorder   `Recorder`: takes messages at any time, has a thread write them, counts what it could not take
tape       the database file: written by that thread
reading    the same file, read beside a proxy that may be running
model      `Recorded`: a message, who sent it, and what became of it
"""

from mqttproxy.recorder.model import Recorded, Told
from mqttproxy.recorder.recorder import Recorder

__all__ = ["Recorded", "Recorder", "Told"]
