"""A JSON Schema proposed from messages, and how sure it is. Computes only.

profile    `Profile`: what was seen at each place of the payloads, in bounded memory
proposing  `propose`: from a profile to a schema, and what is to be known of each place
"""

from mqttproxy.validation.inference.profile import Bounds, Profile
from mqttproxy.validation.inference.proposing import Place, Proposal, propose, wilson

__all__ = ["Bounds", "Place", "Profile", "Proposal", "propose", "wilson"]
