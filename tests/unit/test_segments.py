"""Names, first lines and last lines of segment files."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from emitter.segments import (
    SegmentName,
    Void,
    boot_id,
    control_line,
    create_segment,
    footer_line,
    header_line,
    list_segments,
    make_directory,
    new_stream,
    parse_footer,
    parse_header,
    read_footer,
    read_header,
    timestamp,
    try_lock,
)  # fmt: skip

from ..trail import mode, strict

STREAM = "0199e3c6a7b27c0e8d41c2f1a0b3d4e5"


def test_a_stream_is_a_uuid_of_version_7_that_begins_with_its_time() -> None:
    before = time.time_ns() // 1_000_000
    streams = [new_stream() for _ in range(1000)]
    after = time.time_ns() // 1_000_000
    assert len(set(streams)) == 1000
    for stream in streams:
        assert len(stream) == 32
        assert before <= int(stream[:12], 16) <= after
        assert stream[12] == "7"
        assert stream[16] in "89ab"


@pytest.mark.parametrize("number", [1, 42, 999_999, 1_000_000])
def test_a_name_says_what_it_names(number: int) -> None:
    name = SegmentName.of("fox-bot", STREAM, number)
    assert str(name) == f"fox-bot.{STREAM}.{number:06d}.jsonl"
    assert SegmentName.parse(str(name)) == name
    assert SegmentName.parse(str(name.next())) == SegmentName(STREAM, number + 1, "fox-bot")


@pytest.mark.parametrize(
    ("service", "safe"),
    [
        ("../../etc/passwd", "-etc-passwd"),
        ("a.b", "a-b"),
        ("fox bot\n", "fox-bot-"),
        ("\u65e5\u672c", "-"),
        ("x" * 500, "x" * 80),
        ("a\0b", "a-b"),
        ("..", "-"),
    ],
)
def test_no_service_makes_an_unsafe_name(service: str, safe: str, tmp_path: Path) -> None:
    name = SegmentName.of(service, STREAM, 1)
    assert name.service == safe
    assert SegmentName.parse(str(name)) == name
    os.close(create_segment(tmp_path / str(name)))
    assert list_segments(tmp_path) == [name]


@pytest.mark.parametrize(
    "name",
    [
        "", "x.jsonl", f"{STREAM}.000001.jsonl", f"x.{STREAM}.1.jsonl", f"x.{STREAM}.000001.jsonl.torn",
        f"x.{STREAM.upper()}.000001.jsonl", f"x.{STREAM}.000001.jsonl.gz", f"x.{STREAM[1:]}.000001.jsonl",
    ],
)  # fmt: skip
def test_other_names_are_no_segments(name: str) -> None:
    assert SegmentName.parse(name) is None


def test_segments_are_listed_by_stream_and_number(tmp_path: Path) -> None:
    later = "0199e3c6a7b27c0e8d41c2f1a0b3d4e6"
    names = [SegmentName(STREAM, 2, "z"), SegmentName(STREAM, 1_000_000, "z"), SegmentName(later, 1, "a")]
    for name in reversed(names):
        os.close(create_segment(tmp_path / str(name)))
    (tmp_path / "notes.txt").touch()
    assert list_segments(tmp_path) == names


def test_a_header_reads_back() -> None:
    name = SegmentName.of("fox bot", STREAM, 3)
    line = header_line(
        name,
        service="fox bot",
        resource={"service.name": "fox bot"},
        pid=7,
        ring="/dev/shm/r",
        previous_sha256="ab",
        replaces=(Void(2, 300),),
    )
    assert line.endswith(b"\n")
    assert strict(line)["event_name"] == "segment.opened"
    header = parse_header(line)
    assert header is not None
    assert (header.stream, header.segment, header.service, header.pid) == (STREAM, 3, "fox bot", 7)
    assert (header.ring, header.previous_sha256, header.replaces) == ("/dev/shm/r", "ab", (Void(2, 300),))
    assert header.boot_id == boot_id()
    assert header.resource == {"service.name": "fox bot"}
    assert header.schema_version == 1
    without = header_line(name, service="s", resource={}, pid=1, ring=None, previous_sha256=None)
    assert "replaces" not in strict(without)["attributes"]


def test_a_footer_reads_back() -> None:
    name = SegmentName.of("x", STREAM, 3)
    line = footer_line(name, records=2, first_seq=5, last_seq=9, sha256="ab" * 32, recovered=True)
    footer = parse_footer(line)
    assert footer is not None
    assert (footer.stream, footer.segment, footer.records) == (STREAM, 3, 2)
    assert (footer.first_seq, footer.last_seq, footer.sha256, footer.recovered) == (5, 9, "ab" * 32, True)
    empty = parse_footer(footer_line(name, records=0, first_seq=None, last_seq=None, sha256="ab"))
    assert empty is not None
    assert (empty.first_seq, empty.recovered) == (None, False)


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"{}\n",
        b"[]\n",
        b"not json\n",
        b'{"event_name":"segment.closed"}\n',
        b'{"event_name":"segment.closed","attributes":{"segment":1}}\n',
        b'{"event_name":"segment.closed","attributes":7}\n',
        b'{"event_name":"segment.opened","attributes":{"segment":"x"}}\n',
    ],
)
def test_what_is_no_control_line_is_none(line: bytes) -> None:
    assert parse_header(line) is None
    assert parse_footer(line) is None


def test_a_bots_own_event_of_that_name_is_no_footer() -> None:
    """It has a seq; control lines have none."""
    line = footer_line(SegmentName.of("x", STREAM, 1), records=0, first_seq=None, last_seq=None, sha256="ab")
    forged = line.replace(b'","timestamp"', b'","seq":7,"timestamp"', 1)
    assert strict(forged)["seq"] == 7
    assert parse_footer(line) is not None
    assert parse_footer(forged) is None


def test_footers_are_not_mistaken(tmp_path: Path) -> None:
    name = SegmentName.of("x", STREAM, 1)
    path = tmp_path / str(name)
    footer = footer_line(name, records=0, first_seq=None, last_seq=None, sha256="ab")
    header = header_line(name, service="x", resource={}, pid=1, ring=None, previous_sha256=None)
    for text, found in (
        (b"", False),
        (header, False),
        (header + footer, True),
        (header + footer[:-1], False),
        (header + footer + header, False),
        (header + b"x" * 9000 + b"\n" + footer, True),
        (header + b"x" * 9000, False),
    ):
        path.write_bytes(text)
        assert (read_footer(path) is not None) == found
        assert (read_header(path) is not None) == text.startswith(header)
    path.write_bytes(header[:-1])
    assert read_header(path) is None


def test_control_lines_are_told_by_their_severity() -> None:
    assert strict(control_line(STREAM, "audit.lost", {}, "ERROR"))["severity_number"] == 17


def test_times_have_microseconds() -> None:
    assert timestamp(1_795_353_056_015_378_999) == "2026-11-22T13:10:56.015378Z"


# -- making files --


@pytest.mark.parametrize("umask", [0, 0o777])
def test_modes_do_not_depend_on_the_umask(tmp_path: Path, umask: int) -> None:
    directory, before = tmp_path / "a" / "b" / "log", os.umask(0)
    try:
        make_directory(directory.parent)
        os.umask(umask)
        make_directory(directory)
        fd = create_segment(directory / "s", mode=0o640)
        os.close(fd)
    finally:
        os.umask(before)
    assert mode(directory) == 0o700
    assert mode(directory / "s") == 0o640
    assert mode(tmp_path / "a") == 0o755


def test_a_directory_that_is_there_keeps_its_mode(tmp_path: Path) -> None:
    tmp_path.chmod(0o750)
    make_directory(tmp_path)
    assert mode(tmp_path) == 0o750
    (tmp_path / "file").touch()
    with pytest.raises(FileExistsError):
        make_directory(tmp_path / "file")


def test_a_group_gets_a_directory_it_can_read(tmp_path: Path) -> None:
    make_directory(tmp_path / "log", gid=os.getgid())
    assert mode(tmp_path / "log") == 0o2750


def test_a_segment_is_new_and_locked(tmp_path: Path) -> None:
    path = tmp_path / "s"
    fd = create_segment(path)
    with pytest.raises(FileExistsError):
        create_segment(path)
    other = os.open(path, os.O_RDONLY)
    assert not try_lock(other)
    os.close(fd)
    assert try_lock(other)
    os.close(other)


def test_a_segment_that_cannot_be_locked_or_given_away_is_not_left_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise BlockingIOError

    monkeypatch.setattr("fcntl.flock", refuse)
    with pytest.raises(BlockingIOError):
        create_segment(tmp_path / "s")
    assert list(tmp_path.iterdir()) == []

    def no_locks(*_: object) -> None:
        raise OSError(95, "no locks here")

    monkeypatch.setattr("fcntl.flock", no_locks)
    os.close(create_segment(tmp_path / "s"))
