"""A log that a venue cannot flood: some lines a minute, and how many were held back."""

from __future__ import annotations

from collections import deque

__all__ = ["SAMPLE_WINDOW_S", "SampleLog", "format_sample"]

SAMPLE_WINDOW_S = 60.0


class SampleLog:
    """Which of many like events get their line: at most `lines_max` in any `SAMPLE_WINDOW_S`."""

    def __init__(self, lines_max: int) -> None:
        self._lines_max = lines_max
        self._lines_at: deque[float] = deque()
        self._suppressed = 0

    def take(self, now_s: float) -> int | None:
        """How many were held back since the last line, if this one gets a line; None if it is held back as well.

        Args:
            now_s: any clock that never goes back.
        """
        while self._lines_at and self._lines_at[0] <= now_s - SAMPLE_WINDOW_S:
            self._lines_at.popleft()
        if len(self._lines_at) >= self._lines_max:
            self._suppressed += 1
            return None
        self._lines_at.append(now_s)
        suppressed, self._suppressed = self._suppressed, 0
        return suppressed


def format_sample(data: bytes, chars_max: int) -> str:
    """What a log may show of bytes from a stranger: printable ASCII, at most `chars_max` of it, and how much there is more.

    >>> format_sample(b'{"p":"NaN"}\\n', 40)
    '{"p":"NaN"}\\\\n'
    """
    head = data[:chars_max].decode("utf-8", "backslashreplace")
    text = head.encode("unicode_escape").decode("ascii")
    whole = len(data) <= chars_max and len(text) <= chars_max
    return text if whole else f"{text[:chars_max]}... ({len(data)} bytes)"
