"""``completion``: the script that makes a shell complete commands, options and their values."""

from __future__ import annotations

from typing import Annotated

import typer

# typer says nowhere what it exports from there
from typer.completion import completion_init, get_completion_script, shell_complete  # type: ignore[attr-defined]
from typer.main import get_command

from ..options import chosen, completing, example

SHELLS = ("bash", "zsh", "fish")
# The shell's script asks by this variable, so that no option is taken for the question.
VARIABLE = "_TRADETRAIL_COMPLETE"
_PROGRAM = "tradetrail"


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command(epilog=example('eval "$(tradetrail completion bash)"'))(completion)


def completion(
    shell: Annotated[
        str, typer.Argument(metavar="bash|zsh|fish", help="The shell.", autocompletion=completing(SHELLS))
    ],
) -> None:
    """Print the script that makes a shell complete commands, options and their values with TAB.

    bash: put the example's line into ~/.bashrc. zsh: the same into ~/.zshrc,
    behind compinit. fish: tradetrail completion fish | source
    """
    script = get_completion_script(prog_name=_PROGRAM, complete_var=VARIABLE, shell=chosen("the shell", shell, SHELLS))
    typer.echo(script)


def complete(app: typer.Typer, instruction: str) -> int:
    """Answer the question of a shell's script; the exit code."""
    completion_init()
    return shell_complete(get_command(app), {}, _PROGRAM, VARIABLE, instruction)
