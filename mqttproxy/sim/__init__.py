"""A fleet of devices that are not there: good and bad messages made from a schema, sent, and what became of them.

`instances` makes good payloads, `faults` breaks them; both compute only. `device` is one of the fleet, `fleet` runs it,
`tally` counts. The client's end of MQTT is the one that links to brokers use.
"""
