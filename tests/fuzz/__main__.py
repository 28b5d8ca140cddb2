"""`python -m tests.fuzz --seconds 30`: strangers at random.

Half of the time goes to the request path, half to connections. The seed is printed first; with `--seed` the same inputs come in
the same order. An input that fails is written to a file, whose path is printed; `--replay FILE` runs it again.
"""

from __future__ import annotations

import argparse
import secrets
import sys
import time
import traceback
from pathlib import Path
from random import Random

import attrs
import trio

from tests.fuzz.connections import AT_ONCE, RSS_GROWTH_MAX_BYTES, Connections, Failed, Session, resident_bytes
from tests.fuzz.request_path import Requests
from tests.fuzz.seeds import CORPUS

HONEST_EVERY = 200
REPLAYS = 50
WARM_UP = 0.2  # of the time


def corpus_of_requests() -> list[tuple[str, bytes]]:
    """Names of types, and bytes."""
    return [(path.name.partition(".")[0], path.read_bytes()) for path in sorted((CORPUS / "requests").glob("*.bin"))]


def corpus_of_sessions() -> list[bytes]:
    """What clients sent."""
    return [path.read_bytes() for path in sorted((CORPUS / "connections").glob("*.bin"))]


def write_failing(folder: Path, kind: str, name: str, data: bytes) -> Path:
    """The file with an input."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{kind}-{name}.bin"
    path.write_bytes(data)
    return path


def fuzz_requests(seed: int, seconds: float, folder: Path, executions_max: int = sys.maxsize) -> int:
    """Run until the time is over; how many executions.

    Raises:
        Failed: naming the file with the input.
    """
    target, until, count = Requests(corpus_of_requests()), time.monotonic() + seconds, 0
    while count < executions_max and time.monotonic() < until:
        data = target.make(Random(f"{seed}:request:{count}"))
        try:
            target.run(data)
        except Exception as error:
            path = write_failing(folder, "request", f"{seed}-{count}", data)
            raise Failed(f"{type(error).__name__}: {error}; python -m tests.fuzz --replay {path}") from error
        count += 1
    return count


@attrs.define
class Run:
    """What became of strangers' connections.

    Args:
        executions: how many there were.
        growth_bytes: of the process, after its warm-up.
        failure: what does not hold.
        recent: the last inputs.
    """

    executions: int = 0
    growth_bytes: int = 0
    failure: BaseException | None = None
    recent: list[bytes] = attrs.field(factory=list)


async def fuzz_connections(seed: int, seconds: float, folder: Path, executions_max: int = sys.maxsize) -> Run:
    """Run until the time is over.

    Raises:
        Failed: naming the file with the input, or those that came last.
    """
    run = Run()
    try:
        async with Connections.open(corpus_of_sessions()) as target:
            try:
                await strangers(target, run, seed, seconds, executions_max)
            except Failed as error:
                run.failure = error
            run.recent = [bytes(session) for session in target.recent]
    except Exception as error:  # the server itself has ended
        run.failure = error
    if run.failure is None:
        return run
    failing = await that_fails_alone(run.recent) or run.recent
    paths = [write_failing(folder, "connection", f"{seed}-{run.executions}-{n}", data) for n, data in enumerate(failing)]
    raise Failed(f"{run.failure}; python -m tests.fuzz --replay {' '.join(map(str, paths))}") from run.failure


async def strangers(target: Connections, run: Run, seed: int, seconds: float, executions_max: int) -> None:
    """One after the other, now and then an honest client."""
    started, before = time.monotonic(), 0
    while run.executions < executions_max and (elapsed := time.monotonic() - started) < seconds:
        numbers = range(run.executions, run.executions + AT_ONCE)
        await target.run([target.make(Random(f"{seed}:connection:{number}")) for number in numbers])
        run.executions += AT_ONCE
        if run.executions % HONEST_EVERY == 0:
            await target.check_honest()
            now = resident_bytes()
            before = before if before and elapsed > seconds * WARM_UP else now
            run.growth_bytes = max(run.growth_bytes, now - before)
    await target.check_honest()
    target.check()
    if run.growth_bytes > RSS_GROWTH_MAX_BYTES:
        raise Failed(f"the process grew by {run.growth_bytes / 2**20:.1f} MiB")


async def that_fails_alone(recent: list[bytes]) -> list[bytes]:
    """The last of some inputs that fails by itself, if one does."""
    for data in reversed(recent):
        try:
            await replay_connections([data])
        except Failed:
            return [data]
    return []


async def replay_connections(inputs: list[bytes], times: int = 1) -> None:
    """Some inputs at once, in a server of their own.

    Raises:
        Failed: an invariant does not hold.
    """
    failure: Exception | None = None
    try:
        async with Connections.open(corpus_of_sessions()) as target:
            try:
                for _ in range(times):
                    await target.run([Session.read(data) for data in inputs])
                await target.check_honest()
            except Failed as error:
                failure = error
    except Exception as error:  # the server itself has ended
        failure = error
    if failure is not None:
        raise Failed(str(failure)) from failure


def replay(paths: list[Path]) -> None:
    """Run files again: requests one by one, connections all at once, some times, because some faults need a race."""
    connections = [path.read_bytes() for path in paths if path.name.startswith("connection")]
    for path in paths:
        if not path.name.startswith("connection"):
            Requests(corpus_of_requests()).run(path.read_bytes())
    if connections:
        trio.run(replay_connections, connections, REPLAYS)


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--seed", type=int, default=secrets.randbits(32))
    parser.add_argument("--folder", type=Path, default=Path("build/fuzz"), help="for inputs that fail")
    parser.add_argument("--replay", type=Path, nargs="+", default=[], help="files to run again, instead")
    options = parser.parse_args()
    if options.replay:
        replay(options.replay)
        return 0
    print(f"seed {options.seed}", flush=True)
    try:
        half = options.seconds / 2
        requests = fuzz_requests(options.seed, half, options.folder)
        print(f"requests: {requests} executions, {requests / half:.0f}/s", flush=True)
        run = trio.run(fuzz_connections, options.seed, half, options.folder)
    except Failed as error:
        traceback.print_exception(error)
        return 1
    growth = f"memory +{run.growth_bytes / 2**20:.1f} MiB"
    print(f"connections: {run.executions} executions, {run.executions / half:.0f}/s; {growth}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
