"""The gate: asks the chain of a listener about each device that comes, and makes wait who keeps failing."""

from collections.abc import Callable

import trio
from attrs import define, field

from mqttproxy.access.chain import NO_CHAINS, Chains
from mqttproxy.access.credentials import Allowed, Ask, Authenticator, BackEndDownError, Credentials, Denied
from mqttproxy.access.throttle import Throttle
from mqttproxy.config.model import AccessSettings
from mqttproxy.mqtt.reasons import ReasonCode


@define(eq=False)
class Gate:
    """One for the process; a reload gives it other chains. `wall`: seconds since 1970."""

    wall: Callable[[], float]
    chains: Chains = NO_CHAINS
    throttle: Throttle = field(init=False)
    unsure: frozenset[str] = frozenset()  # authenticators that must be asked again about the devices they let in
    down: dict[str, str] = field(init=False, factory=dict)  # those of them that could not be asked by `stamps`, and why
    _stamps: dict[str, object] = field(init=False, factory=dict)
    watching: trio.Event = field(init=False, factory=trio.Event)  # there is something to watch

    @throttle.default
    def _make_throttle(self) -> Throttle:
        return Throttle(failures=10, window=60.0, ban=300.0)

    def use(self, chains: Chains, settings: AccessSettings) -> list[Authenticator]:
        """Ask other chains from now on; what authenticators know that stay is kept.

        Returns:
            Those that are asked no more. Questions to them may be on their way.

        """
        before = {link.settings.name: link for link in self.chains.links()}
        for link in chains.links():
            old = before.get(link.settings.name)
            if old is not None and old is not link and type(old) is type(link):
                link.adopt(old)
        gone = [link for link in before.values() if link not in chains.links()]
        self.chains = chains
        if any(link.is_live for link in chains.links()):
            self.watching.set()
        throttle = self.throttle
        throttle.failures, throttle.window = settings.failures, settings.failure_window
        throttle.ban = settings.failure_ban
        return gone

    async def stamps(self) -> dict[str, object]:
        """Return what differs when devices may not be let in any more as they were, by authenticator.

        Of those that cannot be asked now, what was said last stands; they are in `down`.
        """
        found: dict[str, object] = {}
        down: dict[str, str] = {}
        for link in self.chains.links():
            name = link.settings.name
            if link.is_live:
                try:
                    found[name] = await link.stamp()
                except BackEndDownError as error:
                    down[name] = str(error)
                    found[name] = self._stamps.get(name)
        self._stamps, self.down = found, down
        return found

    async def check(self, credentials: Credentials, access: AccessSettings, ask: Ask | None = None) -> Allowed | Denied:
        """Say whether a device may come in. Where somebody was asked, a refusal takes at least `refusal_delay`.

        Args:
            credentials: that it shows.
            access: the settings in force.
            ask: for enhanced authentication.

        """
        began = trio.current_time()
        chain = self.chains.of(credentials.listener)
        if not chain.links:
            return await chain.check(credentials, access, ask)
        if seconds := self.throttle.wait_of(credentials.address, began):
            words = f"too many failed attempts from this address, for {seconds:.0f} s more"
            return Denied("", words, ReasonCode.CONNECTION_RATE_EXCEEDED)
        answer = await chain.check(credentials, access, ask)
        if isinstance(answer, Allowed) and answer.expires_at <= self.wall():
            answer = Denied(answer.by, "the credentials have expired")
        if isinstance(answer, Allowed):
            return answer
        if answer.reason is not ReasonCode.SERVER_UNAVAILABLE and credentials.are_shown:
            self.throttle.failed(credentials.address, trio.current_time())
        await trio.sleep_until(began + access.refusal_delay)
        return answer
