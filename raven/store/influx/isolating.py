"""Which lines of a batch an endpoint refuses: found by writing it in halves. Writing a line again writes the same point."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import attrs

from raven.store.influx.sending import TAKEN, Answer, Verdict, compressed

__all__ = ["ISOLATING_REQUESTS_MAX", "REFUSALS", "Refused", "chokes", "isolate", "refuses"]

ISOLATING_REQUESTS_MAX = 64
"""Requests to find out which lines of a batch are refused; then the pieces that are left are refused as they are. One line of
5,000 takes 26.
"""

REFUSALS = (Verdict.REFUSED, Verdict.TOO_LARGE)


@attrs.frozen
class Refused:
    """Lines that are not to be written, and why."""

    lines: Sequence[str]
    reason: str


def refuses(answer: Answer) -> bool:
    """Whether a server says that something in a batch is not to be written."""
    return answer.verdict in REFUSALS


def chokes(answer: Answer) -> bool:
    """... or fails on it, where others are known to go through."""
    return answer.verdict in REFUSALS or answer.of_batch


def isolate(
    send: Callable[[bytes], Answer], lines: list[str], answer: Answer, bad: Callable[[Answer], bool] = refuses
) -> tuple[list[Refused], Answer]:
    """Write lines of which some are refused.

    Args:
        send: writes compressed lines.
        answer: what was said of all lines together.
        bad: which answers are refusals.

    Returns:
        What is refused, and TAKEN when all else is written; or nothing, and why everything must be written again later.
    """
    pieces = [(lines, answer)]
    refused: list[Refused] = []
    requests = 0
    while pieces:
        piece, answer = pieces.pop()
        if len(piece) == 1 or requests >= ISOLATING_REQUESTS_MAX:
            refused.append(Refused(piece, answer.reason))
            continue
        half = len(piece) // 2
        for part in (piece[:half], piece[half:]):
            requests += 1
            answer = send(compressed(part))
            if bad(answer):
                pieces.append((part, answer))
            elif answer.verdict is not Verdict.TAKEN:
                return [], answer
    return refused, TAKEN
