"""What a client's user writes, as what the contract has. Pure."""

from __future__ import annotations

import ssl
from collections.abc import Iterable, Mapping

from raven.client.runtime import Address
from raven.codec.generated.raven import v1
from raven.errors import InvalidName, InvalidValue
from raven.model.topic import Kind, check_selector_names, parse_kind

__all__ = ["PORT_DEFAULT", "address_of", "parse_kinds", "parse_target", "selector"]

PORT_DEFAULT = 50051


def selector(where: str, kinds: str | Iterable[str] = (), variant: str = "") -> v1.TopicSelector:
    """A set of topics.

    Args:
        where: "venue/symbol"; either may be "*", and the symbol may be a prefix that ends in "*". Or a topic as it is printed,
            "venue/symbol/kind" or "venue/symbol/kind/variant", whose kind and variant count then.
        kinds: labels of kinds ("trade"), or one text with commas between them.
        variant: of candles the interval, of book tops the depth; empty = the server's default, "*" = any.

    Raises:
        InvalidValue: naming the part that cannot be.
    """
    parts = where.split("/")
    if not 2 <= len(parts) <= 4:
        raise InvalidValue("topics", where, "venue/symbol, as in sim/BTC-USDT or */BTC-*, or venue/symbol/kind")
    venue, symbol = parts[:2]
    if len(parts) > 2:
        kinds, variant = parts[2], parts[3] if len(parts) == 4 else variant
    _check_names(venue, symbol, variant)
    parsed = [v1.Kind(int(kind)) for kind in parse_kinds(kinds)]
    return v1.TopicSelector(venue=venue, symbol=symbol, kinds=parsed, variant=variant)


def parse_kinds(kinds: str | Iterable[str]) -> list[Kind]:
    """Kinds from their labels, or from one text with commas.

    Raises:
        InvalidName: one is none.
    """
    labels = [label for label in kinds.split(",") if label] if isinstance(kinds, str) else list(kinds)
    return [parse_kind(label.strip(), "kinds") for label in labels]


def _check_names(venue: str, symbol: str, variant: str) -> None:
    """With a hint where only the case of letters is wrong, which is the mistake that is made most."""
    try:
        check_selector_names(venue, symbol, variant)
    except InvalidName as error:
        fixed = {"venue": venue.lower(), "symbol": symbol.upper()}.get(error.field)
        if fixed is None or fixed == error.value or not _valid(error.field, fixed):
            raise
        raise InvalidName(error.field, error.value, f"did you mean {fixed!r}? {error.expected}") from None


def _valid(field: str, value: str) -> bool:
    try:
        check_selector_names(value if field == "venue" else "*", value if field == "symbol" else "*", "")
    except InvalidName:
        return False
    return True


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


def address_of(target: str, tls: bool | ssl.SSLContext, metadata: Mapping[str, str] | None) -> Address:
    """Where and how to connect.

    Raises:
        InvalidValue: `target` is no address.
    """
    host, port = parse_target(target)
    context = ssl.create_default_context() if tls is True else tls or None
    return Address(host, port, context, {name.lower(): value for name, value in (metadata or {}).items()})
