"""What the author of a plug-in check imports, and the process that it runs in. No other room is known here.

view      `View`: the message that a check is given, and its sender
serving   the process of one check: reads views, writes what the check says of them
"""

from mqttproxy.plugin.view import Properties, Sender, View

__all__ = ["Properties", "Sender", "View"]
