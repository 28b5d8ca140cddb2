"""`raven backup` and `raven restore`: what the embedded stores have, to another place and back."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import click

from raven import __version__
from raven.cli.config import load
from raven.cli.main import config_option
from raven.cli.serve import data_dir as configured_dir
from raven.cli.style import OK
from raven.store.backup import backup as make_backup
from raven.store.backup import restore as take_back

__all__ = ["backup", "data_dir_of", "data_dir_option", "restore"]

data_dir_option = click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="The data directory; else that of the configuration.  [data] dir, RAVEN_DATA_DIR",
)


def data_dir_of(ctx: click.Context, given: Path | None) -> Path:
    """What `--data-dir` says, or else the configuration."""
    return given or configured_dir(load(ctx))


@click.command()
@click.option(
    "--to", type=click.Path(file_okay=False, path_type=Path), default=Path("backups"), show_default=True, metavar="DIR",
    help="Where the backup is put, as raven_backup_YYYYMMDD_HHMMSS (UTC).",
)  # fmt: skip
@data_dir_option
@config_option
@click.pass_context
def backup(ctx: click.Context, to: Path, data_dir: Path | None) -> None:
    """Copy the history and the latest values, whole and checksummed, while the server runs.

    Everything is in it that was committed before it was begun. What was published last, and is not written yet ([history]
    commit_s), is not; nor are the recent events of a server that has ended, which are good for its next start alone.
    """
    made = make_backup(data_dir_of(ctx, data_dir), to, __version__, report=_say)
    click.echo(f"{OK} {made}")


@click.command()
@click.argument("directory", metavar="BACKUP", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--replace", is_flag=True, help="Move what is in the data directory aside; else it has to be empty.")
@data_dir_option
@config_option
@click.pass_context
def restore(ctx: click.Context, directory: Path, replace: bool, data_dir: Path | None) -> None:
    """Put the files of BACKUP into the data directory, all or nothing. The server must not run.

    Every file is held against its checksum before anything is touched. With --replace the old files are not deleted: they
    stand in the data directory as replaced_YYYYMMDD_HHMMSS.
    """
    target = data_dir_of(ctx, data_dir)
    restored = take_back(directory, target, replace=replace, report=_say)
    made = datetime.fromtimestamp(restored.manifest.created_ts_ns / 1e9, UTC)
    click.echo(f"{OK} {target} is as it was at {made:%Y-%m-%d %H:%M:%S} UTC")
    if restored.aside is not None:
        click.echo(f"  what was there before: {restored.aside}")


def _say(name: str, size: int) -> None:
    click.echo(f"  {name:<34} {size:>15,} B")
