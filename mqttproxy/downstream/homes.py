"""Which upstreams were asked for whose topic filters: one reference for each, for as long as the subscription lasts.

Subscriptions belong to sessions, so what was asked for stays asked for while a device is away.
"""

from collections.abc import Callable, Container, Iterable, Mapping
from typing import Final, NamedTuple, Protocol

import trio
from attrs import define, field

from mqttproxy.config.model import LOCAL
from mqttproxy.mqtt.packets import Subscription
from mqttproxy.mqtt.reasons import ReasonCode

AT_ONCE: Final = 100  # subscriptions looked at before others have their turn


class UpstreamLink(Protocol):
    """An upstream as the devices' subscriptions see it (`upstream.Upstream`)."""

    @property
    def is_live(self) -> bool:
        """A link is up."""

    def subscribe(
        self, topic_filter: str, qos: int, *, retained_for: object | None = None, as_published: bool = False
    ) -> None:
        """Want a filter, once more. What is retained goes to `retained_for` alone."""

    def unsubscribe(self, topic_filter: str, *, as_published: bool = False) -> None:
        """Want it once less, with the flag with which it was wanted."""

    async def wait_subscribed(self, topic_filter: str) -> ReasonCode:
        """Wait for the broker's answer."""


class Asker(Protocol):
    """A session, to whom retained messages go."""

    client_id: str


class Asked(NamedTuple):
    """Upstreams that were asked for a filter, and how. The very objects: one that came back is another."""

    upstreams: tuple[UpstreamLink, ...] = ()
    as_published: bool = False

    def leave(self, topic_filter: str) -> None:
        """Give the references up."""
        for upstream in self.upstreams:
            upstream.unsubscribe(topic_filter, as_published=self.as_published)


_NOBODY: Final = Asked()


@define(eq=False)
class Homes:
    """The references that sessions hold at upstreams.

    Args:
        upstreams: by name; changes with a reload.
        homes_for_filter: where a filter's topics are served from, under the ruleset in force.

    """

    _upstreams: Mapping[str, UpstreamLink]
    _homes_for_filter: Callable[[str], set[str]]
    _asked: dict[str, dict[str, Asked]] = field(factory=dict)  # by client identifier and filter

    def ask(self, client_id: str, subscription: Subscription, *, retained_for: object | None = None) -> None:
        """Subscribe at every upstream that is home to a topic the filter matches; a repeated filter asks again.

        Args:
            client_id: whose session.
            subscription: its subscription.
            retained_for: who gets what the upstreams have retained; None: nobody.

        """
        self._ask(client_id, subscription, self._homes_of(subscription), retained_for)

    def leave(self, client_id: str, topic_filter: str) -> None:
        """Give up the references for one filter."""
        asked = self._asked.get(client_id, {})
        before = asked.pop(topic_filter, _NOBODY)
        if before.upstreams and not asked:
            del self._asked[client_id]
        before.leave(topic_filter)

    def leave_all(self, client_id: str) -> None:
        """Give up all references of a session."""
        for topic_filter, before in self._asked.pop(client_id, {}).items():
            before.leave(topic_filter)

    def of(self, client_id: str, topic_filter: str) -> tuple[UpstreamLink, ...]:
        """Return the upstreams that were asked for a filter."""
        return self._asked.get(client_id, {}).get(topic_filter, _NOBODY).upstreams

    async def renew(self, sessions: Iterable[Asker], subscriptions_of: Callable[[str], Iterable[Subscription]]) -> None:
        """Ask for what is subscribed to: after a start, and after a reload that changed which upstream is home to what.

        What a new home has retained comes as if the device had subscribed there; after a start it has had it before.

        Args:
            sessions: all of them.
            subscriptions_of: gives what a session is subscribed to now; nothing if it is over meanwhile.

        """
        done = 0
        for session in sessions:
            for subscription in subscriptions_of(session.client_id):
                homes, before = self._homes_of(subscription), self.of(session.client_id, subscription.topic_filter)
                if homes != before:
                    self._ask(session.client_id, subscription, homes, session if before else None, has_had=before)
                done += 1
            if done >= AT_ONCE:
                done = 0
                await trio.lowlevel.checkpoint()

    def _homes_of(self, subscription: Subscription) -> tuple[UpstreamLink, ...]:
        names = self._homes_for_filter(subscription.topic_filter) - {LOCAL}
        return tuple(self._upstreams[name] for name in sorted(names & self._upstreams.keys()))

    def _ask(
        self,
        client_id: str,
        subscription: Subscription,
        homes: tuple[UpstreamLink, ...],
        retained_for: object | None,
        *,
        has_had: Container[UpstreamLink] = (),
    ) -> None:
        topic_filter = subscription.topic_filter
        as_published = subscription.retain_as_published
        for upstream in homes:
            asker = None if upstream in has_had else retained_for
            upstream.subscribe(topic_filter, subscription.qos, retained_for=asker, as_published=as_published)
        if homes:
            asked = self._asked.setdefault(client_id, {})
            before = asked.get(topic_filter, _NOBODY)
            asked[topic_filter] = Asked(homes, as_published)
            before.leave(topic_filter)  # after asking anew, so that the last reference is not given up
        else:
            self.leave(client_id, topic_filter)
