"""Lines that an endpoint refuses, set aside with the reason: bounded files of line protocol, to be read and written by hand."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

__all__ = ["RejectedLines"]

FILE_BYTES = 1024 * 1024
FILES_MAX = 16


class RejectedLines:
    """The directory `rejected` of an endpoint. A comment before each group of lines says when and why.

    Args:
        directory: made when the first line comes.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def add(self, lines: Sequence[str], reason: str) -> None:
        """Keep lines. The oldest file goes when there are too many.

        Raises:
            OSError: they could not be kept.
        """
        self._directory.mkdir(parents=True, exist_ok=True)
        when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        text = "\n".join((f"# {when} {' '.join(reason.split())}", *lines, ""))
        with self._file().open("a", encoding="utf-8") as file:
            file.write(text)

    def _file(self) -> Path:
        files = sorted(self._directory.glob("*.lp"))
        if files and files[-1].stat().st_size < FILE_BYTES:
            return files[-1]
        for old in files[: max(0, len(files) - FILES_MAX + 1)]:
            old.unlink()
        return self._directory / f"{int(files[-1].stem) + 1 if files else 1:06d}.lp"
