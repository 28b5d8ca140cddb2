"""Builds raven/speedups/_speedups.pyx when the package is installed or made into a wheel.

Without a C compiler, without Python's headers, on a system without POSIX sockets, or with RAVEN_PURE set there is none, which
is said: Raven runs without it, only slower (`raven doctor` tells which it is).
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

PLACE = Path("raven", "speedups")
FLAGS = ["-O3", "-g0", "-fno-fast-math"]  # whatever CFLAGS say: a number is looked at whether it is finite


class SpeedupsHook(BuildHookInterface):  # type: ignore[type-arg]  # hatchling's own configuration is of no use here
    """Adds the extension to a wheel; an editable install has it in the tree."""

    PLUGIN_NAME = "custom"
    _work: Path | None = None

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Build, or say why not. Never fails."""
        if os.environ.get("RAVEN_PURE"):
            self.app.display_warning("RAVEN_PURE is set: raven.speedups is not built")
            return
        self._work = Path(tempfile.mkdtemp(prefix="raven-speedups-"))
        root = Path(self.root)
        try:
            built = build_extension(root / PLACE / "_speedups.pyx", self._work)
            if version == "editable":
                put_into(root / PLACE, built)
        except Exception as error:
            self.app.display_warning(f"raven.speedups is not built, Raven will run without it, slower: {error}")
            return
        if version != "editable":
            build_data["force_include"][str(built)] = str(PLACE / built.name)
        build_data["pure_python"] = False
        build_data["infer_tag"] = True

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:  # noqa: ARG002  the contract
        """Leave nothing behind."""
        if self._work is not None:
            shutil.rmtree(self._work, ignore_errors=True)


def put_into(folder: Path, built: Path) -> None:
    """At once: a process may have the old one open, and another build may be under way."""
    with tempfile.TemporaryDirectory(dir=folder, prefix=".built-") as own:
        fresh = Path(own, built.name)
        shutil.copyfile(built, fresh)
        fresh.replace(folder / built.name)


def build_extension(source: Path, work: Path) -> Path:
    """Compile `source` within `work`; the extension module's file.

    Raises:
        Exception: of Cython, setuptools or the compiler, each of its own.
    """
    if os.name != "posix":
        raise OSError("it needs POSIX sockets")
    from Cython.Build import cythonize
    from setuptools import Distribution, Extension
    from setuptools.command.build_ext import build_ext

    copy = work / source.name
    shutil.copyfile(source, copy)
    # As `raven.speedups.source_mark` has it, which cannot be imported where nothing is installed yet.
    mark = hashlib.sha256(source.read_bytes()).hexdigest()[:16]
    macros = [("RAVEN_BUILT_FROM", f'"{mark}"')]
    extension = Extension("raven.speedups._speedups", [str(copy)], define_macros=macros, extra_compile_args=FLAGS)
    modules = cythonize([extension], language_level=3, build_dir=str(work), quiet=True)
    command = build_ext(Distribution({"ext_modules": modules}))
    command.build_lib, command.build_temp = str(work / "lib"), str(work / "temp")
    command.ensure_finalized()
    command.run()
    (built,) = (work / "lib").rglob("_speedups.*")
    return built
