"""What the venue answers to a client's messages on the socket (`web-socket-streams.md`, "Live Subscribing"); pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from urllib.parse import parse_qs, urlsplit

import attrs
import msgspec

__all__ = ["SPOT_ROUTES", "Serves", "Subscriptions", "open_subscriptions"]

Serves = Callable[[str], bool]
SPOT_ROUTES: Mapping[str, Serves] = {"": lambda _: True}

METHODS = ("SUBSCRIBE", "UNSUBSCRIBE", "LIST_SUBSCRIPTIONS", "SET_PROPERTY", "GET_PROPERTY")


@attrs.define
class Subscriptions:
    """What one connection has.

    Args:
        combined: whether frames come wrapped with their stream's name.
        serves: whether a stream comes over the path that was connected to.
        listed: the names of the subscribed streams, in their order.
    """

    combined: bool
    serves: Serves = SPOT_ROUTES[""]
    listed: dict[str, None] = attrs.field(factory=dict)
    streams: dict[str, None] = attrs.field(init=False)
    """Those of them that something comes of."""

    def __attrs_post_init__(self) -> None:
        self.streams = {name: None for name in self.listed if self.serves(name)}

    def answer(self, message: str | bytes) -> str:
        """Carry out one message; the answer to it."""
        try:
            command = msgspec.json.decode(message)
        except msgspec.DecodeError:
            return _error(3, "Invalid JSON: expected value at line 1 column 1")
        column = len(message)
        if not isinstance(command, dict) or "method" not in command:
            return _error(2, f"Invalid request: missing field `method` at line 1 column {column}")
        method, params, mark = command["method"], command.get("params", []), command.get("id")
        if method not in METHODS:
            known = ", ".join(f"`{name}`" for name in METHODS)
            return _error(2, f"Invalid request: unknown variant `{method}`, expected one of {known} at line 1 column {column}")
        if isinstance(mark, bool) or not isinstance(mark, int | str | None):
            return _error(2, "Invalid request: request ID must be an unsigned integer, a string or null")
        return self._carry_out(method, params, mark)

    def _carry_out(self, method: str, params: object, mark: int | str | None) -> str:
        if method == "LIST_SUBSCRIPTIONS":
            return _result(list(self.listed), mark)
        if method == "GET_PROPERTY":
            return _result(self.combined, mark)
        if method == "SET_PROPERTY":
            return self._set_property(params, mark)
        if not isinstance(params, list) or not all(isinstance(name, str) for name in params):
            return _error(2, "Invalid request: invalid type, expected a sequence of strings")
        if method == "SUBSCRIBE":
            self.listed.update(dict.fromkeys(params))
            self.streams.update({name: None for name in params if self.serves(name)})
        else:
            self._remove(params)
        return _result(None, mark)

    def _set_property(self, params: object, mark: int | str | None) -> str:
        if not isinstance(params, list) or len(params) != 2 or params[0] != "combined":
            return _error(0, "Unknown property")
        if not isinstance(params[1], bool):
            return _error(1, "Invalid value type: expected Boolean")
        self.combined = params[1]
        return _result(None, mark)

    def _remove(self, names: Iterable[str]) -> None:
        for name in names:
            self.listed.pop(name, None)
            self.streams.pop(name, None)


def open_subscriptions(path: str, routes: Mapping[str, Serves] = SPOT_ROUTES) -> Subscriptions | None:
    """What a connection to `path` begins with: raw at `/ws[/a/b]`, combined at `/stream[?streams=a/b]`; None for any other.

    Args:
        routes: what may stand before that ("public" in `/public/ws`), and what comes over it.
    """
    parts = urlsplit(path)
    route, _, below = parts.path.lstrip("/").partition("/")
    if route not in routes:
        route, below = "", parts.path.lstrip("/")
    head, _, names = below.partition("/")
    if head == "ws":
        return Subscriptions(False, routes[route], _names(names))
    if head == "stream" and not names:
        return Subscriptions(True, routes[route], _names(parse_qs(parts.query).get("streams", [""])[0]))
    return None


def _names(text: str) -> dict[str, None]:
    return dict.fromkeys(filter(None, text.split("/")))


def _result(result: object, mark: int | str | None) -> str:
    return msgspec.json.encode({"result": result, "id": mark}).decode()


def _error(code: int, text: str) -> str:
    return msgspec.json.encode({"code": code, "msg": text}).decode()
