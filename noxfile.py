"""What is checked, and how. `make help` has the short commands; `nox -l` lists these; `.ci/run` runs all of them.

Every session installs requirements.lock and nothing beside it. Environments are made by uv where it is there, which takes a
second; `nox --default-venv-backend virtualenv` does without it, for a package index that only pip is told of.
"""

from __future__ import annotations

import filecmp
import json
import os
from pathlib import Path

import nox
from nox.command import CommandFailed

nox.needs_version = ">=2025.5"
nox.options.sessions = ["tests", "lint", "typing", "protos", "adapters"]
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.download_python = "never"  # an interpreter that is missing is said to be missing
os.environ.setdefault("UV_SYSTEM_CERTS", "1")  # the certificates that pip trusts

ROOT = Path(__file__).parent
PYTHONS = ["3.11", "3.12", "3.13"]
ADAPTERS = sorted(path.parent.name for path in (ROOT / "adapters").glob("raven-*/pyproject.toml"))
GENERATED = ROOT / "raven" / "codec" / "generated"


def install_locked(session: nox.Session) -> None:
    """Everything that requirements.lock pins."""
    session.install("--require-hashes", "-r", "requirements.lock")


def install_editable(session: nox.Session) -> None:
    """Everything that is pinned, and our own packages from the tree."""
    install_locked(session)
    trees = [".", *(f"adapters/{name}" for name in ADAPTERS)]
    session.install("--no-deps", "--no-build-isolation", *(part for tree in trees for part in ("-e", tree)))


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """All tests. Arguments go to pytest."""
    install_editable(session)
    session.run("pytest", "-q", "-n", "auto", "--dist", "loadgroup", *session.posargs)


@nox.session(default=False)
def honest(session: nox.Session) -> None:
    """Unmodified clients of gRPC, flat out for a minute each: none of them comes near a budget of raven.grpc.budgets."""
    install_editable(session)
    session.run("pytest", "-q", "-s", "tests/grpc/strangers/test_honest.py", *session.posargs, env={"HONEST_S": "60"})


@nox.session
def lint(session: nox.Session) -> None:
    """Ruff: rules and format."""
    install_locked(session)
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def typing(session: nox.Session) -> None:
    """Mypy, strict, over the server and the adapters."""
    install_editable(session)
    session.run("mypy")


@nox.session
def protos(session: nox.Session) -> None:
    """The contract: its style, that it breaks no client of the baseline, and that the generated code is what it generates."""
    install_locked(session)
    fresh = Path(session.create_tmp()).resolve()
    with session.chdir("protos"):
        session.run("buf", "lint")
        session.run("buf", "breaking", "--against", "baseline.binpb")
        # The output path of buf.gen.yaml is relative to here: ../raven/codec/generated.
        session.run("buf", "generate", "--output", str(fresh / "protos"))
        session.run("buf", "build", "--output", str(fresh / "raven.binpb"))
    stale = stale_files(fresh / "raven" / "codec" / "generated", GENERATED)
    if not filecmp.cmp(fresh / "raven.binpb", GENERATED / "raven.binpb", shallow=False):
        stale.append("raven.binpb")
    if stale:
        session.error(f"raven/codec/generated is stale: {', '.join(stale)}; `nox -s generate` writes it anew")


@nox.session(default=False)
def generate(session: nox.Session) -> None:
    """Write raven/codec/generated anew from the contract."""
    install_locked(session)
    with session.chdir("protos"):
        session.run("buf", "generate")
        session.run("buf", "build", "--output", str(GENERATED / "raven.binpb"))


def stale_files(fresh: Path, committed: Path) -> list[str]:
    """Files that were generated, and are not what is committed."""
    files = [path.relative_to(fresh) for path in fresh.rglob("*") if path.is_file()]
    if not files:
        return ["(nothing was generated)"]
    return [str(name) for name in files if not same(fresh / name, committed / name)]


def same(one: Path, other: Path) -> bool:
    """Whether both are there and have the same bytes."""
    return other.is_file() and filecmp.cmp(one, other, shallow=False)


@nox.session
@nox.parametrize("adapter", ADAPTERS, ids=ADAPTERS)
def adapters(session: nox.Session, adapter: str) -> None:
    """Each adapter as its users get it: a wheel, in an environment with the server and no other adapter."""
    install_locked(session)
    out = Path(session.create_tmp()).resolve() / "wheels"
    for old in out.glob("*.whl"):
        old.unlink()
    for tree in (ROOT, ROOT / "adapters" / adapter):
        with session.chdir(tree):
            session.run("hatchling", "build", "-t", "wheel", "-d", str(out), silent=True)
    # Wheels of the same version stay what they were without this, when the environment is used again.
    session.install("--no-deps", "--force-reinstall", *(str(wheel) for wheel in sorted(out.glob("*.whl"))))
    listed = json.loads(session.run("raven", "adapters", "--json", silent=True) or "[]")
    refused = [one["refused"] for one in listed if "refused" in one]
    if refused or {one["package"] for one in listed} != {adapter}:
        session.error(f"`raven adapters` should list {adapter} alone, usable: {listed}")
    session.run("pytest", "-q", f"adapters/{adapter}/tests", *session.posargs)


@nox.session(default=False)
def fuzz(session: nox.Session) -> None:
    """Strangers at random, for ten minutes: `nox -s fuzz -- --seconds 30 --seed 5` for another length, and the same again."""
    install_editable(session)
    session.run("python", "-m", "tests.fuzz", *session.posargs)


@nox.session(default=False)
def torture(session: nox.Session) -> None:
    """What is killed is whole afterwards: a hundred kills where the tests do ten. Ten thousand clients that cancel in the
    middle of an image leave nothing behind. And clients are told everything in TORTURE_EXAMPLES=1500 runs at random of
    TORTURE_STEPS=40 steps, where the tests do a few that are always the same.
    """
    install_editable(session)
    examples = {"TORTURE_EXAMPLES": os.environ.get("TORTURE_EXAMPLES", "1500")}
    session.run("pytest", "-q", "-s", "tests/store/test_kill.py", *session.posargs, env={"TORTURE_KILLS": "100"})
    session.run("pytest", "-q", "tests/grpc/test_slow_clients.py", "-k", "fault_15", env={"TORTURE_REPEATS": "10000"})
    session.run("pytest", "-q", "-p", "no:cacheprovider", "tests/integration/test_machine.py", env=examples)


@nox.session(default=False)
def bench(session: nox.Session) -> None:
    """Benchmarks: `nox -s bench -- fanout latency --seconds 5`, each with those options; without a name all of them."""
    install_editable(session)
    names = [argument for argument in session.posargs if (ROOT / "bench" / f"{argument}.py").is_file()]
    options = [argument for argument in session.posargs if argument not in names]
    failed = []
    for name in names or sorted(path.stem for path in (ROOT / "bench").glob("[!_]*.py")):
        try:
            session.run("python", f"bench/{name}.py", *options)
        except CommandFailed:  # a goal that is missed does not stop the others
            failed.append(name)
    if failed:
        session.error(f"failed, or missed a goal: {', '.join(failed)}")
