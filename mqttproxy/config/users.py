"""The model of a file of users, see `users_file`."""

from attrs import frozen

from mqttproxy.config.kinds import REQUIRED, Labels, setting


@frozen(kw_only=True)
class UserSettings:
    """`[[users]]`: one user."""

    name: str = setting(REQUIRED, "unique; what stands in CONNECT as the user name")
    password: str = setting(REQUIRED, "as argon2id, written by `mqttproxy user`", secret=True)
    attributes: Labels = setting(Labels(()), "what is known of its devices")
    scram: Labels = setting(Labels(()), "what proves its password by SCRAM, written by `mqttproxy user`")
    enabled: bool = setting(True, "false: it cannot connect")


@frozen(kw_only=True)
class UsersFile:
    """The whole file."""

    users: tuple[UserSettings, ...] = setting((), "all users")
