"""``tradetrail status`` and the report's health of a log whose segments are archived, or void in part."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

import pytest

from emitter.segments import Void
from loader.database import Database
from loader.report.health import health_of_database, health_of_logs

from ..command import answer, emit, tradetrail
from ..lines import line, segment


@pytest.fixture
def archived(tmp_path: Path, dsn: str) -> Path:
    """Two closed streams, loaded; of the first only the archives are there."""
    log = tmp_path / "audit"
    emit(log)
    assert answer("load", "--dir", log, "--dsn", dsn)["segments"] == 1
    assert answer("archive", "--dir", log, "--dsn", dsn, "--keep", "0s")["removed"] == 1
    emit(log, orders=1)
    assert answer("load", "--dir", log, "--dsn", dsn)["segments"] == 1
    return log


def test_a_stream_that_is_archived_is_called_so(archived: Path, dsn: str) -> None:
    packed = [path.stat().st_size for path in (archived / "archive").glob("*.zst")]
    found = answer("status", "--dir", archived, "--dsn", dsn)
    first, second = found["streams"]
    assert (first["state"], first["segments"], first["archived"], first["archived_bytes"]) == (
        "archived",
        0,
        1,
        *packed,
    )
    assert (first["emitted"], first["loaded"], first["behind"], first["behind_bytes"]) == (10, 10, 0, 0)
    assert (second["state"], second["segments"], second["archived"]) == ("closed", 1, 0)
    assert (found["total"]["archived"], found["total"]["archived_bytes"], found["problems"]) == (1, sum(packed), {})
    assert "1 segment archived" in tradetrail("status", "--dir", archived, "--dsn", dsn).stdout


def test_what_was_emitted_into_archives_is_not_known_without_the_database(archived: Path) -> None:
    done = tradetrail("status", "--dir", archived, "--dsn", "postgresql://a@127.0.0.1:1/b", "--json")
    assert done.returncode == 3
    said = tradetrail("status", "--dir", archived, "--dsn", "postgresql://a@127.0.0.1:1/b").stdout
    assert "nothing is loaded" not in said
    found = json.loads(done.stdout)
    assert [(one["state"], one["service"], one["emitted"]) for one in found["streams"]] == [
        ("archived", "fox-bot", None),
        ("closed", "fox-bot", 4),
    ]


def test_a_database_that_lacks_what_is_archived_is_said(archived: Path, empty_dsn: str) -> None:
    found = answer("status", "--dir", archived, "--dsn", empty_dsn, code=1)
    assert found["problems"] == {
        "archive": "1 segment not in the database: tradetrail archive restore --unloaded, then load"
    }
    assert [one["behind"] for one in found["streams"]] == [None, 4]


def test_an_archive_that_is_not_there_is_said(archived: Path, dsn: str, tmp_path: Path) -> None:
    (archived / "archive").rename(tmp_path / "away")
    (archived / "archive").symlink_to(tmp_path / "nowhere")
    found = answer("status", "--dir", archived, "--dsn", dsn, code=1)
    assert found["streams"][0]["state"] == "no files"
    assert "what is archived is not seen" in found["problems"]["archive"]


def test_the_newest_digest_of_a_report_may_be_that_of_an_archive(archived: Path, dsn: str) -> None:
    async def of_database() -> str | None:
        async with await Database.connect(dsn) as database:
            newest = (await health_of_database(database, archived)).newest
            return newest and newest.sha256

    for _ in range(2):
        health = health_of_logs(archived, verified=False)
        assert health.newest is not None
        assert (health.streams, health.segments) == (2, 2)
        assert health.newest.sha256 == asyncio.run(of_database())
        tradetrail("archive", "--dir", archived, "--dsn", dsn, "--keep", "0s")
    assert not list(archived.glob("*.jsonl"))


def test_only_void_bytes_may_be_gone(tmp_path: Path, dsn: str) -> None:
    """A loss of power takes what a failed sync made void, and what stood behind it was loaded before."""
    first = segment(tmp_path, [line(1, "ping", {}), line(2, "ping", {})], closed=False)
    offset = first.read_bytes().index(line(2, "ping", {}))
    assert answer("load", "--dir", tmp_path, "--dsn", dsn)["segments"] == 1
    size = first.stat().st_size
    os.truncate(first, offset)
    shrunk = {first.name: f"has shrunk to {offset} bytes, {size} were loaded"}
    assert answer("status", "--dir", tmp_path, "--dsn", dsn, code=1)["problems"] == shrunk
    anew = segment(tmp_path, [line(2, "ping", {})], number=2, replaces=(Void(1, offset),))
    found = answer("status", "--dir", tmp_path, "--dsn", dsn)
    assert (found["problems"], found["total"]["behind_bytes"]) == ({}, anew.stat().st_size)
    assert answer("load", "--dir", tmp_path, "--dsn", dsn)["problems"] == {}
