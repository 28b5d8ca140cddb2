"""`raven`: the group of commands, and the one place where an error becomes a line and an exit code.

Exit codes: 0 done, 1 an error, 2 a wrong use of the command line or of the configuration, 130 interrupted.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Iterator, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import attrs
import click

from raven import __version__
from raven.cli.style import colour_choice
from raven.errors import ConfigError, RavenError

__all__ = ["Root", "cli", "config_option", "main", "root", "run"]

PROGRAM = "raven"
ERROR, USAGE, INTERRUPTED = 1, 2, 130


@attrs.frozen
class Lazy:
    """A command that is imported when it is used. `help` stands here so that `raven --help` imports none."""

    module: str
    name: str
    help: str


COMMANDS = {
    "serve": Lazy("raven.cli.serve", "serve", "Start the server."),
    "tail": Lazy("raven.cli.tail", "tail", "Print events as they come."),
    "history": Lazy("raven.cli.history", "history", "Print what a server has kept, or write it to a file."),
    "topics": Lazy("raven.cli.inspect", "topics", "List the topics of a running server."),
    "latest": Lazy("raven.cli.inspect", "latest", "Print the last value of topics."),
    "instruments": Lazy("raven.cli.inspect", "instruments", "List what can be traded."),
    "feeds": Lazy("raven.cli.feeds", "feeds", "List, start and stop the feeds of a running server."),
    "clients": Lazy("raven.cli.clients", "clients", "List the clients of a running server."),
    "disconnect": Lazy("raven.cli.clients", "disconnect", "End the stream of one client."),
    "drain": Lazy("raven.cli.clients", "drain", "Have a running server ask its clients to leave, and end."),
    "backup": Lazy("raven.cli.backup", "backup", "Copy history and latest values to a safe place, while the server runs."),
    "restore": Lazy("raven.cli.backup", "restore", "Take a backup back, checked, all or nothing."),
    "replay": Lazy("raven.cli.replay", "replay", "Serve the past as if it were live."),
    "health": Lazy("raven.cli.health", "health", "Ask a running server how it is."),
    "adapters": Lazy("raven.cli.adapters", "adapters", "List the installed adapters and what they can do."),
    "adapter": Lazy("raven.cli.adapter", "adapter", "Write and check adapters."),
    "config": Lazy("raven.cli.config", "config", "Check and show the configuration."),
    "doctor": Lazy("raven.cli.doctor", "doctor", "Find what would keep the server from starting, and the fix."),
    "emulate": Lazy("raven.cli.emulate", "emulate", "Play a venue on this machine."),
}


@attrs.frozen
class Root:
    """What the options before the command say.

    Args:
        config: the file of `--config`; None = `raven.toml` here, if there is one.
        debug: whether errors show their traceback.
    """

    config: Path | None = None
    debug: bool = False


class LazyGroup(click.Group):
    """A group that knows the names of its commands, and imports one when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  # click names it
        """In the order of the table."""
        return [name for name, lazy in COMMANDS.items() if find_spec(lazy.module)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """The command, imported; None when there is none of that name."""
        lazy = COMMANDS.get(cmd_name)
        if lazy is None or find_spec(lazy.module) is None:
            return None
        command = getattr(import_module(lazy.module), lazy.name)
        assert isinstance(command, click.Command)
        return command

    def invoke(self, ctx: click.Context) -> object:
        """Run the command. A reader that has gone (`raven tail | head`) is no error; click would make it one."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            return _quiet()

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """From the table alone."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name].help) for name in self.list_commands(ctx)])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.option(
    "--config", type=click.Path(path_type=Path), metavar="PATH", help="The TOML file; else raven.toml here, if there is one."
)
@click.option("--debug", is_flag=True, help="Show tracebacks of errors.")
@click.version_option(__version__, "--version", "-V", prog_name=PROGRAM)
@click.pass_context
def cli(ctx: click.Context, config: Path | None, debug: bool) -> None:
    """Market data from many venues, served as one typed, sequenced stream."""
    ctx.obj = Root(config, debug)
    ctx.color = colour_choice(os.environ)


def _take_config(ctx: click.Context, _: click.Parameter, value: Path | None) -> None:
    if value is not None:
        ctx.obj = attrs.evolve(root(ctx), config=value)


config_option = click.option(
    "--config",
    type=click.Path(path_type=Path),
    metavar="PATH",
    help="The TOML file; else raven.toml here, if there is one.",
    callback=_take_config,
    expose_value=False,
)
"""`--config` after the command; the command reads `root(ctx).config`."""


def root(ctx: click.Context) -> Root:
    """The options before the command; their defaults where a command runs without the group."""
    found = ctx.obj
    return found if isinstance(found, Root) else Root()


def run(arguments: Sequence[str]) -> int:
    """Run one command line. Prints errors; returns the exit code."""
    try:
        code = cli.main(list(arguments), prog_name=PROGRAM, standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except (RavenError, BaseExceptionGroup) as error:
        return _report(error, _wants_traceback(arguments))
    return code if isinstance(code, int) else 0


def _wants_traceback(arguments: Sequence[str]) -> bool:
    return "--debug" in arguments


def _quiet() -> int:
    """Whoever read us has gone. Point stdout at nothing, so that the interpreter does not complain when it flushes."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _report(error: BaseException, with_traceback: bool) -> int:
    """Print an expected error as one line. What is not expected is a bug, and goes on as it is."""
    leaves = list(_leaves(error))
    if all(isinstance(leaf, KeyboardInterrupt) for leaf in leaves):
        return INTERRUPTED
    if all(isinstance(leaf, BrokenPipeError) for leaf in leaves):
        return _quiet()
    if not all(isinstance(leaf, RavenError) for leaf in leaves):
        raise error
    if with_traceback:
        traceback.print_exception(error)
    for line in dict.fromkeys(str(leaf) for leaf in leaves):
        prefix = click.style(f"{PROGRAM}:", fg="red", bold=True)
        click.echo(f"{prefix} {line}", err=True, color=colour_choice(os.environ))
    return USAGE if isinstance(leaves[0], ConfigError) else ERROR


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield error


def main() -> None:
    """The console script."""
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
