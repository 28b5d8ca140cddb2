"""A real influxd behind nginx, as influxdb-client meets InfluxDB 2.x: started once, killed and stopped by tests."""

from __future__ import annotations

import base64
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from raven.store.config import InfluxConfig
from tests.ports import free_port

__all__ = ["INFLUXD", "NGINX", "PASSWORD", "USERNAME", "InfluxServer", "influx_server", "missing"]

INFLUXD, NGINX = shutil.which("influxd"), shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
USERNAME, PASSWORD = "raven", "ravens_fly_at_dawn"
STARTS_S = 10.0

_INFLUXD_CONFIG = """
reporting-disabled = true
bind-address = "127.0.0.1:{rpc}"
[meta]
dir = "{dir}/meta"
[data]
dir = "{dir}/data"
wal-dir = "{dir}/wal"
index-version = "tsi1"
query-log-enabled = false
[monitor]
store-enabled = false
[http]
bind-address = "127.0.0.1:{http}"
auth-enabled = false
log-enabled = false
[logging]
level = "error"
"""

_NGINX_CONFIG = """
{user} worker_processes 1; daemon off; pid {dir}/nginx.pid; error_log stderr crit;
events {{ worker_connections 64; }}
http {{
  access_log off; client_max_body_size 64m; client_body_buffer_size 8m;
  client_body_temp_path {dir}/body; proxy_temp_path {dir}/proxy;
  fastcgi_temp_path {dir}/f; uwsgi_temp_path {dir}/u; scgi_temp_path {dir}/s;
  map $arg_precision $v1p {{ default n; ns n; us u; ms ms; s s; }}
  map $http_authorization $allowed {{ default 0; "Token {token}" 1; "Basic {basic}" 1; }}
  server {{
    listen 127.0.0.1:{port};
    default_type application/json;
    if ($allowed = 0) {{ return 401 '{{"code":"unauthorized","message":"unauthorized access"}}'; }}
    location = /api/v2/write {{ proxy_set_header Authorization "";
      proxy_pass http://127.0.0.1:{http}/write?db=$arg_bucket&precision=$v1p; }}
    location / {{ proxy_set_header Authorization ""; proxy_pass http://127.0.0.1:{http}; }}
  }}
}}
"""


def missing() -> str:
    """What is not installed, as a reason to skip; empty when all is there."""
    names = [
        name for name, path in (("influxd (Debian: influxdb)", INFLUXD), ("nginx (Debian: nginx-light)", NGINX)) if not path
    ]
    return f"not installed: {', '.join(names)}" if names else ""


class InfluxServer:
    """influxd on `http`, nginx before it on `port`. What InfluxDB 2.x calls a bucket is a database here."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.port, self.http, self._rpc = free_port(), free_port(), free_port()
        self._influxd: subprocess.Popen[bytes] | None = None
        self._nginx: subprocess.Popen[bytes] | None = None
        self._direct = httpx.Client(base_url=f"http://127.0.0.1:{self.http}", timeout=10, verify=False, trust_env=False)

    def start(self) -> None:
        """Both; returns when they answer."""
        values = {"dir": self.directory, "rpc": self._rpc, "http": self.http, "port": self.port}
        basic = base64.b64encode(f"{USERNAME}:{PASSWORD}".encode()).decode()
        (self.directory / "influxd.conf").write_text(_INFLUXD_CONFIG.format(**values))
        user = "user root;" if os.geteuid() == 0 else ""  # its workers write into our directory
        text = _NGINX_CONFIG.format(**values, user=user, token=f"{USERNAME}:{PASSWORD}", basic=basic)
        (self.directory / "nginx.conf").write_text(text)
        nginx = [str(NGINX), "-p", str(self.directory), "-c", str(self.directory / "nginx.conf")]
        self._nginx = subprocess.Popen(nginx, stderr=subprocess.DEVNULL)
        self.start_influxd()

    def start_influxd(self) -> None:
        """influxd alone, on what it had before."""
        command = [str(INFLUXD), "run", "-config", str(self.directory / "influxd.conf")]
        self._influxd = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        end_s = time.monotonic() + STARTS_S
        while time.monotonic() < end_s:
            try:
                if self._direct.get("/ping").status_code == 204:
                    return
            except httpx.HTTPError:
                time.sleep(0.01)  # a process that starts gives no other sign
        raise TimeoutError("influxd does not answer")

    def signal(self, number: int) -> None:
        """Send influxd a signal (SIGSTOP, SIGCONT)."""
        assert self._influxd is not None
        os.kill(self._influxd.pid, number)

    def kill(self) -> None:
        """kill -9 of influxd; nginx stays, and answers 502."""
        assert self._influxd is not None
        self._influxd.kill()
        self._influxd.wait()

    def stop(self) -> None:
        """Both."""
        self._direct.close()
        for process in (self._nginx, self._influxd):
            if process is not None and process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.terminate()
                try:
                    process.wait(5)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()

    def create(self, database: str) -> None:
        """A database, empty."""
        self.ask(f'DROP DATABASE "{database}"')
        self.ask(f'CREATE DATABASE "{database}"')

    def ask(self, statement: str, database: str = "") -> list[dict[str, Any]]:
        """The series of an answer, past nginx."""
        response = self._direct.post("/query", params={"db": database, "epoch": "ns", "q": statement})
        [result] = response.raise_for_status().json()["results"]
        assert "error" not in result, result
        series: list[dict[str, Any]] = result.get("series", [])
        return series

    def rows(self, statement: str, database: str) -> list[dict[str, Any]]:
        """The rows of an answer, by column, with the name of their measurement under "_"."""
        return [
            {"_": series["name"], **series.get("tags", {}), **dict(zip(series["columns"], values, strict=True))}
            for series in self.ask(statement, database)
            for values in series["values"]
        ]

    def count(self, measurement: str, field: str, database: str) -> int:
        """Points that have a field."""
        found = self.rows(f'SELECT count("{field}") FROM "{measurement}"', database)
        return int(found[0]["count"]) if found else 0

    def config(self, database: str, **changes: Any) -> InfluxConfig:
        """An endpoint that writes there."""
        values = {"url": f"http://127.0.0.1:{self.port}", "username": USERNAME, "password": PASSWORD, "database": database}
        return InfluxConfig(**{**values, "name": database, "timeout_s": 2.0, **changes})


@contextmanager
def influx_server(directory: Path) -> Iterator[InfluxServer]:
    """One that runs as long as the context."""
    server = InfluxServer(directory)
    try:
        server.start()
        yield server
    finally:
        server.stop()
