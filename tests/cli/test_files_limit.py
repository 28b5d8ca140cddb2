"""The server takes as many open files as it may have."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytest.importorskip("resource", reason="there is no such limit on this system")

LOWER = """
import resource
_, most = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (64, most))
from raven.cli.serve import raise_files_limit
raise_files_limit()
print(resource.getrlimit(resource.RLIMIT_NOFILE)[0] > 64 or most <= 64)
"""


def test_the_soft_limit_is_raised_to_the_hard_one() -> None:
    done = subprocess.run([sys.executable, "-c", LOWER], capture_output=True, text=True, check=False)
    assert done.stdout == "True\n", done.stderr
