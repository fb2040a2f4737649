"""What a device may no longer have: dropped from its session, before its connection can send it."""

from collections.abc import Callable

from mqttproxy.mqtt.packets import Message
from mqttproxy.sessions.session import Session

REASON = "not_authorized"  # under which it is counted


def forbid(session: Session, may_receive: Callable[[str], bool]) -> None:
    """Drop what waits for a device and it may not have (any more).

    While it is not connected, what was sent to it before and not acknowledged is not sent again either: of QoS 1 it is
    forgotten, of QoS 2 only PUBREL goes, which ends the exchange whether the device has the message or not.

    Args:
        session: whose.
        may_receive: tells of a topic whether its messages may be delivered.

    """

    def is_forbidden(message: Message) -> bool:
        return not may_receive(message.topic)

    session.drop(is_forbidden, REASON)
    if session.is_connected or not session.is_durable:
        return
    state = session.state
    for packet_id, (message, token) in [*state.outgoing.items()]:
        if packet_id in state.released or not is_forbidden(message):
            continue
        if message.qos == 2:
            state.release(packet_id)
        else:
            del state.outgoing[packet_id]
            session.settled((token,))
