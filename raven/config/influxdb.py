"""The names for InfluxDB that stand in deployment guides: INFLUXDB_URL and its kin, as one endpoint of the history."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["imply_influxdb"]

_KEYS = ("url", "database", "username", "password", "token", "org", "bucket")


def imply_influxdb(table: dict[str, Any], origins: dict[str, str], environ: Mapping[str, str]) -> list[str]:
    """Put what the variables say into the table of the configuration.

    With INFLUXDB_URL it is the endpoint of the file that has this url, or one more; and where nothing says which history is
    wanted, it is this one. Without it the others are keys of the file's endpoint, if there is exactly one.

    Returns:
        What a user should hear about: variables that say nothing.
    """
    given = {key: environ[f"INFLUXDB_{key.upper()}"] for key in _KEYS if environ.get(f"INFLUXDB_{key.upper()}")}
    history = table.setdefault("history", {}) if given else None
    endpoints = history.get("influxdb", []) if isinstance(history, dict) else None
    if history is None or not isinstance(endpoints, list) or not all(isinstance(each, dict) for each in endpoints):
        return []  # nothing is said, or what the file says is none, for `structure` to refuse
    index = _endpoint(endpoints, given.get("url"))
    if index is None:
        names = ", ".join(f"INFLUXDB_{key.upper()}" for key in given)
        return [f"environment {names}: ignored without INFLUXDB_URL: the file has {len(endpoints)} [[history.influxdb]]"]
    if index == len(endpoints):
        history["influxdb"] = [*endpoints, {}]
    for key, value in given.items():
        history["influxdb"][index][key] = value
        origins[f"history.influxdb[{index}].{key}"] = f"environment INFLUXDB_{key.upper()}"
    if "url" in given and "backend" not in history:
        history["backend"] = "influxdb"
        origins["history.backend"] = "environment INFLUXDB_URL"
    return []


def _endpoint(endpoints: list[dict[str, Any]], url: str | None) -> int | None:
    """Which one is meant; one behind the last for a new one."""
    if url is None:
        return 0 if len(endpoints) == 1 else None
    urls = [str(each.get("url", "")).rstrip("/") for each in endpoints]
    return urls.index(url.rstrip("/")) if url.rstrip("/") in urls else len(endpoints)
