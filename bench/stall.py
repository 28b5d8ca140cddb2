"""One client of 200 stops reading: what the others feel of it.

    nox -s bench -- stall [--rounds 7] [--seconds 10] [--rate 2000] [--quick]

Each round runs the server three times: nobody stalled, one stalled, nobody again. The p99 of the others with a stalled one
is divided by the p99 without; the two runs without (A/A) say how much of that is noise. The stalled client has HTTP/2's default
window and a small receive buffer, so what is meant for it waits in the server. Exits with 1 where the median ratio is above 1.1
and above the A/A pairs of the run. See bench/README.md.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import _handshakes
from _paced import open_paced
from _programs import get_ready
from _trades import BURST, VENUE, shape_of
from _verdict import Goal, Verdicts, describe_machine, parser_of, ratios

CLIENTS, QUICK_CLIENTS = 200, 20
WARM_UP_S = 1.0
QUICK_S = 0.5
RATIO_MAX = 1.1
DEFAULT_WINDOW = 65_535
SMALL_BUFFER_BYTES = 4096
COLUMNS = {"nobody stalled": 0, "one stalled": 1, "nobody stalled again": 0}

Runs = dict[str, list[dict[str, Any]]]


def run_column(stalled: int, clients: int, rate: float, seconds: float) -> dict[str, Any]:
    """Warming up, then what is measured: the latencies of those that read."""
    everything = [(VENUE, "*")]
    first = _handshakes.raven(everything, window=DEFAULT_WINDOW if stalled else _handshakes.WINDOW)
    greetings = [first, *[_handshakes.raven(everything)] * (clients - 1)]
    with open_paced("raven", clients, greetings=greetings, first_receive_bytes=SMALL_BUFFER_BYTES * stalled) as paced:
        if stalled:
            paced.readers.program.ask("stall")
        paced.run(rate, min(WARM_UP_S, seconds), BURST, missing=stalled)
        found = paced.run(rate, seconds, BURST, missing=stalled)
        return {**found, "slow": paced.end()["slow"]}


def measure(columns: Mapping[str, int], rounds: int, clients: int, rate: float, seconds: float) -> Runs:
    """The latencies of all rounds by column."""
    runs: Runs = {name: [] for name in columns}
    for number in range(1, rounds + 1):
        print(f"  round {number}, p99 us:", end="", flush=True)
        for name, stalled in columns.items():
            runs[name].append(run_column(stalled, clients, rate, seconds))
            print(f"  {name} {runs[name][-1]['p99']:,.0f}", end="", flush=True)
        print()
    return runs


def judge(runs: Runs, verdicts: Verdicts) -> None:
    """The ratio of p99 against 1.1, or, where the machine is noisier than that, against what A/A pairs show."""
    without, stalled, *again = ([run["p99"] for run in of_column] for of_column in runs.values())
    verdicts.judge("p99 of the others, nobody stalled", without, unit=" us")
    noise = ratios(again[0], without) if again else []
    if noise:
        verdicts.judge("A/A, nobody stalled again to nobody stalled: p99", noise)
    limit = max([RATIO_MAX, *noise])
    verdicts.judge("one stalled to nobody stalled: p99", ratios(stalled, without), Goal(limit, at_least=False))
    ended = sum(run["slow"] for run in runs["one stalled"])
    print(f"    the stalled client was ended by the server in {ended} of {len(stalled)} runs")


def main() -> int:
    """Measure, print, and write stall.json."""
    parser = parser_of(__doc__, rounds=7, seconds=10.0)
    parser.add_argument("--rate", type=float, default=2000.0, help="trades a second, in bursts of ten")
    options = parser.parse_args()
    clients, columns = CLIENTS, dict(COLUMNS)
    if options.quick:
        options.rounds, options.seconds, clients = 1, QUICK_S, QUICK_CLIENTS
        columns.popitem()  # noise is of no interest
    get_ready()
    print(f"stall: {describe_machine()}; {options.rate:g} trades of {shape_of().size} bytes a second in bursts of {BURST}, "
          f"{clients} readers")  # fmt: skip
    runs = measure(columns, options.rounds, clients, options.rate, options.seconds)
    verdicts = Verdicts()
    judge(runs, verdicts)
    return verdicts.write(options.results, "stall", runs)


if __name__ == "__main__":
    sys.exit(main())
