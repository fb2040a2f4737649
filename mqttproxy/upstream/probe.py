"""Try an upstream once, for `mqttproxy check --probe`: dial, CONNECT, say what the broker said, leave."""

import trio
from attrs import evolve, frozen

from mqttproxy.config.model import Seconds, UpstreamSettings
from mqttproxy.mqtt.client import ServerTerms
from mqttproxy.mqtt.session_state import SessionState
from mqttproxy.transport.dial import dial as dial_broker
from mqttproxy.upstream.connect import Account, Dial, account_of, connect
from mqttproxy.upstream.errors import LINK_FAILURES, as_link_error

SUFFIX = "-probe"


@frozen(kw_only=True)
class ProbeResult:
    """What came of it: whether the broker accepted us, in `words` for a person, and what it allows."""

    ok: bool
    words: str
    seconds: float = 0.0  # from the look-up to CONNACK
    terms: ServerTerms | None = None


async def probe(settings: UpstreamSettings, proxy_id: str, dial: Dial = dial_broker) -> ProbeResult:
    """Connect once within `connect_timeout` and tell what came of it; raises nothing that a broker can cause.

    The client identifier has a suffix and the session ends at once: a proxy that runs with the same settings is
    not disturbed.
    """
    began = trio.current_time()
    # A clean start and no expiry: in both versions nothing stays behind.
    once = evolve(settings, clean_start=True, session_expiry=Seconds(0.0))
    try:
        known = account_of(settings, proxy_id)
        account = Account(known.client_id + SUFFIX, known.password)
        opened = await connect(once, account, SessionState(), dial, knows_session=True)
        seconds = trio.current_time() - began
        await opened.close()
    except* LINK_FAILURES as group:
        words = str(as_link_error(group))
        return_value = ProbeResult(ok=False, words=words, seconds=trio.current_time() - began)
    else:
        return_value = ProbeResult(ok=True, words=_words(settings, opened.conn.server, seconds), seconds=seconds)
    return return_value


def _words(settings: UpstreamSettings, terms: ServerTerms, seconds: float) -> str:
    words = f"accepted in {seconds * 1000:.0f} ms, MQTT {settings.version}"
    lower = [
        f"at most {terms.receive_maximum} in flight" if terms.receive_maximum < settings.in_flight else "",
        f"packets up to {terms.maximum_packet_size} bytes" if terms.maximum_packet_size is not None else "",
        f"QoS up to {terms.maximum_qos}" if terms.maximum_qos < 2 else "",
        "" if terms.retain_available else "nothing retained",
        "" if terms.wildcard_subscriptions else "no wildcards in subscriptions",
    ]
    return "; ".join([words, *filter(None, lower)])
