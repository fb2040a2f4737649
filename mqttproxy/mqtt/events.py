"""What the two machines tell their caller besides packets."""

from msgspec import Struct

from mqttproxy.mqtt.packets import Message, Packet, Properties
from mqttproxy.mqtt.reasons import ReasonCode


class Settled(Struct, frozen=True, gc=False):
    """The exchange of one message we sent at QoS 1 or 2 is over, and its token comes back: exactly once.

    From 0x80 up `reason` is the peer's refusal of this message, and final: nothing resends it. `message` is what was
    sent, `properties` stood in the peer's answer.
    """

    token: object
    reason: ReasonCode
    packet_id: int
    properties: Properties
    message: Message


class Sent(Struct, frozen=True):
    """What became of the messages given to `publish`, as far as it is known at once; the rest comes as `Settled`.

    `done`: tokens of messages that went out at QoS 0; a token that is None is not listed.
    `too_large`: tokens (None too) of messages larger than the peer takes; nothing was sent of them.
    """

    done: list[object]
    too_large: list[object]


Event = Packet | Settled
