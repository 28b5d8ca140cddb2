"""What a configuration must not show: values under telling names, and credentials in addresses."""

from __future__ import annotations

import re

__all__ = ["HIDDEN", "is_secret", "without_secrets"]

HIDDEN = "********"

_TELLING = ("password", "passphrase", "secret", "token", "key")
_CREDENTIALS = re.compile(r"(?<=://)[^/@\s]+(?=@)|(?<=password=)[^&#\s]+")


def is_secret(key: str) -> bool:
    """Whether the last part of `key` has a name that says so. The name of a file tells nothing of what is in it."""
    name = key.rpartition(".")[2].lower()
    return not name.endswith("_file") and any(word in name for word in _TELLING)


def without_secrets(key: str, value: object) -> object:
    """`value` as it may be shown: hidden under a telling key, with `user:password@` and `password=` hidden in addresses."""
    if is_secret(key) and value not in (None, ""):
        return HIDDEN
    if isinstance(value, str):
        return _CREDENTIALS.sub(HIDDEN, value)
    if isinstance(value, list | tuple):
        return [without_secrets(key, item) for item in value]
    return value
