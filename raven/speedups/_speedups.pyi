"""What `_speedups.pyx` has. Each is described where its twin in Python is."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

BUILT_FROM: str
"""`raven.speedups.source_mark` of the source."""

_K = TypeVar("_K")

def columns(levels: Sequence[tuple[float, float]]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Prices and sizes of levels; its twin is in `raven.adapter.columns`."""

class Side:
    """One side of a book; its twin is in `raven.model.book`."""

    def __init__(self, bids: bool, prices: Sequence[float] = (), sizes: Sequence[float] = ()) -> None: ...
    @property
    def bound(self) -> float: ...
    def set(self, prices: Sequence[float], sizes: Sequence[float]) -> None: ...
    def tighten(self) -> float: ...
    def columns(self, depth: int) -> tuple[list[float], list[float]]: ...
    def levels(self) -> dict[float, float]: ...
    def __len__(self) -> int: ...

class ElementEncoder:
    """Encodes the events of one topic; its twin is in `raven.codec.encoder`."""

    def __init__(self, prefix: bytes, trade: type, quote: type, delta: type, general: Callable[[Any, int], bytes]) -> None: ...
    def encode(self, event: Any, sequence: int) -> bytes: ...

class Lane:
    """The quick way to one client; its twin is in `raven.grpc.lane`."""

    closed: bool

    def __init__(self, h2: Any, stream: Any, gate: Any, way: Any) -> None: ...
    def send(self, message: bytes, shared: dict[int, bytes]) -> bool: ...

def send_all(lanes: dict[_K, Any], message: bytes) -> list[_K]:
    """Write into all lanes; its twin is in `raven.broker.audience`."""
