"""The notebook: what operators see. Metrics, health, structured logs, the audit trail, and the server of all that.

The bottom room: it imports nothing of the house but `apart`, and takes plain arguments, so every room above
may count and report.
"""
