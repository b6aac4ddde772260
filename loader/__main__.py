"""``tradetrail``: the only place where an error becomes one line on stderr and an exit code.

0 fine, 1 findings in the data, 2 usage or configuration, 3 environment; 130 and 143 after Ctrl-C and SIGTERM.
"""

from __future__ import annotations

import contextlib
import os
import sys
import traceback
import warnings

from emitter.errors import EmitterError, SettingError

from . import ending
from .errors import TradetrailError
from .extras import installing
from .text import one_line

_DEBUG = "TRADETRAIL_DEBUG"


def main() -> None:
    """Run the command line, and exit."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    warnings.showwarning = _show_warning
    ending.listen()
    code = _run()
    try:
        sys.stdout.flush()
    except OSError as error:
        code = max(code, _said(error))
    if code > 128:
        # All is put away by now, but a thread may still be deep inside DuckDB and would be waited for.
        os._exit(code)
    sys.exit(code)


def _run() -> int:
    try:
        from .cli import run  # an extra that is not installed is an error like others

        return run(sys.argv[1:])
    except ending.Ended as end:
        return end.code
    except KeyboardInterrupt:
        return 130
    except Exception as error:  # noqa: BLE001  whatever it is, people get one line
        if ending.seen:
            return ending.seen[-1].code
        if os.environ.get(_DEBUG):
            traceback.print_exc()
        return _said(error)


def _said(error: Exception) -> int:
    """Say it on stderr; the exit code it means."""
    if isinstance(error, BrokenPipeError):
        # Who read our output wants no more of it; nor may the interpreter try to flush it at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    code, text = _meaning(error)
    with contextlib.suppress(OSError):  # nobody listens
        print(f"tradetrail: {one_line(text)}", file=sys.stderr)  # noqa: T201
    return code


def _meaning(error: Exception) -> tuple[int, str]:
    if isinstance(error, TradetrailError):
        return error.exit_code, str(error)
    if isinstance(error, SettingError):
        return 2, str(error)
    if isinstance(error, OSError) and error.strerror:
        return 3, f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    if isinstance(error, EmitterError):
        return 3, str(error)
    if isinstance(error, ModuleNotFoundError) and not (error.name or "").startswith(("loader", "emitter")):
        return 3, f"the package {error.name} is missing; give the command line its own: {installing('loader')}"
    return 3, f"a fault of this program: {type(error).__name__}: {error} (set {_DEBUG}=1 to see where)"


def _show_warning(message: Warning | str, *_: object, **__: object) -> None:
    print(f"tradetrail: warning: {one_line(str(message))}", file=sys.stderr)  # noqa: T201


if __name__ == "__main__":
    main()
