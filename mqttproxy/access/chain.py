"""Chains of authenticators: the first that knows a device decides, and whom nobody knows does not come in."""

from collections.abc import Mapping, Sequence
from typing import Final

from attrs import Factory, frozen

from mqttproxy.access.credentials import Allowed, Ask, Authenticator, BackEndDownError, Credentials, Denied
from mqttproxy.config.conditions import Glob
from mqttproxy.config.model import AccessSettings
from mqttproxy.config.topic_templates import UnsafeValueError, fill_text, parse_text
from mqttproxy.mqtt.reasons import ReasonCode

_WILD: Final = frozenset("*?")
NOBODY: Final = "no authenticator knows the device"


@frozen
class Chain:
    """Authenticators in the order in which they are asked. `allow_anonymous`: None: as `[access]` says."""

    links: Sequence[Authenticator] = ()
    allow_anonymous: bool | None = None

    def lets_anonymous_in(self, access: AccessSettings) -> bool:
        """Tell whether who shows no credentials may come in."""
        return access.allow_anonymous if self.allow_anonymous is None else self.allow_anonymous

    async def check(self, credentials: Credentials, access: AccessSettings, ask: Ask | None = None) -> Allowed | Denied:
        """Say whether a device may come in. Never raises what a back end can cause: that denies (promise P7).

        With nobody to ask, credentials mean nothing: who shows some is as anonymous as who does not.

        Args:
            credentials: that it shows.
            access: the settings in force.
            ask: for enhanced authentication.

        """
        if credentials.method is not None:
            return await self._converse(credentials, ask)
        if not self.links:
            if self.lets_anonymous_in(access):
                return Allowed(username=credentials.username)
            return Denied("", "there is no authenticator", ReasonCode.NOT_AUTHORIZED)
        answer = await self._ask(credentials)
        if answer is not None:
            return answer
        if credentials.are_shown:
            return Denied("", NOBODY)
        return Allowed() if self.lets_anonymous_in(access) else Denied("", "no credentials", ReasonCode.NOT_AUTHORIZED)

    async def _ask(self, credentials: Credentials) -> Allowed | Denied | None:
        for link in self.links:
            try:
                answer = await link.check(credentials)
            except BackEndDownError as error:
                return _down(link, error)
            if isinstance(answer, Allowed):
                return _bound(answer, link.settings.client_id, credentials.client_id)
            if answer is not None:
                return answer
        return None

    async def _converse(self, credentials: Credentials, ask: Ask | None) -> Allowed | Denied:
        """Let the first link that knows the method do it: it alone decides."""
        link = next((link for link in self.links if credentials.method in link.methods), None)
        if link is None or ask is None:
            words = f"the authentication method {credentials.method!r} is not known"
            return Denied("", words, ReasonCode.BAD_AUTHENTICATION_METHOD)
        try:
            answer = await link.converse(credentials, ask)
        except BackEndDownError as error:
            return _down(link, error)
        if isinstance(answer, Allowed):
            return _bound(answer, link.settings.client_id, credentials.client_id)
        return answer


def _down(link: Authenticator, error: BackEndDownError) -> Denied:
    return Denied(link.settings.name, f"back end down: {error}", ReasonCode.SERVER_UNAVAILABLE)


@frozen
class Chains:
    """The chains of a configuration: that of all listeners, and those of some, by name."""

    default: Chain = Factory(Chain)
    of_listeners: Mapping[str, Chain] = Factory(dict)

    def of(self, listener: str) -> Chain:
        """Return the chain of a listener."""
        return self.of_listeners.get(listener, self.default)

    def links(self) -> list[Authenticator]:
        """Return all authenticators, each once."""
        chains = (self.default, *self.of_listeners.values())
        return list({id(link): link for chain in chains for link in chain.links}.values())


NO_CHAINS: Final = Chains()


def _bound(allowed: Allowed, template: str | None, client_id: str) -> Allowed | Denied:
    """Hold the client identifier against those that its user may have (`BAD-INPUT` D5)."""
    if template is None:
        return allowed
    values = {**allowed.attributes, "username": allowed.username}
    text = parse_text(template)
    if isinstance(text, str):  # which the checks of the settings let nobody write
        return Denied(allowed.by, text, ReasonCode.NOT_AUTHORIZED)
    try:
        wanted = fill_text(text, values.get, lambda value: bool(value) and not _WILD & set(value))
    except UnsafeValueError as error:
        return Denied(allowed.by, f"client identifiers are bound to {error.name}, which holds * or ?, or is empty")
    if wanted is None or not Glob(wanted).fits(client_id):
        return Denied(allowed.by, "the client identifier is another one's", ReasonCode.CLIENT_IDENTIFIER_NOT_VALID)
    return allowed
