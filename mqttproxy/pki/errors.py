"""The one error of this room."""


class PkiError(Exception):
    """It cannot be done, and why, in words for whoever asked. Nothing has changed, unless it says so."""
