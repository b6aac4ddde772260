"""Links, pipes and other odd files where the log, its archive, its outputs and its temporary files are."""

from __future__ import annotations

import os
import stat
from contextlib import ExitStack
from pathlib import Path

import pytest

from emitter import AuditLog
from emitter.recovery import recover
from emitter.segments import boot_id, new_stream
from loader.workspace import workspace
from tests.command import FILL, ORDER, emit, one_line, record, segment, tradetrail
from tests.hostile import odd_files

from .test_load import rows


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    (folder / "secret").write_text("SECRET\nwithout an end")
    return folder / "secret"


def secret_is_whole(secret: Path) -> bool:
    return secret.read_text() == "SECRET\nwithout an end"


async def test_odd_files_in_the_log_are_named_and_harm_nobody(dsn: str, tmp_path: Path, secret: Path) -> None:
    log = tmp_path / "audit"
    emit(log, orders=1)
    with ExitStack() as stack:
        names = odd_files(log, secret, stack)
        for args in (
            ["validate"],
            ["query", "--csv", "SELECT count(*) FROM records WHERE event_name LIKE 'order%'"],
            ["load", "--dsn", dsn],
            ["status", "--dsn", dsn],
            ["verify", "--dsn", dsn],
        ):
            done = tradetrail(*args, "--dir", log)
            assert done.returncode == (0 if args[0] == "query" else 1), done
            said = done.stdout + done.stderr
            assert "a fault of this program" not in said
            assert "SECRET" not in said
            if args[0] != "verify":  # which folds them
                assert all(name in said for name in names), said
            if args[0] == "query":
                assert done.stdout.splitlines()[-1] == "2"
    loaded = await rows(dsn, "SELECT service, records FROM monitoring.audit_segments ORDER BY service")
    assert [(row["service"], row["records"]) for row in loaded] == [("far", 1), ("fox-bot", 4)]
    assert secret_is_whole(secret)


def test_a_file_of_others_is_not_cut_because_it_has_a_segments_name(tmp_path: Path, secret: Path) -> None:
    os.utime(secret, (1, 1))
    log = tmp_path / "audit"
    log.mkdir()
    os.link(secret, log / f"odd.{new_stream()}.000001.jsonl")
    found = recover(log)
    assert (found.streams, found.torn) == ([], [])
    assert "its first line is no header; it is kept as it is" in found.problems[0]
    assert secret.read_text() == "SECRET\nwithout an end"


def test_a_torn_line_is_not_written_through_a_link(tmp_path: Path, secret: Path) -> None:
    log, stream = tmp_path / "audit", new_stream()
    path = segment(log, record(stream, 1), b'{"torn', stream=stream)
    path.with_name(f"{path.name}.torn").symlink_to(secret)
    found = recover(log)
    assert (found.streams, found.torn) == ([], [])
    assert path.read_bytes().endswith(b'{"torn')
    assert secret.read_text() == "SECRET\nwithout an end"


@pytest.mark.parametrize("ring", ["/etc/passwd", "/dev/zero", "/proc/self/mem", "..", "", "/nowhere"])
def test_a_ring_that_a_header_makes_up_is_left_alone(tmp_path: Path, ring: str) -> None:
    log, stream = tmp_path / "audit", new_stream()
    path = segment(log, record(stream, 1), stream=stream, ring=ring)
    assert boot_id() is None or boot_id() in path.read_text()
    before = Path("/etc/passwd").stat()
    recover(log)
    after = Path("/etc/passwd").stat()
    assert (before.st_ino, before.st_mtime_ns, before.st_size) == (after.st_ino, after.st_mtime_ns, after.st_size)
    assert record(stream, 1) in path.read_bytes()


# -- what is made --


@pytest.mark.parametrize("umask", [0o000, 0o077])
async def test_everything_made_is_private_whatever_the_umask(dsn: str, tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        with AuditLog(tmp_path / "audit", service="bot") as audit:
            audit.order(**ORDER, order_id="1")
            audit.trade(**FILL, trade_id="1")
        stream = new_stream()
        torn = segment(tmp_path / "audit", record(stream, 1), b'{"torn', stream=stream)
        torn.chmod(0o600)
        out = tmp_path / "out"
        out.mkdir(0o700)
        place = ["--dir", tmp_path / "audit"]
        for args in (
            ["load", *place, "--dsn", dsn],
            ["query", *place, "-o", out / "a.csv", "FROM trades"],
            ["query", *place, "-o", out / "a.parquet", "FROM trades"],
            ["rejects", "export", out / "mend.jsonl", "--dsn", dsn],
            ["report", *place, "-o", out / "report.html"],
            ["export", *place, "--format", "otlp", "-o", out / "otlp.jsonl"],
        ):
            assert tradetrail(*args, cwd=tmp_path).returncode == 0, args
    finally:
        os.umask(before)
    modes = modes_of_files(tmp_path)
    assert len(modes) == 8
    assert set(modes.values()) == {0o600}, modes
    assert mode(tmp_path / "audit") == 0o700


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def modes_of_files(folder: Path) -> dict[str, int]:
    return {str(path.relative_to(folder)): mode(path) for path in folder.rglob("*") if path.is_file()}


def test_an_output_replaces_neither_links_nor_pipes_unasked(tmp_path: Path, secret: Path) -> None:
    emit(tmp_path / "audit")
    (tmp_path / "link.csv").symlink_to(secret)
    os.mkfifo(tmp_path / "pipe.csv")
    (tmp_path / "dangling.csv").symlink_to(tmp_path / "elsewhere" / "new")
    for name, force in (("link.csv", []), ("pipe.csv", []), ("pipe.csv", ["--force"]), ("dangling.csv", [])):
        one_line(tradetrail("query", "--dir", tmp_path / "audit", "-o", tmp_path / name, *force, "FROM trades"), 2)
    assert secret.read_text() == "SECRET\nwithout an end"
    assert list(secret.parent.iterdir()) == [secret]


def test_temporary_folders_are_private_and_links_in_their_place_lead_nowhere(
    tmp_path: Path, secret: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    (tmp_path / "tradetrail-load-abcdefgh").symlink_to(secret.parent)
    os.mkfifo(tmp_path / "tradetrail-load-pipe")
    (tmp_path / "tradetrail-load-file").write_text("mine")
    with workspace() as first, workspace() as second:
        assert mode(first) == 0o700
        assert first != second
    assert secret.exists()
    assert (tmp_path / "tradetrail-load-file").read_text() == "mine"
    assert not first.exists()
