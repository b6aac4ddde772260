"""The command line: names and their commands. Errors are raised here and said in ``__main__``."""

from __future__ import annotations

import os
from typing import Annotated, Any

import typer
from typer.main import get_command

from emitter import __version__

from .commands import (
    archive,
    backfill,
    completion,
    demo,
    export,
    files,
    ledger,
    live,
    load,
    metrics,
    query,
    reconcile,
    rejects,
    report,
    verify,
)
from .dsn import take_from_file
from .errors import UsageError
from .options import example, meant

app = typer.Typer(
    name="tradetrail",
    add_completion=False,  # the command "completion" does it, and asks which shell
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    epilog=example("tradetrail load --dir var/audit"),
    context_settings={"help_option_names": ["-h", "--help"]},
)

for module in (
    *(load, files, query, ledger, verify, rejects, metrics, report, live, reconcile, backfill),
    *(archive, export, completion, demo),
):
    module.register(app)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"tradetrail {__version__}")
        raise typer.Exit


@app.callback()
def _tradetrail(
    _: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Say the version.")] = False,
) -> None:
    """The paper trail of a trading bot: local JSON lines, loaded exactly once into PostgreSQL.

    Exit codes: 0 fine, 1 findings in the data, 2 usage or configuration, 3 environment.
    """


def run(args: list[str]) -> int:
    """Run a command line; the exit code. A wrong one is a :class:`UsageError`."""
    if instruction := os.environ.get(completion.VARIABLE):
        return completion.complete(app, instruction)
    take_from_file(os.environ)
    command = get_command(app)
    try:
        with command.make_context("tradetrail", _listing(args)) as context:
            code = command.invoke(context)
    except typer.Exit as done:
        return done.exit_code
    except Exception as error:
        if type(error).__name__ == "NoArgsIsHelpError":
            # Where help is not printed in colours by now, it is the error's text.
            if help_ := getattr(error, "message", ""):
                typer.echo(help_)
            return 2
        if not hasattr(error, "format_message"):
            raise
        raise UsageError(_usage(error)) from error
    return int(code or 0)


def _listing(args: list[str]) -> list[str]:
    """``validate --rules`` without a file lists the rules; an option's value cannot be left out in typer."""
    listing = list(args)
    for at, word in enumerate(args):
        if args[0] == "validate" and word == "--rules" and (at + 1 == len(args) or args[at + 1].startswith("-")):
            listing[at] = "--list-rules"
    return listing


def _usage(error: Any) -> str:
    """One line for a wrong command line, with the right name where one is near."""
    said = error.format_message().strip()
    context = getattr(error, "ctx", None)
    wrong = getattr(error, "option_name", None)
    path = context.command_path if context else "tradetrail"
    if wrong and context and said.startswith("No such option"):
        known = [name for parameter in context.command.params for name in parameter.opts if name.startswith("--")]
        said = f"No such option: {wrong}{meant(wrong, [*known, '--help'])}"
    return f"{said.rstrip('.') if said.endswith('.') else said} (see: {path} --help)"
