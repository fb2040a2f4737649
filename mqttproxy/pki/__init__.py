"""The certificate authority: issues, renews and revokes certificates of devices and servers. Needs the extra `pki`.

Read `authority.py`. `wanted` is what a certificate is to say, `forms` makes it, `index` remembers which there are.
Nothing here listens or waits: commands call it, and whatever serves it over the network has to bound that.
"""
