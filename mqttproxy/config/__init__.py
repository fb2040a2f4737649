"""The paper: what `proxy.toml` may say, reading it strictly, and telling all that is wrong with it.

model       every setting: name, type, default, meaning
units       how durations, sizes and addresses are written
structure   from parsed tables to settings; types and unknown keys
checks      what types cannot say, with a module of its own for listeners and for upstreams
salvage     what can still be checked in a file that has faults
load        the door of this room: `load_config`, `parse_config`
errors      `ConfigError` and `Fault`, also for the faults that other rooms find
written     the settings as text again: the reference page and `proxy.toml.example`
"""
