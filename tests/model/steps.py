"""Recovery and archive in processes of their own, killed at a step."""

from __future__ import annotations

import itertools
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import Any

from emitter.recovery import recover
from loader.archive.archiving import archive
from loader.errors import UsageError

from ..bots import dying
from ..processes import _fork
from .power import Machine

_PATIENCE_S = 60.0
# What changes what a kill leaves behind, as Python tells its audit hooks before it is done.
_STEPS = ("os.rename", "os.remove", "os.link", "os.mkdir", "os.truncate")


def recover_and_die(machine: Machine, call: int, *, torn: bool) -> bool:
    """A recovery that is killed at a call, in the middle of it where it is a write; whether it came to that."""
    return _killed(_recover, machine, call, torn)


def archive_and_die(machine: Machine, dsn: str, step: int) -> bool:
    """An archive that keeps nothing, killed before a step; whether it came to that."""
    return _killed(_archive, machine, dsn, step)


def _killed(work: Callable[..., None], *args: Any) -> bool:
    process = _fork.Process(target=work, args=args, daemon=True)
    process.start()
    process.join(_PATIENCE_S)
    assert process.exitcode in (0, -signal.SIGKILL), f"{work.__name__}{args} ended with {process.exitcode}"
    return process.exitcode != 0


def _recover(machine: Machine, call: int, torn: bool) -> None:
    with machine.running():
        dying(call, torn=torn)
        recover(machine.log, ring_dir=machine.ring_dir)
        os._exit(0)


def _archive(machine: Machine, dsn: str, step: int) -> None:
    numbers, log = itertools.count(1), str(machine.log)

    def hook(name: str, given: tuple[Any, ...]) -> None:
        changes = name in _STEPS or (name == "open" and isinstance(given[2], int) and given[2] & os.O_ACCMODE)
        if changes and str(given[0]).startswith(log) and next(numbers) == step:
            os.kill(os.getpid(), signal.SIGKILL)

    with machine.running():
        sys.addaudithook(hook)
        with suppress(UsageError):  # nothing is loaded whole
            archive(machine.log, dsn, keep=timedelta(0))
        os._exit(0)
