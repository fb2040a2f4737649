"""The commands, as cyclopts reads them. Each is imported when it is called, so that help is quick."""

from typing import Final

from cyclopts import App, Parameter

from mqttproxy import __version__

app: Final = App(
    name="mqttproxy",
    version=__version__,
    help="A governance proxy between MQTT devices and brokers. Exit codes: 0 done, 1 faulty, 2 used wrongly.",
    default_parameter=Parameter(negative=()),  # no --no-dry-run
)
app.command("mqttproxy.cli.run:run", name="run", help="Run the proxy until SIGTERM or SIGINT.")
app.command("mqttproxy.cli.check:check", name="check", help="Check a configuration file and tell all its faults.")
app.command(
    "mqttproxy.cli.explain:explain",
    name="explain",
    help="Explain what becomes of a message: each policy, the verdict, the answer, the destinations.",
)
app.command(
    "mqttproxy.cli.cases:try_cases",
    name="test",
    help="Try the cases beside the policies, and tell which rules they do not exercise.",
)
app.command(
    "mqttproxy.cli.backtest:backtest",
    name="backtest",
    help="Tell which recorded messages new policies would break, and which they would heal.",
)
app.command(
    "mqttproxy.cli.quarantine:quarantine_app",
    name="quarantine",
    help="Look at the messages that were held, and why; decide on them; export, purge or release them.",
)
app.command(
    "mqttproxy.cli.schema:schema_app",
    name="schema",
    help="Look after the schemas: versions, aliases, compatibility, who uses what.",
)
app.command(
    "mqttproxy.cli.status:status",
    name="status",
    help="Ask the proxy that runs on a configuration file whether it is ready, and how each destination is.",
)
app.command(
    "mqttproxy.cli.reload:reload", name="reload", help="Have a running proxy read its file again; tells the outcome."
)
app.command(
    "mqttproxy.cli.plan:plan",
    name="plan",
    help="Tell what a new file would change: what loosens, what tightens, who would feel it.",
)
app.command(
    "mqttproxy.cli.apply:apply",
    name="apply",
    help="Put a new file in force in a running proxy, for a while or for good.",
)
app.command(
    "mqttproxy.cli.shadow:shadow",
    name="shadow",
    help="Ask a running proxy what the candidates for its policies would break, and what they would heal.",
)
app.command(
    "mqttproxy.cli.ban:ban_app",
    name="ban",
    help="Keep clients, users or networks out of a running proxy, and see who is.",
)
app.command(
    "mqttproxy.cli.ban:refused",
    name="refused",
    help="Ask a running proxy which devices it has refused in the last three days, and why.",
)
app.command("mqttproxy.cli.reload:confirm", name="confirm", help="Keep what was applied for a while.")
app.command("mqttproxy.cli.reload:rollback", name="rollback", help="Take back what was applied for a while.")
app.command(
    "mqttproxy.cli.cert:cert_app", name="cert", help="Issue, renew and revoke certificates of devices and servers."
)
app.command(
    "mqttproxy.cli.sim:sim",
    name="sim",
    help="Send good and bad messages made from a schema by many devices, and tell what became of them.",
)
app.command("mqttproxy.cli.audit:audit_app", name="audit", help="Look whether the audit trail is as it was written.")
app.command("mqttproxy.cli.user:user_app", name="user", help="Look after users and their passwords.")
app.command("mqttproxy.cli.access:access_app", name="access", help="Look at what devices may do, and why.")
