"""How commands print: colours where they are wanted, aligned columns, signs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import click

__all__ = ["FAIL", "OK", "colour_choice", "table"]

OK = click.style("✓", fg="green")
FAIL = click.style("✗", fg="red", bold=True)

_GAP = "  "


def colour_choice(environ: Mapping[str, str]) -> bool | None:
    """What click is to do about colours: False = none (NO_COLOR is set), None = on a terminal only."""
    return False if environ.get("NO_COLOR") else None


def table(rows: Sequence[Sequence[str]], header: Sequence[str] = ()) -> str:
    """`rows` in columns as wide as their widest cell; styles do not count.

    >>> print(table([("a", "1"), ("long", "2")]))
    a     1
    long  2
    """
    lines = [[click.style(cell, bold=True) for cell in header], *rows] if header else list(rows)
    widths = [max(len(click.unstyle(cell)) for cell in column) for column in zip(*lines, strict=True)]
    return "\n".join(_line(line, widths) for line in lines)


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    padded = (cell + " " * (width - len(click.unstyle(cell))) for cell, width in zip(cells, widths, strict=True))
    return _GAP.join(padded).rstrip()
