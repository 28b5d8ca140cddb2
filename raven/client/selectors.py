"""What a client's user writes, as what the contract has. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from raven.codec.generated.raven import v1
from raven.errors import InvalidValue
from raven.model.topic import check_selector_names, parse_kind

__all__ = ["PORT_DEFAULT", "parse_target", "selector"]

PORT_DEFAULT = 50051


def selector(where: str, kinds: str | Iterable[str] = (), variant: str = "") -> v1.TopicSelector:
    """A set of topics.

    Args:
        where: "venue/symbol"; either may be "*", and the symbol may be a prefix that ends in "*".
        kinds: labels of kinds ("trade"), or one text with commas between them.
        variant: of candles the interval, of book tops the depth; empty = the server's default, "*" = any.

    Raises:
        InvalidValue: naming the part that cannot be.
    """
    venue, slash, symbol = where.partition("/")
    if not slash:
        raise InvalidValue("topics", where, "venue/symbol, as in sim/BTC-USDT or */BTC-*")
    check_selector_names(venue, symbol, variant)
    labels = [label for label in kinds.split(",") if label] if isinstance(kinds, str) else list(kinds)
    parsed = [v1.Kind(int(parse_kind(label.strip(), "kinds"))) for label in labels]
    return v1.TopicSelector(venue=venue, symbol=symbol, kinds=parsed, variant=variant)


def parse_target(target: str) -> tuple[str, int]:
    """Host and port of "host:port", "host", or "[::1]:port".

    Raises:
        InvalidValue: the port is no port.
    """
    if target.startswith("["):
        host, _, rest = target[1:].partition("]")
        port_text = rest.removeprefix(":")
    elif target.count(":") > 1:  # an IPv6 address alone
        host, port_text = target, ""
    else:
        host, _, port_text = target.partition(":")
    if port_text and not (port_text.isascii() and port_text.isdigit() and 0 < int(port_text) < 65536):
        raise InvalidValue("server", target, "host:port, as in localhost:50051")
    return host or "localhost", int(port_text) if port_text else PORT_DEFAULT
