"""Runs scenarios in forked processes whose N-th system call of a kind fails, is cut short, or is their last.

``interposer.c`` is made with gcc and loaded before libc into a process that has imported everything, which forks a
child for each run: a point costs the run itself and no interpreter's start. No ptrace is needed, and no root. What a
child says through its pipe is an :class:`~tests.faults.oracle.Account`.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytest

from .oracle import Account

_SOURCE = Path(__file__).with_suffix(".c")
_ROOT = Path(__file__).parents[2]
_PATIENCE_S = 120.0

WRITE, SYNC, OPEN, UNLINK, RENAME, TRUNCATE, ALLOCATE, SEND, RECEIVE = (1 << bit for bit in range(9))
FILES = WRITE | SYNC | OPEN | UNLINK | RENAME | TRUNCATE | ALLOCATE
KILL, TEAR, FAIL, SHORT, LIE, DELAY, END = range(1, 8)
EVER = 2**40


class Plan(ctypes.Structure):
    """``struct plan`` of ``interposer.c``."""

    _fields_ = [
        ("pid", ctypes.c_int), ("calls", ctypes.c_int), ("action", ctypes.c_int), ("code", ctypes.c_int),
        ("at", ctypes.c_long), ("times", ctypes.c_long), ("delay_us", ctypes.c_long), ("skew_s", ctypes.c_long),
        ("where", ctypes.c_char * 512 * 2), ("seen", ctypes.c_long), ("struck", ctypes.c_long),
    ]  # fmt: skip


@dataclass(frozen=True)
class Fault:
    """Calls ``at`` to ``at + times - 1`` of these kinds, on paths that begin with one of ``where``, are struck."""

    calls: int
    action: int
    at: int = 1
    times: int = 1
    code: int = 0
    delay_us: int = 0
    skew_s: int = 0
    where: tuple[str, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """``status``: 0, or minus the signal that ended it; ``seen`` calls counted, ``struck`` of them."""

    status: int
    seen: int
    struck: int
    said: str
    account: Account


def set_plan(plan: Plan, pid: int, fault: Fault) -> None:
    """From here on the fault strikes the process with this number, until ``plan.pid`` is 0."""
    for number, where in enumerate(fault.where):
        plan.where[number].value = where.encode()
    for name in ("calls", "action", "code", "at", "times", "delay_us", "skew_s"):
        setattr(plan, name, getattr(fault, name))
    plan.pid = pid


class Interposer:
    """The process that forks, seen from the test."""

    def __init__(self, shim: Path) -> None:
        self._socket, other = socket.socketpair()
        self._socket.settimeout(_PATIENCE_S)
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__, str(other.fileno())],
            cwd=_ROOT,
            env={key: value for key, value in os.environ.items() if not key.startswith(("TRADETRAIL_", "PG"))}
            | {"LD_PRELOAD": str(shim)},
            pass_fds=[other.fileno()],
        )
        other.close()

    def run(self, scenario: str, fault: Fault | None = None, **arguments: Any) -> Outcome:
        """Run a function of ``tests.faults.scenarios`` in a child, to its end; what came of it."""
        hearing, saying = os.pipe()
        with tempfile.TemporaryFile() as said:
            request = {"scenario": scenario, "fault": asdict(fault) if fault else None, "arguments": arguments}
            socket.send_fds(self._socket, [json.dumps(request, default=str).encode()], [saying, said.fileno()])
            os.close(saying)
            account = Account.read(hearing)
            answer = self._socket.recv(1 << 16)
            assert answer, f"{scenario}: the process that runs it is gone"
            said.seek(0)
            return Outcome(**json.loads(answer), said=said.read().decode(errors="replace"), account=account)

    def close(self) -> None:
        self._socket.close()
        self._process.wait(_PATIENCE_S)


def make_library(folder: Path) -> Path:
    """The library, to be named in LD_PRELOAD; the test is skipped where it cannot be made."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("there is no C compiler here to make failing system calls with; on Debian: apt-get install gcc")
    made = folder / "interposer.so"
    command = [compiler, "-shared", "-fPIC", "-O2", "-o", str(made), str(_SOURCE), "-ldl"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"the library that fails system calls cannot be made here: {done.stderr.splitlines()[0]}")
    return made


@contextlib.contextmanager
def interposing() -> Iterator[Interposer]:
    """Make the library and the process; the test is skipped where that cannot be."""
    with tempfile.TemporaryDirectory(prefix="tradetrail-interposer-") as folder:
        running = Interposer(make_library(Path(folder)))
        try:
            yield running
        finally:
            running.close()


# -- in the process that forks --


def interposer_plan() -> Plan:
    """The plan that this process and its children share."""
    library = ctypes.CDLL(None)
    library.interposer_plan.restype = ctypes.POINTER(Plan)
    found: Plan = library.interposer_plan().contents
    return found


def serve(control: socket.socket) -> None:
    plan = interposer_plan()
    scenarios = importlib.import_module("tests.faults.scenarios")
    while True:
        data, fds, _, _ = socket.recv_fds(control, 1 << 16, 2)
        if not data:
            return
        request = json.loads(data)
        ctypes.memset(ctypes.byref(plan), 0, ctypes.sizeof(plan))
        pid = os.fork()
        if pid == 0:
            control.close()
            _child(plan, getattr(scenarios, request["scenario"]), request, *fds)
        for fd in fds:
            os.close(fd)
        timer = threading.Timer(_PATIENCE_S / 2, os.kill, (pid, signal.SIGKILL))
        timer.start()
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        timer.cancel()
        timer.join()
        control.send(json.dumps({"status": status, "seen": plan.seen, "struck": plan.struck}).encode())


def _child(plan: Plan, scenario: Any, request: dict[str, Any], pipe: int, said: int) -> None:
    status = 1
    try:
        warnings.simplefilter("ignore")
        for standard in (1, 2):
            os.dup2(said, standard)
        if request["fault"]:
            set_plan(plan, os.getpid(), Fault(**request["fault"]))
        scenario(pipe, **request["arguments"])
        plan.pid = 0
        status = 0
    except BaseException:
        plan.pid = 0
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
