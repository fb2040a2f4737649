"""The cross-checks of `[[limits.rates]]`."""

from mqttproxy.config.attribute_patterns import NAME
from mqttproxy.config.errors import quoted
from mqttproxy.config.limiting import MOST_RATES
from mqttproxy.config.model import ProxyConfig
from mqttproxy.config.report import Report


def check_rates(config: ProxyConfig, report: Report) -> None:
    """Check all of them."""
    rates = config.limits.rates
    if len(rates) > MOST_RATES:
        report.add("limits.rates", f"{len(rates)} rules", f"at most {MOST_RATES}")
    taken = {one.name: f"policies[{index}]" for index, one in enumerate(config.policies)}
    taken |= {one.name: f"behaviours[{index}]" for index, one in enumerate(config.behaviours)}
    for index, settings in enumerate(rates):
        key = f"limits.rates[{index}]"
        if settings.name in taken:
            report.add(f"{key}.name", quoted(settings.name), "a name of its own", f"{taken[settings.name]} has it")
        if not NAME.fullmatch(settings.per):
            report.add(
                f"{key}.per", quoted(settings.per), "client, username, address, listener, or the name of an attribute"
            )
