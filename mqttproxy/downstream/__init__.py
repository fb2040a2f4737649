"""The door: devices come in here. One task tree for each, which dies alone.

door         listeners, limits on connections, closing up
greeting     from bytes to an accepted CONNECT; takeover of client identifiers
device       one connected device: reading, acknowledging in order, delivering
subscribing  its subscriptions, here and at the upstreams that are home to the topics
keepalive    one watch over all devices' silence
premises     what all devices share
"""
