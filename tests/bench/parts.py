"""The modules of bench/, which are programs and no package: they import one another from their own folder."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path

BENCH = Path(__file__).parents[2] / "bench"

# Last, so that none of its modules can hide another.
if str(BENCH) not in sys.path:
    sys.path.append(str(BENCH))

counters = import_module("_counters")
handshakes = import_module("_handshakes")
trades = import_module("_trades")
verdict = import_module("_verdict")
fanout_verdicts = import_module("_fanout_verdicts")
readers = import_module("_readers")
workloads = import_module("_workloads")
