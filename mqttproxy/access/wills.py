"""May a device connect with this will? Asked at CONNECT; what is published later is judged again, like any message."""

from mqttproxy.access.rules import may_publish
from mqttproxy.mqtt.packets import Will
from mqttproxy.mqtt.reasons import ReasonCode
from mqttproxy.validation import Action, Failure, Generation, Identity, Verdict, judge
from mqttproxy.validation.plugins import Answers


def judge_will(
    will: Will, identity: Identity, generation: Generation, answers: Answers | None = None
) -> Verdict | None:
    """Judge the will of a CONNECT as if it were published now. `answers` of plug-ins, as for `judge`.

    Returns:
        None: the device may come in. Else what refuses or holds it; its `reason` stands in CONNACK, 0x87 for a topic
        where the device may not publish, 0x90 for one that the topic policy does not allow, 0x99 for its payload.

    """
    reason = may_publish(will.topic)
    if reason.is_failure:
        failure = Failure("", "topic", "topics that begin with $ are the server's")
        return Verdict(action=Action.REFUSE, failures=(failure,), reason=reason)
    verdict = judge(will, identity, generation, answers)
    return None if verdict.action is Action.FORWARD else verdict


def connack_reason(verdict: Verdict, *, is_5: bool) -> ReasonCode:
    """Return what CONNACK says of a will that is not welcome. MQTT 3.1.1 knows only "not authorized" for that."""
    return verdict.reason if is_5 else ReasonCode.NOT_AUTHORIZED
