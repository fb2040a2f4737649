"""The catalogue of bad input: what broken and hostile peers send, a row for each kind, in a few words.

Tests name the rows that they hold: `test_A1_...`, or `A1-...` at the start of a parameter's id. What they do not hold
is said here.
"""

from typing import Final

from attrs import frozen

PARTS: Final = {
    "A": "Framing",
    "B": "Strings and topics",
    "C": "Sessions, QoS, flow",
    "D": "Identity and rights",
    "E": "Transports",
    "F": "Payloads",
    "G": "Storage, logs, HTTP",
    "H": "Brokers, where the proxy is the client",
}


@frozen
class Entry:
    """One row.

    Attributes:
        id: letter of its part, and number.
        words: what comes.
        answer: what becomes of it.
        open: what of it no test holds, and why; empty: nothing.

    """

    id: str
    words: str
    answer: str
    open: str = ""

    @property
    def part(self) -> str:
        """The letter."""
        return self.id[0]


CATALOGUE: Final = (
    Entry("A1", "a remaining length of five bytes, with commands behind it", "0x81, and nothing behind it is read"),
    Entry("A2", "lengths in more bytes than they need", "0x81"),
    Entry("A3", "a huge length, then silence", "0x95 on the fixed header; memory grows with what comes"),
    Entry(
        "A4", "properties that lead out of their packet, or come byte by byte", "0x81; read once, when all are there"
    ),
    Entry("A5", "fields that lead out of their packet, bytes behind the last one, packets cut anywhere", "0x81"),
    Entry("A6", "wrong flags in the fixed header, types that there are not", "0x81"),
    Entry("A7", "something else than CONNECT first; what only a server sends", "nothing is said; later 0x82"),
    Entry("A8", "CONNECT again", "0x82"),
    Entry("A9", "a byte a second; 10,000 packets at once", "the deadline of CONNECT; all are answered"),
    Entry("A10", "packets behind a CONNECT that is refused", "are not looked at"),
    Entry("A11", "user properties by the thousand, halves of them", "0x97 beyond 64; 0x81"),
    Entry("A12", "properties twice, in the wrong packet, of impossible values", "0x82, or 0x81 for the wrong packet"),
    Entry("B1", "text that is not UTF-8, or holds NUL", "0x81; CONNACK 0x85 for a client identifier"),
    Entry("B2", "control characters and non-characters", "as B1"),
    Entry("B3", "no topic name, and no alias", "0x82; of a will CONNACK 0x90"),
    Entry("B4", "wildcards in a topic name, will topic, response topic", "0x90"),
    Entry("B5", "topics of thousands of levels", "0x90; in SUBACK 0x8F"),
    Entry("B6", "filters that are none, options that there are not", "0x8F in SUBACK; 0x82 or 0x81 for options"),
    Entry("B7", "publishing to topics of the server", "0x87 or 0x90 in the acknowledgement; nobody gets it"),
    Entry("B8", "filters made for a slow matcher", "matched level by level"),
    Entry("B9", "`#` and `+`, also shared, for topics of the server", "do not match them"),
    Entry(
        "C1", "no client identifier for a session to keep, one that is too long", "CONNACK 2 or 0x85; 5.0 gets a name"
    ),
    Entry("C2", "wrong protocol names, levels and flags of CONNECT", "CONNACK 1 or 0x84; 0x81"),
    Entry("C3", "QoS 3, DUP at QoS 0, packet identifier 0", "0x81; 0x82"),
    Entry("C4", "topic aliases of 0, above the most, never set", "0x94; 0x82"),
    Entry("C5", "more unacknowledged messages than allowed", "0x93; 3.1.1 is not read any further"),
    Entry("C6", "a message at QoS 2 again before its PUBREL", "PUBREC again, forwarded once"),
    Entry("C7", "messages at QoS 2 that are never released", "0x93 beyond the bound; nothing is left of them"),
    Entry("C8", "acknowledgements of nothing, of the wrong kind, with wrong reasons", "ignored, 0x92, 0x82"),
    Entry("C9", "devices that do not read or do not acknowledge", "a bounded queue, then they are cut"),
    Entry("C10", "keep alive of nothing or of hours", "the proxy's own; 0x8D"),
    Entry("C11", "sessions for ever, by the million", "expiry and number are capped; 0x97"),
    Entry("C12", "subscriptions by the thousand, overlapping ones", "0x97 for each one too many; a message comes once"),
    Entry(
        "C13", "floods of retained messages, and everybody asks for them", "a quota, 0x97; delivered at each one's pace"
    ),
    Entry("C14", "two devices of one name", "0x8E to the older; a ban for who goes on"),
    Entry("C15", "thousands of wills at once; delays longer than the session", "paced; at the end of the session"),
    Entry("C16", "members of groups that take and never acknowledge; joining other groups", "sent to another; 0x87"),
    Entry("C17", "AUTH: unknown, changed, endless, out of place, slow", "0x8C; 0x82; a deadline"),
    Entry("D1", "wildcards and separators in names that rules use", "CONNACK 0x85 or 2; filled in level by level"),
    Entry("D2", "a will where its device may not publish", "CONNACK 0x87 or 5; looked at again when due"),
    Entry("D3", "rights that are revoked while something is on its way", "looked at again at each step"),
    Entry("D4", "topics that transforms make", "are looked at too"),
    Entry("D5", "somebody else's client identifier", "credentials first; bound to the user"),
    Entry("D6", "empty or broken files, services that are down", "nobody comes in; what was good stays"),
    Entry(
        "D7",
        "tokens: no algorithm, another one, keys from elsewhere, wrong claims, expired, huge",
        "0x86, 0x87 or 4, 5",
    ),
    Entry("D8", "SCRAM: nonces again, changed messages, wrong proofs", "one answer, the same work"),
    Entry("D9", "telling by time who is there", "it cannot be told"),
    Entry("D10", "floods of passwords, huge ones", "few at once; the address waits"),
    Entry("D11", "certificates: other names, other issuers, expired, revoked, not for clients", "refused"),
    Entry("D12", "PROXY headers: forged, broken, slow, where there should be none", "closed"),
    Entry("D13", "an address forged in a header of the WebSocket handshake", "such headers are not read at all"),
    Entry("E1", "TLS and WebSocket handshakes that do not end", "a deadline over all of it, and so many at once"),
    Entry("E2", "TLS to a plain port and the other way round", "closed at once, told in words"),
    Entry(
        "E3", "old versions, weak suites, renegotiation, an end without close_notify", "refused; the will is published"
    ),
    Entry("E4", "a peer that is gone without a word", "0x8D after 1.5 keep alives, its will once"),
    Entry("E5", "WebSocket frames and handshakes that are none; strange web pages", "1002, 1003, 1009; an HTTP status"),
    Entry(
        "E6", "resets and ends in every state, connecting and closing in a loop, no descriptors left", "nothing is left"
    ),
    Entry("E7", "thousands of connections that say nothing", "bounds in total and for an address; a deadline"),
    Entry("F1", "nesting without end", "invalid beyond 64 levels"),
    Entry("F2", "NaN, Infinity, 1e400", "invalid"),
    Entry("F3", "a key twice", "invalid"),
    Entry("F4", "integers beyond 64 bits", "invalid"),
    Entry("F5", "lone surrogates", "invalid"),
    Entry("F6", "UTF-16, byte order marks, Latin-1", "invalid"),
    Entry("F7", "payloads for a slow expression", "linear time, or no such schema"),
    Entry("F8", "payloads for a slow keyword", "a budget, known when the schema is loaded"),
    Entry("F9", "schemas that refer to elsewhere", "lead nowhere but into the folder"),
    Entry("F10", "Protobuf: nesting, groups, unknown fields, lengths that lie, bytes behind the end", "invalid"),
    Entry("F11", "a payload said to be text that is none", "0x99"),
    Entry("F12", "a schema that is missing or broken", "no start; a reload is refused"),
    Entry("F13", "properties and aliases that try for another schema", "the effective topic decides alone"),
    Entry("G1", "file names made by devices", "names of files are our own; links are not followed"),
    Entry("G2", "line ends, escapes and formats in the log", "escaped, cut short, one line a second"),
    Entry(
        "G3", "markup in what devices say", "answers are text or JSON, and not guessed at", "there is no web page yet"
    ),
    Entry("G4", "formulas in exported tables", "an apostrophe before them"),
    Entry(
        "G5",
        "requests by somebody else's browser",
        "nothing can be changed over HTTP; no cookies, no other origin may read",
        "there is no web page yet; the page for machines answers to any `Host`: bind it where only machines are",
    ),
    Entry("G6", "secrets in answers; commands by others", "hidden; for the owner only", "there is no admin API yet"),
    Entry(
        "G7", "HTTP that lies about its length, paths that climb", "turned away; there are no files", "no uploads yet"
    ),
    Entry(
        "G8",
        "URLs that lead to inner services",
        "redirects are not followed",
        "URLs come from the configuration file only, which is trusted: there is no list of allowed ones",
    ),
    Entry(
        "G9",
        "quotes, NUL and line ends on their way to other systems",
        "kept in their place",
        "there are no PostgreSQL and Kafka destinations yet",
    ),
    Entry(
        "G10",
        "nothing but invalid messages",
        "a share for each user or address, whose own oldest go; the spool's room on the disk stays",
    ),
    Entry("G11", "labels by the thousand", "64, then `other`"),
    Entry("G12", "files that others may read", "0600"),
    Entry("H1", "bytes that are no MQTT, acknowledgements of nothing asked", "the link ends and is dialled anew"),
    Entry("H2", "acknowledgements twice, out of order, for nothing", "borne"),
    Entry("H3", "the lowest limits that a broker can set", "held to"),
    Entry("H4", "refusals of messages", "told, and the link goes on"),
    Entry("H5", "no acknowledgement ever", "left after a time, the breaker opens"),
    Entry("H6", "being sent to another server", "not obeyed"),
    Entry("H7", "a broker that does not read", "bounded memory, then it is left"),
    Entry("H8", "floods, aliases, more than allowed", "carried within the rules; 0x93, 0x94"),
    Entry("H9", "certificates of others, expired, self-signed; an empty file of CAs", "nothing is sent"),
    Entry("H10", "messages that go round", "cut after so many hops"),
)
