"""What commands ask a running proxy for, over a socket in its data folder. One JSON document each way."""

from typing import Any, Final

import orjson
import trio

from mqttproxy.config.difference import Difference, compare
from mqttproxy.config.errors import ConfigError
from mqttproxy.reload import Outcome
from mqttproxy.steering.causes import Cause, Steered
from mqttproxy.steering.steering import Steering
from mqttproxy.steering.touched import touched
from mqttproxy.telemetry.jsonlines import encode_line
from mqttproxy.transport.local import CONTROL, Caller, bind_local, serve_local
from mqttproxy.transport.stream import TransportError

COMMANDS: Final = ("reload", "plan", "apply", "confirm", "rollback", "status", "shadow", "unmasked", "ban")

JSON = dict[str, Any]


class Control:
    """Answers commands. Whoever may open the socket may do anything: it is the user of the process, and root."""

    def __init__(self, running: Steered, steering: Steering) -> None:
        self._running: Final = running
        self._steering: Final = steering

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Answer until cancelled. Without a socket the proxy does its work all the same, and says so."""
        directory = self._running.started_with.proxy.data_dir
        try:
            sock = bind_local(directory, CONTROL)
        except TransportError as error:
            self._running.log.warning("no socket for commands", error=str(error))
            task_status.started()
            return
        task_status.started()
        await serve_local(sock, self._answer)

    async def _answer(self, request: bytes, caller: Caller) -> bytes:
        try:
            asked = orjson.loads(request)
        except orjson.JSONDecodeError:
            asked = None
        if not isinstance(asked, dict) or asked.get("command") not in COMMANDS:
            return encode_line({"done": False, "faults": [f"not a request; there are {', '.join(COMMANDS)}"]})
        cause = Cause("command", f"{asked.get('user') or '?'} ({caller})")
        if asked["command"] == "unmasked":
            return encode_line(await self._note(cause, str(asked.get("what", ""))))
        if asked["command"] == "ban":
            return encode_line(await self._running.banning.answer(asked, cause))
        return encode_line(await self._do(asked, cause))

    async def _do(self, asked: JSON, cause: Cause) -> JSON:
        steering = self._steering
        text, called = str(asked.get("text", "")).encode("utf-8", "surrogateescape"), str(asked.get("called", "?"))
        match asked["command"]:
            case "reload":
                return self._told(await steering.reload(cause))
            case "apply":
                seconds = asked.get("confirm_within")
                return self._told(await steering.apply(text, called, seconds, cause))
            case "confirm":
                return self._told(await steering.confirm(cause))
            case "rollback":
                return self._told(await steering.roll_back(cause))
            case "plan":
                return await self._plan(text, called)
        answer: JSON = {"done": True, "faults": [], **steering.status()}
        if asked["command"] == "shadow":
            policy, rows = asked.get("policy"), asked.get("rows")
            answer["shadows"] = self._running.pipeline.shadowing.as_document(
                policy if isinstance(policy, str) else None, rows if isinstance(rows, int) and rows > 0 else None
            )
        return answer

    async def _plan(self, text: bytes, called: str) -> JSON:
        running = self._running
        try:
            built = await self._steering.build_aside(text, called)
        except (ConfigError, OSError) as error:
            faults = [str(fault) for fault in error.faults] if isinstance(error, ConfigError) else [str(error)]
            return {"done": False, "faults": faults}
        difference: Difference = compare(running.config, built.config)
        return {
            "done": True,
            "faults": [],
            **self._steering.status(),
            "difference": difference.as_json(),
            "touched": await touched(running, built),
        }

    async def _note(self, cause: Cause, what: str) -> JSON:
        """Write down that somebody looks at what is masked, before it is shown."""
        audit = self._running.audit
        dropped = audit.dropped
        audit.write({"event": "unmasked", "cause": cause.by, "who": cause.who, "what": what})
        await audit.flush()
        trouble = audit.trouble or ("its line was dropped" if audit.dropped > dropped else None)
        return {"done": trouble is None, "faults": [] if trouble is None else [trouble]}

    def _told(self, outcome: Outcome) -> JSON:
        document: JSON = {"done": outcome.done, "faults": list(outcome.faults), **self._steering.status()}
        document["needs_restart"] = list(outcome.needs_restart)
        for name, changes in (("upstreams", outcome.upstreams), ("listeners", outcome.listeners)):
            if changes is not None:
                document[name] = {
                    what: list(getattr(changes, what))
                    for what in ("added", "removed", "changed", "renewed")
                    if getattr(changes, what, ())
                }
        return document
