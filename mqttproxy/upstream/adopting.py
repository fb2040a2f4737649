"""Taking up a session that an earlier process left: what is in flight there, as the broker gets it today."""

from mqttproxy.mqtt.session_state import SessionState
from mqttproxy.upstream.books import Books, size_of
from mqttproxy.upstream.callbacks import Callbacks, Refusal, Unshaped
from mqttproxy.upstream.naming import Naming
from mqttproxy.upstream.shaping import beside


def take_up(session: SessionState, name: str, naming: Naming, books: Books, callbacks: Callbacks) -> None:
    """Give what is in flight its shape and the broker's names, and count it.

    What can no longer be shaped is taken out and refused: it must not go as it is. What the broker has taken already
    stays, because only its PUBREL is sent.
    """
    shape = callbacks.shape_of(name)
    refused: list[Refusal] = []
    books.offered += len(session.outgoing)
    for packet_id, (message, token) in list(session.outgoing.items()):
        shaped = message if shape is None or packet_id in session.released else shape(message)
        if isinstance(shaped, Unshaped):
            session.give_up(packet_id)
            if session.is_durable:
                session.end((packet_id,), accepted=True)  # remembered until it is in the quarantine
            refused.append((token, message, shaped))
            continue
        if shaped is not message:
            shaped = beside(shaped, message)
        session.outgoing[packet_id] = naming.topics.message_to_remote(shaped) or shaped, token
    books.in_flight_bytes += size_of(session.outgoing.values())
    if refused:
        books.refused += len(refused)
        callbacks.refused(name, refused)
