"""The far side: where messages go, and the one link to each broker that carries them there.

`routing`, `mapping`, `guard`, `breaker` and `backoff` compute; `outbox`, `interest` and `naming` hold what a link shall
do; `link` is one live connection; `supervisor.Upstream` keeps one upstream linked; `pool.Pool` holds them all and
follows a reload.
"""
