"""Disks that are small, full, or may not be written: a tmpfs, where this user may mount one."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

__all__ = ["fill", "remount", "small_tmpfs"]


@contextmanager
def small_tmpfs(disk: Path, kib: int) -> Iterator[Path]:
    """A disk of so many KiB, made at `disk`; without the right to mount one the test is skipped."""
    disk.mkdir()
    mount = shutil.which("mount")
    command = [mount or "mount", "-t", "tmpfs", "-o", f"size={kib}k", "tmpfs", str(disk)]
    if mount is None or subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("a small tmpfs cannot be mounted here: that takes root")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def fill(disk: Path) -> Path:
    """Leave no room; the file that takes it."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as out, suppress(OSError):
        while out.write(b"x" * 512):
            pass
    return ballast


def remount(disk: Path, options: str) -> None:
    """Change it while it is there ("ro", "size=16m")."""
    os.sync()
    subprocess.run(["mount", "-o", f"remount,{options}", str(disk)], check=True)
