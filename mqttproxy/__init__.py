"""mqttproxy: a governance proxy between MQTT devices and brokers.

The rooms, from top to bottom; a room imports only from rooms below it (`lint-imports` holds this).
Rooms marked ∘ are sans-IO: no waiting, no clock, no sockets, no disk, no logging, no chance.

    cli           run, check, explain, test, quarantine; exit codes
    explain       what becomes of one message and why; cases, and which rules they exercise
    sim           a fleet of devices that are not there: messages made from a schema, good and bad
    app           where the rooms meet: builds them, owns the root nursery, drain and shutdown
    measuring     what the process measures of itself, and so what is shed under overload
    steering      how a running proxy is told to change: signal, watched files, commands; trials that roll back
    reload        build a new generation, swap it in whole, or keep the old one and say why
    keeping       what the proxy keeps for devices: builds the sessions' rooms, brings them back from disk
    outside       the world as the process sees it: clocks, chance, network, disk; simulations have one of their own
    downstream    the door: listeners, one task tree per device, acknowledgements in arrival order, takeover
    pipeline      the corridor: carry_up(), carry_down(): the life of a message, the page to read first
    passport      the identity of a message
    groups        messages of one batch that go the same way
    settling      what destinations answer, told to the tickets
    arrivals      the way back: what brokers send, judged and handed to devices
    release       held messages let go: claimed, mended, judged, carried once
    mending       a held message as it would go today
    recipe        the steps that mend held messages
    asking        plug-in checks asked, each in a process of its own, before a message is judged
    behaving      what devices do over time: quotas, silence, duplicates, gaps, clocks; asked beside the judge
    shadowing     candidates for policies, judged beside them when there is time; told, and nothing more
    recording     what the recorder is given of each batch
    refusal       the life of a message that failed: held, refused, marked, observed; always explained
    holding       what waits for the quarantine's commit
    ruleset       what a generation means for messages
    shaping       what each upstream gets of a message
    handover      between an acknowledgement and the destinations: tickets, lanes, plans
    limiting      who may do how much: rates, bans, what is shed under overload
    access        who may connect, publish, subscribe
    database      the tables of sessions and spool in one database
    tables        makes the tables of both databases, in a process of its own
    schema        how these tables came to be
    validation ∘  the judge: policies, schemas, payload gate, verdicts
    quarantine    the hold: what was refused and why
    sessions      subscriptions, retained messages, wills, sessions and what waits for their devices
    spool         what is acknowledged and not yet at all its destinations; a cursor for each
    recorder      a bounded ring of recent messages on disk, on which no promise depends
    upstream      the far side: routing∘ breaker∘ backoff∘ outbox supervisor pool, and the link to an MQTT broker
    journal       what must not be lost, on its way to disk: one commit for all that waits
    committing    a thread for the disk, trying again, draining: for journal and quarantine
    migrating     tables brought to their newest form
    pki           certificate authority: issue, renew, revoke
    transport     the road: tcp, tls, websocket; the only room that knows ssl and sockets
    config ∘      the paper: model, strict loading, cross-checks
    mqtt ∘        the language: packets of both versions, topics, server and client state machines
    telemetry     the notebook: metrics, structured logs, audit trail, health
    process       how the process uses its machine: interpreter, memory
    clock         the time of day, which does not jump by years
    sqlite        database files that back promises: made, private, durable, checked, set aside if broken
    wholefile     files that are there whole or not at all
    plugin        what a plug-in check is given, and the process that it runs in
    apart         work that is done once and needs much memory, in a process of its own
"""

__version__ = "0.1.0"
