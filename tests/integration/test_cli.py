"""The command line as a person or a script meets it: answers, exit codes, one line for every error."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import struct
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from emitter.segments import new_stream
from loader.cli import app
from tests import lines
from tests.command import SCRIPT, answer, emit, environment, one_line, record, segment, tradetrail

REJECTS = ["rejects list", "rejects export", "rejects retry"]


def all_commands(group: Any, before: str = "") -> Iterator[str]:
    """Every command and sub-command, as it is typed; the first is tradetrail itself."""
    yield before
    for name, command in getattr(group, "commands", {}).items():
        yield from all_commands(command, f"{before} {name}".strip())


COMMANDS = list(all_commands(get_command(app)))
READERS = ["load", "validate", "query", "status"]
# Nobody listens on port 1.
AWAY = "postgresql://bot:S3cret@127.0.0.1:1/trading"


@pytest.fixture
def log(tmp_path: Path) -> Path:
    directory = tmp_path / "audit"
    emit(directory, orders=3)
    return directory


@pytest.fixture
def bad_log(log: Path) -> Path:
    """Beside the good stream: two good records, one that is repaired, three that are rejected, half a line."""
    stream = new_stream()
    segment(
        log,
        record(stream, 1),
        b"\x1b]0;evil\x07 is no record\n",
        record(stream, 3, "trade.executed", exchange="bybit", symbol="X", side="buy", executed_qty=1),
        b'{"stream":"\xff"}\n',
        record(
            stream,
            5,
            "trade.executed",
            exchange="b",
            symbol="X",
            side="buy",
            executed_qty=1,
            price=2,
            signal_id="unknown",
        ),
        record(stream, 6),
        record(stream, 7)[:60],
        stream=stream,
    )
    return log


# -- help and usage --


@pytest.mark.parametrize("command", COMMANDS)
def test_every_help_ends_with_an_example_and_is_not_cut(command: str) -> None:
    done = tradetrail(*command.split(), "--help")
    assert done.returncode == 0
    example = done.stdout.strip().splitlines()[-1].strip()
    assert re.match(r"Example: (eval \"\$\()?tradetrail ", example), example
    assert f"tradetrail {command}".rstrip() in example
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert "…" not in done.stdout


def test_the_list_of_commands_is_that_of_the_app() -> None:
    assert {"", "load", "metrics", "verify", "reconcile", "rejects", *REJECTS} <= set(COMMANDS)


def test_the_version_is_said() -> None:
    done = tradetrail("--version")
    assert (done.returncode, done.stdout.split()[0]) == (0, "tradetrail")


def test_without_a_command_help_is_shown() -> None:
    done = tradetrail()
    assert done.returncode == 2
    assert "Usage: tradetrail" in done.stdout


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["laod"], "Did you mean 'load'"),
        (["lod", "--dir", "x"], "Did you mean 'load'"),
        (["metrics", "--source", "lgs"], "Did you mean logs?"),
        (["metrics", "--by", "mont"], "Did you mean month?"),
        (["verify", "--ignore", "hol"], "Did you mean hole?"),
        (["rejects", "list", "--severity", "rejectd"], "Did you mean rejected?"),
        (["completion", "bsh"], "Did you mean bash?"),
        (["load", "--drr", "x"], "Did you mean --dir"),
        (["load", "--batch-byte", "x"], "Did you mean --batch-bytes"),
        (["load", "--nothing-like-it"], "No such option"),
        (["load", "--dir"], "requires an argument"),
        (["load", "--timeout", "soon"], "--timeout"),
        (["load", "--batch-bytes", "1"], "--batch-bytes"),
        (["load", "extra"], "extra"),
        (["backfill"], "Missing argument"),
        (["rejects", "lsit"], "Did you mean 'list'"),
        (["rejects", "list", "--severity", "bad"], "rejected, repaired"),
        (["rejects", "list", "--since", "yesterday"], "30m"),
        (["rejects", "retry", "--since", "yesterday"], "30m"),
        (["rejects", "retry", "--from", "none.jsonl"], "no such file"),
        (["rejects", "retry", "--from", ".", "--rule", "x"], "do not go with it"),
        (["rejects", "export", "--severity", "all"], "rejected, repaired"),
        (["query", "--json", "--csv", "SELECT 1"], "exclude each other"),
        (["migrate", "--dsn", "mysql://x/y"], "postgresql://"),
        (["migrate", "--dsn", "postgresql://u:p/w@h/d"], "%2F"),
    ],
)
def test_a_wrong_call_is_one_line_and_exit_2(tmp_path: Path, args: list[str], words: str) -> None:
    assert words in one_line(tradetrail(*args, cwd=tmp_path), 2)


# -- directories and files --


@pytest.mark.parametrize("command", READERS)
def test_a_missing_directory_is_a_usage_error(tmp_path: Path, command: str) -> None:
    said = one_line(tradetrail(command, "--dir", tmp_path / "nowhere", *(["--dsn", AWAY] * (command == "load"))), 2)
    assert "there is no such directory" in said
    assert "--dir" in said


@pytest.mark.parametrize("command", READERS)
def test_a_file_is_no_directory(tmp_path: Path, command: str) -> None:
    (tmp_path / "file").touch()
    one_line(tradetrail(command, "--dir", tmp_path / "file", *(["--dsn", AWAY] * (command == "load"))), 2)


@pytest.mark.parametrize("command", ["validate", "query"])
@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_directory_without_permission_is_an_environment_fault(log: Path, command: str) -> None:
    log.chmod(0)
    try:
        assert "Permission denied" in one_line(tradetrail(command, "--dir", log), 3)
    finally:
        log.chmod(0o700)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_file_is_a_problem_and_the_others_are_loaded(log: Path, dsn: str) -> None:
    segment(log, record("a" * 32, 1), stream="a" * 32).chmod(0)
    done = answer("load", "--dir", log, "--dsn", dsn, code=1)
    assert done["records"] == 10
    assert "Permission denied" in str(done["problems"])


def test_odd_files_are_problems_and_the_others_are_loaded(log: Path, dsn: str) -> None:
    (log / f"empty.{'a' * 32}.000001.jsonl").touch()
    (log / f"folder.{'b' * 32}.000001.jsonl").mkdir()
    (log / f"binary.{'c' * 32}.000001.jsonl").write_bytes(bytes(range(256)) * 1000)
    (log / "notes.txt").write_text("mine")
    done = answer("load", "--dir", log, "--dsn", dsn, code=1)
    assert done["records"] == 10
    named = {name.split(".")[0] for name in done["problems"] if name.endswith(".jsonl")}
    assert named == {"folder", "binary"}
    for command in ("validate", "status"):
        found = answer(command, "--dir", log, *(["--dsn", dsn] * (command == "status")), code=1)
        assert {name.split(".")[0] for name in found["problems"]} == {"folder", "binary"}


# -- the database --


@pytest.mark.parametrize("args", [["migrate"], ["load", "--timeout", "0"], *(name.split() for name in REJECTS)])
def test_a_database_that_is_away_is_one_line_without_the_password(log: Path, args: list[str]) -> None:
    where = ["--dir", log] if args[0] == "load" else []
    said = one_line(tradetrail(*args, *where, "--dsn", AWAY), 3)
    assert "127.0.0.1:1" in said
    assert "S3cret" not in said


def test_load_waits_for_a_database_as_long_as_it_was_told(log: Path) -> None:
    said = one_line(tradetrail("load", "--dir", log, "--dsn", AWAY, "--timeout", "0.3"), 3)
    assert "connection refused" in said


def test_status_shows_the_files_when_the_database_is_away(log: Path) -> None:
    done = tradetrail("status", "--dir", log, "--dsn", AWAY, "--json")
    assert "S3cret" not in one_line(done, 3) + done.stdout
    found = json.loads(done.stdout)
    assert found["streams"][0]["emitted"] == 10
    assert found["streams"][0]["loaded"] is None
    assert "connection refused" in found["database"]


@pytest.fixture
def wrong_password_port() -> Iterator[int]:
    """A server that asks for a password and takes none (the test cluster trusts everybody)."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    client, _ = server.accept()
                except OSError:
                    return
                with client:
                    if client.recv(8)[4:] == struct.pack("!I", 80877103):  # SSLRequest
                        client.sendall(b"N")
                        client.recv(8)
                    client.recv(4096)
                    client.sendall(b"R" + struct.pack("!II", 8, 3))
                    client.recv(4096)
                    fields = b'SFATAL\0VFATAL\0C28P01\0Mpassword authentication failed for user "bot"\0\0'
                    client.sendall(b"E" + struct.pack("!I", len(fields) + 4) + fields)

        threading.Thread(target=serve, daemon=True).start()
        yield server.getsockname()[1]


def test_a_wrong_password_is_said_at_once_and_not_shown(log: Path, wrong_password_port: int) -> None:
    dsn = f"postgresql://bot:S3cret@127.0.0.1:{wrong_password_port}/trading"
    said = one_line(tradetrail("load", "--dir", log, "--dsn", dsn), 3)
    assert "password authentication failed" in said
    assert "S3cret" not in said


def test_the_dsn_may_come_from_a_file(log: Path, dsn: str, tmp_path: Path) -> None:
    secret = tmp_path / "dsn"
    secret.write_text(f"{dsn}\n")
    assert answer("load", "--dir", log, TRADETRAIL_DSN_FILE=str(secret))["orders"] == 3
    assert answer("load", "--dir", log, TRADETRAIL_DSN_FILE="/none", TRADETRAIL_DSN=dsn)["records"] == 0
    assert "/none cannot be read" in one_line(tradetrail("migrate", TRADETRAIL_DSN_FILE="/none"), 2)
    secret.write_text(" \n")
    assert "is empty" in one_line(tradetrail("migrate", TRADETRAIL_DSN_FILE=str(secret)), 2)


def test_a_database_that_is_not_there_is_one_line(log: Path, dsn: str) -> None:
    assert "does not exist" in one_line(
        tradetrail("load", "--dir", log, "--dsn", dsn.replace("/tradetrail_test", "/no")), 3
    )


def test_migrate_lists_what_it_applied(empty_dsn: str) -> None:
    applied = answer("migrate", "--dsn", empty_dsn)["applied"]
    assert applied[0] == "0001_schema"
    assert answer("migrate", TRADETRAIL_DSN=empty_dsn) == {"applied": []}
    assert "up to date" in tradetrail("migrate", "--dsn", empty_dsn).stdout


def test_without_a_dsn_an_embedded_database_is_used(log: Path) -> None:
    cwd = log.parent
    assert answer("load", "--dir", log, cwd=cwd)["orders"] == 3
    assert answer("status", cwd=cwd, TRADETRAIL_DIR=str(log))["total"]["loaded"] == 10


# -- load, status, rejects, validate, backfill --


def test_load_says_what_it_did_and_does_it_once(log: Path, dsn: str) -> None:
    done = answer("load", "--dir", log, "--dsn", dsn)
    expected = {
        "records": 10, "orders": 3, "trades": 3, "order_updates": 3, "events": 1, "rejected": 0, "repaired": 0,
        "duplicates": 0, "lost": 0, "segments": 1, "problems": {}, "reasons": {},
    }  # fmt: skip
    assert {key: done[key] for key in expected} == expected
    assert set(done) == {*expected, "bytes", "seconds"}
    assert answer("load", "--dir", log, "--dsn", dsn)["records"] == 0


def test_findings_are_exit_1_repairs_alone_are_0(bad_log: Path, dsn: str) -> None:
    done = tradetrail("load", "--dir", bad_log, "--dsn", dsn)
    assert (done.returncode, done.stderr) == (1, "")
    for words in ("16 new records", "field_missing", "price is missing", "not_utf8", "integer_unreadable"):
        assert words in done.stdout
    assert answer("load", "--dir", bad_log, "--dsn", dsn)["rejected"] == 0

    stream = new_stream()
    repaired = {"exchange": "b", "symbol": "X", "side": "buy", "executed_qty": 1, "price": 2, "signal_id": "unknown"}
    segment(bad_log, record(stream, 1, "trade.executed", **repaired), stream=stream)
    assert answer("load", "--dir", bad_log, "--dsn", dsn)["repaired"] == 1


def test_own_rules_are_added(log: Path, dsn: str, tmp_path: Path) -> None:
    rules = tmp_path / "own.sql"
    rules.write_text("-- rule: too_dear\n-- for: trade\n-- severity: reject\n-- says: dear\nprice::DOUBLE > 2\n")
    assert answer("validate", "--dir", log, "--rules", rules, code=1)["rejected"] == 3
    assert answer("load", "--dir", log, "--dsn", dsn, "--rules", rules, code=1)["reasons"] == {"too_dear": 3}
    rules.write_text("-- rule: Bad Name\nx\n")
    assert "own.sql:1" in one_line(tradetrail("load", "--dir", log, "--dsn", dsn, "--rules", rules), 2)
    one_line(tradetrail("validate", "--dir", log, "--rules", tmp_path / "none.sql"), 2)


def test_status_holds_the_files_against_the_database(bad_log: Path, dsn: str) -> None:
    before = answer("status", "--dir", bad_log, "--dsn", dsn)
    assert (before["total"]["emitted"], before["total"]["loaded"], before["total"]["behind"]) == (16, 0, 16)
    assert before["total"]["behind_bytes"] > 1000
    answer("load", "--dir", bad_log, "--dsn", dsn, code=1)
    after = answer("status", "--dir", bad_log, "--dsn", dsn)
    total = after["total"]
    assert (total["loaded"], total["rejected"], total["behind"], total["behind_bytes"]) == (13, 3, 0, 0)
    assert {stream["state"] for stream in after["streams"]} == {"closed"}
    shown = tradetrail("status", "--dir", bad_log, "--dsn", dsn)
    assert "fox-bot" in shown.stdout
    assert max(map(len, shown.stdout.splitlines())) <= 80


def test_a_stream_whose_last_seq_is_unreadable_is_not_behind_once_it_is_taken(log: Path, dsn: str) -> None:
    path = lines.segment(log, [b"torn\n"])
    # As the emitter's footer has it: the record was number 1 when it was written.
    path.write_bytes(path.read_bytes().replace(b'"last_seq":null', b'"last_seq":1'))
    assert answer("load", "--dir", log, "--dsn", dsn, code=1)["rejected"] == 1
    total = answer("status", "--dir", log, "--dsn", dsn)["total"]
    assert (total["rejected"], total["behind"], total["behind_bytes"]) == (1, 0, 0)


def test_rejects_are_listed_whole_and_harmless(bad_log: Path, dsn: str) -> None:
    answer("load", "--dir", bad_log, "--dsn", dsn, code=1)
    listed = answer("rejects", "list", "--dsn", dsn)
    assert [(row["seq"], row["severity"]) for row in listed] == [
        (2, "rejected"), (3, "rejected"), (4, "rejected"), (5, "repaired"),
    ]  # fmt: skip
    assert listed[0]["raw"] == "\x1b]0;evil\x07 is no record"
    for args, seqs in [
        (["--severity", "repaired"], [5]),
        (["--rule", "not_utf8"], [4]),
        (["--stream", listed[0]["stream"][-6:]], [2, 3, 4, 5]),
        (["--stream", "nope"], []),
        (["--since", "1h", "--limit", "2"], [4, 5]),
        (["--since", "2100-01-01"], []),
    ]:
        assert [row["seq"] for row in answer("rejects", "list", "--dsn", dsn, *args)] == seqs
    shown = tradetrail("rejects", "list", "--dsn", dsn).stdout
    assert r"\x1b]0;evil\x07 is no record" in shown
    assert "\x1b" not in shown


def test_validate_needs_no_database_and_writes_nothing(bad_log: Path) -> None:
    before = {path: path.read_bytes() for path in bad_log.iterdir()}
    found = answer("validate", "--dir", bad_log, code=1)
    assert (found["records"], found["rejected"], found["repaired"], len(found["torn"])) == (16, 3, 1, 1)
    assert {f["rule"] for f in found["findings"]} == {"not_json", "field_missing", "not_utf8", "integer_unreadable"}
    good, bad = sorted(before, key=lambda path: path.name.startswith("odd"))
    assert answer("validate", good)["records"] == 10
    assert answer("validate", good, bad, code=1)["records"] == 16
    assert {path: path.read_bytes() for path in bad_log.iterdir()} == before
    assert "price is missing" in tradetrail("validate", bad).stdout


def test_validate_takes_segment_files_only(log: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    assert "is no segment file" in one_line(tradetrail("validate", tmp_path / "notes.txt"), 2)
    assert "no such file" in one_line(tradetrail("validate", log / f"x.{'a' * 32}.000001.jsonl"), 2)


def test_the_rules_are_listed(tmp_path: Path) -> None:
    listed = {rule["rule"]: rule for rule in answer("validate", "--rules")}
    assert listed["field_missing"]["severity"] == "reject"
    assert "number_rounded" in tradetrail("validate", "--rules").stdout
    mine = tmp_path / "mine.sql"
    lines = (
        "-- rule: too_cheap",
        "-- for: trade",
        "-- severity: reject",
        "-- says: sold for {value}",
        "-- value: price",
    )
    mine.write_text("\n".join((*lines, "price = '0'")))
    with_mine = {rule["rule"]: rule for rule in answer("validate", "--rules", mine, "--list-rules")}
    assert with_mine == listed | {
        "too_cheap": {"rule": "too_cheap", "severity": "reject", "applies_to": "trade", "says": "sold for {value}"}
    }


def test_backfill_then_load(tmp_path: Path, dsn: str) -> None:
    order = {"id": "1", "symbol": "MNT/USDT:USDT", "type": "market", "side": "sell", "status": "closed", "amount": 2}
    fill = {
        "id": "7",
        "order": "1",
        "symbol": "MNT/USDT:USDT",
        "side": "sell",
        "price": 2.1,
        "amount": 2,
        "takerOrMaker": "taker",
    }
    file = tmp_path / "history.jsonl"
    file.write_text("\n".join([json.dumps(order), json.dumps(fill), "no json"]))
    log = tmp_path / "audit"
    done = answer("backfill", file, "--dir", log, "--exchange", "bybit", code=1)
    assert (done["orders"], done["trades"], done["unreadable"]) == (1, 1, 1)
    assert done["unreadable_first"][0]["line"] == 3
    loaded = answer("load", "--dir", log, "--dsn", dsn)
    assert (loaded["orders"], loaded["trades"]) == (1, 1)
    shown = tradetrail("backfill", file, "--dir", log)
    assert "1 order and 1 trade" in shown.stdout
    one_line(tradetrail("backfill", tmp_path / "none.jsonl", "--dir", log), 2)
    one_line(tradetrail("backfill", tmp_path, "--dir", log), 2)


# -- the end of a command --


def test_a_reader_that_goes_away_is_no_error(log: Path) -> None:
    sql = "SELECT repeat('x', 1000) FROM range(100000)"
    with subprocess.Popen(
        [SCRIPT, "query", "--dir", log, "--csv", sql],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
    ) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        running.stdout.read(10)
        running.stdout.close()
        assert running.stderr.read() == b""
        assert running.wait(30) == 0


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_even_a_long_query_without_a_word(log: Path, signum: int) -> None:
    sql = "SELECT sum(a.range * b.range) FROM range(10000000) AS a, range(10000000) AS b WHERE a.range > b.range"
    with subprocess.Popen(
        [SCRIPT, "query", "--dir", log, sql], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment()
    ) as running:
        try:
            with pytest.raises(subprocess.TimeoutExpired):
                running.wait(2)
            running.send_signal(signum)
            assert running.communicate(timeout=10) == (b"", b"")
            assert running.returncode == 128 + signum
        finally:
            running.kill()
