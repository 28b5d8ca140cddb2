"""The environment of the program to compare with: made once, from `cryptofeed.lock`, beside nox's own environments."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Iterator
from pathlib import Path

__all__ = ["PeerUnavailable", "peer_python"]

HERE = Path(__file__).resolve().parent
LOCK = HERE / "cryptofeed.lock"
ENVIRONMENT = HERE.parent / ".nox" / "ingest-cryptofeed"
PYTHON_MIN = (3, 13)  # what cryptofeed 3 asks for
INSTALL_TIMEOUT_S = 600


class PeerUnavailable(Exception):
    """There is nothing to compare with; says why."""


def peer_python() -> Path:
    """The Python of an environment that has what is pinned.

    Raises:
        PeerUnavailable: no Python is new enough, or it could not be installed.
    """
    python = ENVIRONMENT / "bin" / "python"
    made_of = ENVIRONMENT / "made-of"
    digest = hashlib.sha256(LOCK.read_bytes()).hexdigest()
    if made_of.is_file() and made_of.read_text() == digest and _version(str(python)) >= PYTHON_MIN:
        return python
    base = next(_new_enough(), None)
    if base is None:
        wanted = ".".join(map(str, PYTHON_MIN))
        raise PeerUnavailable(f"cryptofeed needs Python {wanted} or later, and no python{wanted} was found")
    shutil.rmtree(ENVIRONMENT, ignore_errors=True)
    print(f"making {ENVIRONMENT.relative_to(HERE.parent)}", flush=True)
    if base == sys.executable:
        venv.create(ENVIRONMENT, with_pip=True)
    else:
        _run(base, "-m", "venv", str(ENVIRONMENT))
    _run(str(python), "-m", "pip", "install", "--quiet", "--no-deps", "--require-hashes", "-r", str(LOCK))
    made_of.write_text(digest)
    return python


def _new_enough() -> Iterator[str]:
    """Pythons that cryptofeed can live with: this one first, then those on the path, then those that pyenv keeps."""
    kept = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    names = [f"python3.{minor}" for minor in (13, 14)]
    found = [sys.executable, *filter(None, map(shutil.which, names)), *map(str, sorted(kept.glob("3.1[34].*/bin/python")))]
    return (python for python in found if _version(python) >= PYTHON_MIN)


def _version(python: str) -> tuple[int, ...]:
    """(3, 13), or nothing for what is no Python: pyenv's shims are there for versions that are not active too."""
    code = "import sys; print(*sys.version_info[:2])"
    try:
        done = subprocess.run([python, "-c", code], capture_output=True, text=True, timeout=30, check=False)
    except OSError:
        return ()
    return tuple(map(int, done.stdout.split())) if done.returncode == 0 else ()


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_TIMEOUT_S, check=False)
    if done.returncode:
        said = done.stderr.strip().splitlines() or ["it did not say why"]
        raise PeerUnavailable(f"{' '.join(command[1:4])} failed: {said[-1]}")
