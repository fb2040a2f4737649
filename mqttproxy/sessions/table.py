"""Who is subscribed to what."""

from collections.abc import Container, Iterable, Sequence
from typing import Final, Literal, NamedTuple
from zlib import crc32

from mqttproxy.mqtt.packets import Message, Subscription
from mqttproxy.mqtt.topics import SHARE, FilterTree, matches, split_shared
from mqttproxy.sessions.copies import (
    Entry,
    SharedMessage,
    Subscriber,
    client_id_of,
    copy_for,
    copy_with,
    options_for,
    shared_copy_for,
)
from mqttproxy.sessions.groups import Group, by_group

__all__ = ["Entry", "SharedMessage", "Subscriber", "SubscriptionTable", "by_group", "copy_for"]

CACHED_TOPICS: Final = 10_000
# To look up a topic that more subscriptions match is little beside delivering to them, and to cache it costs memory.
CACHED_MATCHES: Final = 64
RECENT: Final = 1000  # subscriptions that are looked through for an equal one


class _Matched(NamedTuple):
    """What a topic matches: the subscriptions of each session together, and groups."""

    sessions: Sequence[Sequence[Entry]]
    groups: Sequence[Group]


_Due = dict[str, tuple[Subscriber, list[Message]]]


class SubscriptionTable:
    """Every subscription of every session, whatever the home of the topics."""

    def __init__(self, *, shared: Literal["hash", "round_robin"] = "hash") -> None:
        """Make an empty table.

        Args:
            shared: which member of a group gets a message: by hash of the sender, whose messages so stay in order; or
                each in turn.

        """
        self._by_hash = shared == "hash"
        self._tree: FilterTree[Entry | Group] = FilterTree()
        self._groups: dict[str, Group] = {}
        self._by_client: dict[str, dict[str, Entry]] = {}
        self._matched: dict[str, _Matched] = {}
        self._recent: dict[Subscription, Subscription] = {}
        self.count = 0
        self.no_local: set[str] = set()  # clients with a subscription that may not bring their own messages

    def subscribe(self, subscriber: Subscriber, subscription: Subscription, identifier: int = 0) -> bool:
        """Add a subscription, or replace the one with the same filter. Returns whether it is new. [MQTT-3.8.4-3]."""
        topic_filter = subscription.topic_filter
        mine = self._by_client.setdefault(subscriber.client_id, {})
        old = mine.get(topic_filter)
        entry = Entry(subscriber, self._equal(subscription), identifier)
        share, plain = split_shared(topic_filter)
        if share is not None:
            self._join(topic_filter, plain, entry)
        else:
            if old is not None:
                self._tree.remove(plain, old)
            self._tree.add(plain, entry)
            self._forget(plain)
        mine[entry.subscription.topic_filter] = entry
        self.count += old is None
        if subscription.no_local:
            self.no_local.add(subscriber.client_id)
        return old is None

    def unsubscribe(self, client_id: str, topic_filter: str) -> bool:
        """Remove a subscription by its very filter; False: there was none."""
        mine = self._by_client.get(client_id, {})
        entry = mine.pop(topic_filter, None)
        if entry is None:
            return False
        if not mine:
            del self._by_client[client_id]
        if client_id in self.no_local and not any(other.subscription.no_local for other in mine.values()):
            self.no_local.remove(client_id)
        share, plain = split_shared(topic_filter)
        if share is not None:
            self._part(topic_filter, plain, client_id)
        else:
            self._tree.remove(plain, entry)
            self._forget(plain)
        self.count -= 1
        return True

    def has(self, client_id: str, topic_filter: str) -> bool:
        """Say whether a client has subscribed to this very filter."""
        return topic_filter in self._by_client.get(client_id, ())

    def count_of(self, client_id: str) -> int:
        """Return how many subscriptions a client has."""
        return len(self._by_client.get(client_id, ()))

    def filters_of(self, client_id: str) -> tuple[str, ...]:
        """Return the filters that a client has subscribed to."""
        return tuple(self._by_client.get(client_id, ()))

    def entries_of(self, client_id: str) -> tuple[Entry, ...]:
        """Return the subscriptions of a client."""
        return tuple(self._by_client.get(client_id, {}).values())

    @property
    def shared_count(self) -> int:
        """How many of the subscriptions are shared ones."""
        return sum(len(group.members) for group in self._groups.values())

    def has_subscriber(self, topic: str) -> bool:
        """Say whether anybody would get a message on this topic."""
        matched = self._match(topic)
        return bool(matched.sessions or matched.groups)

    def deliver(
        self,
        messages: Iterable[Message],
        *,
        sender: str = "",
        only: Container[str] | None = None,
        as_published: Container[str] | None = None,
        retained: bool = False,
        once: bool = False,
    ) -> int:
        """Hand messages to everyone subscribed, each session's in one call. Returns how many copies were made.

        A session gets one copy of a message, though several of its filters match, [MQTT-3.3.4-2] [MQTT-3.3.4-3], and
        another one for each group that chooses it.

        Args:
            messages: in order.
            sender: client identifier of who published them, for No Local [MQTT-3.8.3-3] and for the choice in groups;
                without one, the choice is by topic.
            only: count only these filters as subscribed, shared ones as `$share/group/filter`; None: all of them.
            as_published: the same for subscriptions with Retain As Published, if those differ.
            retained: they were sent because of a subscription, not because somebody published them now. Shared
                subscriptions get no such messages.
            once: no device may see them before what is noted is on disk, or it might get them again after a crash.

        """
        due: _Due = {}
        copies = 0
        counted = None if only is None else (only, only if as_published is None else as_published)
        for message in messages:
            matched = self._match(message.topic)
            if matched.sessions:
                copies += _deal(message, matched.sessions, due, sender, counted=counted, retained=retained)
            if matched.groups and not retained:
                for group in matched.groups:
                    if only is None or group.shared_filter in only:
                        entry = group.by_hash(sender or message.topic) if self._by_hash else group.by_turn()
                        _add(due, entry, shared_copy_for(message, entry))
                        copies += 1
        for subscriber, _ in due.values() if once else ():
            subscriber.hold()
        _hand_over(due)
        return copies

    def deliver_retained(
        self, message: Message, client_id: str, only: Iterable[str] | None, *, sender: str = ""
    ) -> bool:
        """Hand one client a message that its own subscribing has brought; False: it is not subscribed (any more).

        Args:
            message: a retained one.
            client_id: whose.
            only: count only these filters as subscribed; None: all of its filters.
            sender: client identifier of who published it; empty: not known.

        """
        mine = self._by_client.get(client_id, {})
        entries = [
            mine[topic_filter]
            for topic_filter in (mine if only is None else only)
            if topic_filter in mine and not topic_filter.startswith(SHARE) and matches(topic_filter, message.topic)
            if _counts(mine[topic_filter], sender, None)
        ]
        if entries:
            entries[0].subscriber.deliver([copy_with(message, *options_for(message, entries, retained=True))])
        return bool(entries)

    def redispatch(self, shared_filter: str, messages: Sequence[Message], leaver: str) -> Sequence[Message]:
        """Give messages of a group that one member cannot deal with to others.

        Args:
            shared_filter: `$share/group/filter`.
            messages: as they were delivered to the leaver; `by_group` tells which.
            leaver: its client identifier. While it is still subscribed, so that it may come back for them, only
                connected members that surely have room are considered; else any.

        Returns:
            What nobody took, in order: all of it or nothing.

        """
        group = self._groups.get(shared_filter)
        others = [entry for entry in group.members if client_id_of(entry) != leaver] if group else []
        candidates = [entry for entry in others if entry.subscriber.is_connected]
        if self.has(leaver, shared_filter):
            candidates = [entry for entry in candidates if entry.subscriber.has_room_for(messages)]
        elif not candidates:
            candidates = others
        if not candidates:
            return messages
        due: _Due = {}
        for index, message in enumerate(messages):
            # Who sent it is no longer known. By topic at least the order within each is kept.
            number = crc32(message.topic.encode()) if self._by_hash else index
            entry = candidates[number % len(candidates)]
            _add(due, entry, shared_copy_for(message, entry))
        _hand_over(due)
        return ()

    def _join(self, shared_filter: str, plain: str, entry: Entry) -> None:
        group = self._groups.get(shared_filter)
        if group is None:
            group = self._groups[shared_filter] = Group(shared_filter)
            self._tree.add(plain, group)
            self._forget(plain)
        group.put(entry)

    def _part(self, shared_filter: str, plain: str, client_id: str) -> None:
        group = self._groups[shared_filter]
        group.remove(client_id)
        if not group.members:
            del self._groups[shared_filter]
            self._tree.remove(plain, group)
            self._forget(plain)

    def _equal(self, subscription: Subscription) -> Subscription:
        """Return an equal subscription that is there already: thousands of devices want the same filter."""
        if len(self._recent) >= RECENT:
            self._recent.clear()
        return self._recent.setdefault(subscription, subscription)

    def _forget(self, topic_filter: str) -> None:
        """Forget what was cached for the topics that a filter matches.

        That is one topic, unless there are wildcards. To drop everything then costs no more than to have looked it up.
        """
        if "+" in topic_filter or "#" in topic_filter:
            self._matched.clear()
        else:
            self._matched.pop(topic_filter, None)

    def _match(self, topic: str) -> _Matched:
        matched = self._matched.get(topic)
        if matched is not None:
            return matched
        found = self._tree.match(topic)
        matched = _sort(found)
        if len(found) <= CACHED_MATCHES:
            if len(self._matched) >= CACHED_TOPICS:
                self._matched.clear()
            self._matched[topic] = matched
        return matched


def _sort(found: list[Entry | Group]) -> _Matched:
    if not found:
        return _NOBODY
    sessions: dict[str, list[Entry]] = {}
    groups = []
    for each in found:
        if isinstance(each, Group):
            groups.append(each)
        else:
            sessions.setdefault(each.subscriber.client_id, []).append(each)
    return _Matched(tuple(sessions.values()), groups)


_NOBODY: Final = _Matched((), ())


def _deal(
    message: Message,
    sessions: Sequence[Sequence[Entry]],
    due: _Due,
    sender: str,
    *,
    counted: tuple[Container[str], Container[str]] | None,
    retained: bool,
) -> int:
    """Add the copies of one message for the sessions that match. Returns how many."""
    copies = 0
    made: dict[tuple[int, bool, tuple[int, ...]], Message] = {}  # those who want the same share it
    for matching in sessions:
        entries = matching
        if counted is not None or client_id_of(matching[0]) == sender:
            entries = [entry for entry in matching if _counts(entry, sender, counted)]
            if not entries:
                continue
        options = options_for(message, entries, retained)
        copy = made.get(options)
        if copy is None:
            copy = made[options] = copy_with(message, *options)
        _add(due, entries[0], copy)
        copies += 1
    return copies


def _counts(entry: Entry, sender: str, counted: tuple[Container[str], Container[str]] | None) -> bool:
    subscription = entry.subscription
    if subscription.no_local and client_id_of(entry) == sender:
        return False
    return counted is None or subscription.topic_filter in counted[subscription.retain_as_published]


def _add(due: _Due, entry: Entry, message: Message) -> None:
    subscriber = entry.subscriber
    waiting = due.get(subscriber.client_id)
    if waiting is None:
        due[subscriber.client_id] = (subscriber, [message])
    else:
        waiting[1].append(message)


def _hand_over(due: _Due) -> None:
    for subscriber, messages in due.values():
        subscriber.deliver(messages)
