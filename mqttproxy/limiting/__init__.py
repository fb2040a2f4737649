"""Who may do how much: rates in several windows, bans, who was refused, and what is shed under overload.

buckets    what has gone through lately, in several windows
rates      `[[limits.rates]]`: connections, messages and bytes of whoever is counted together
bans       who is not let in, why, until when, and who said so
refused    who was refused, and why, for three days
overload   how much is shed, from what the process measures of itself
"""
