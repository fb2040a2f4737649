"""What a decoder lets one packet hold, beside its size."""

from msgspec import Struct


class DecodeLimits(Struct, frozen=True, kw_only=True):
    """Bounds inside one packet, from `[limits]`. Sizes in bytes.

    `topic_filters` (the same for the reasons in an answer) and `subscription_identifiers` bound the time one packet
    can take: a megabyte may hold 260,000 of them.
    """

    topic_bytes: int = 1024
    topic_levels: int = 128
    user_properties: int = 64
    payload_size: int = 256 * 1024
    client_id_bytes: int = 65_535
    topic_filters: int = 10_000
    subscription_identifiers: int = 10_000
