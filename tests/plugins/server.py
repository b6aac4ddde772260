"""PostgreSQL servers of a test's own, which may be stopped, killed, filled and configured at will.

Of the embedded programs, or of those that the machine has under ``/usr/lib/postgresql``. They listen on a port of this
machine and ask for a password; under root they run as the user that the embedded server has.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import pytest

from loader.errors import EnvironmentFault
from loader.service_user import Account, binaries, server_account

PASSWORD = "open/sesame"  # a sign that a DSN has to escape
_MACHINE = Path("/usr/lib/postgresql")
# Only processes are killed here, never the power: nothing is lost without syncs, and much time is won.
_SETTINGS = {
    "fsync": "off",
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "timezone": "UTC",
    "shared_buffers": "32MB",
    "max_connections": "40",
}


@dataclass(frozen=True)
class Programs:
    """One installation of PostgreSQL."""

    folder: Path
    account: Account

    def run(self, name: str, *args: str | Path, cwd: Path, may_fail: bool = False) -> str:
        """Run one of the programs as the server's user; what it said."""
        # pg_ctl start leaves its output to the server, so a pipe would not end: a file does.
        with tempfile.TemporaryFile("w+", errors="replace") as said:
            done = subprocess.run(
                [self.folder / name, *map(str, args)],
                cwd=cwd,
                env={key: value for key, value in os.environ.items() if not key.startswith("PG")} | {"LC_ALL": "C"},
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=subprocess.STDOUT,
                umask=0o077,
                start_new_session=True,
                **self.account.switch(),
            )
            said.seek(0)
            words = said.read()
        assert may_fail or done.returncode == 0, f"{name}: {words}"
        return words


def embedded_programs() -> Programs:
    """Those that come in the wheel."""
    try:
        account = server_account()
        return Programs(binaries(account), account)
    except EnvironmentFault as error:
        pytest.skip(str(error))


def machine_programs() -> Programs:
    """The newest that the machine has itself."""
    found = sorted(_MACHINE.glob("*/bin/initdb"), key=lambda path: int(path.parts[-3].partition(".")[0]))
    if not found:
        pytest.skip(f"no PostgreSQL under {_MACHINE}; on Debian: apt-get install postgresql")
    return Programs(found[-1].parent, server_account())


class Server:
    """One server, its data in a folder of its own. :meth:`start` it first."""

    def __init__(self, programs: Programs, folder: Path, **settings: str) -> None:
        self.programs = programs
        self.data = folder / "data"
        self.port = _free_port()
        password = folder / "password"
        password.write_text(PASSWORD)
        programs.account.own(password)
        self.data.mkdir(mode=0o700)
        programs.account.own(self.data)
        auth = ("--username=postgres", "--auth=scram-sha-256", f"--pwfile={password}")
        programs.run("initdb", *auth, "--encoding=UTF8", "--locale=C", "-D", ".", cwd=self.data)
        self.configure(**{**_SETTINGS, "port": str(self.port), **settings})

    def dsn(self, database: str = "postgres", *, user: str = "postgres", port: int | None = None) -> str:
        """Where it is, or where something stands before it (a proxy's ``port``)."""
        return f"postgresql://{user}:{quote(PASSWORD, safe='')}@127.0.0.1:{port or self.port}/{database}"

    def configure(self, **settings: str) -> None:
        """Set from the next start on; what was set before holds no more."""
        with (self.data / "postgresql.conf").open("a") as file:
            file.writelines(f"{name} = '{value}'\n" for name, value in settings.items())

    def start(self) -> None:
        self.programs.run("pg_ctl", "start", "-w", "-t", "60", "-D", ".", "-l", "server.log", cwd=self.data)

    def begin_start(self) -> None:
        """Start, and do not wait until it takes connections."""
        self.programs.run("pg_ctl", "start", "-W", "-D", ".", "-l", "server.log", cwd=self.data)

    def stop(self, mode: str = "fast") -> None:
        """``fast``, or ``immediate``: as after a crash. One that does not run is fine."""
        self.programs.run("pg_ctl", "stop", "-w", "-m", mode, "-D", ".", cwd=self.data, may_fail=True)

    def promote(self) -> None:
        """Let a standby be a server like others again."""
        self.programs.run("pg_ctl", "promote", "-w", "-D", ".", cwd=self.data)

    @property
    def main_pid(self) -> int:
        return int((self.data / "postmaster.pid").read_text().splitlines()[0])

    def processes(self) -> list[int]:
        """Sessions and the server's helpers; there is always one."""
        while not (children := Path(f"/proc/{self.main_pid}/task/{self.main_pid}/children").read_text().split()):
            pass
        return [int(pid) for pid in children]

    def kill(self, pid: int) -> None:
        """Kill one of its processes, if that is still there and its own; then all its sessions end and it recovers."""
        with suppress(OSError):
            process = os.pidfd_open(pid)
            try:
                parent = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
                if parent == self.main_pid:
                    signal.pidfd_send_signal(process, signal.SIGKILL)
            finally:
                os.close(process)


def _free_port() -> int:
    """A port that nobody has, outside the range from which others are given one."""
    while True:
        port = random.randrange(20_000, 30_000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


@contextmanager
def started(programs: Programs, **settings: str) -> Iterator[Server]:
    """A server in a temporary folder that its user can reach; it runs."""
    with private_folder() as folder:
        running = Server(programs, folder, **settings)
        try:
            running.start()
            yield running
        finally:
            running.stop("immediate")


@contextmanager
def private_folder() -> Iterator[Path]:
    """A temporary folder that the server's user may pass through."""
    folder = Path(tempfile.mkdtemp(prefix="tradetrail-server-"))
    folder.chmod(0o711)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """A server that a test may disturb, and leaves running as it was."""
    with started(embedded_programs()) as running:
        yield running
