"""The hold: what was refused, why, and how it is kept.

`store` is the running proxy's side: it takes messages and commits them in groups. `writer` is its thread's work:
the one connection that writes, retention, trouble with the disk. `database` opens, checks and sets aside; `schema`
makes the tables; `payloads` keeps large payloads in files. `issues` groups failures that are alike, `owners` counts
whose the messages are. `archive` is the other side: search (`filters`), count, read, decide, purge, order releases.
`releases` is the record of what is let go, `rows` is what the journal has of it. `lock` lets one process into a data
folder.
"""
