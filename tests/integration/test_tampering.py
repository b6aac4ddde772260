"""Files that are not as an emitter left them: said by name, in words, and never the end of the other segments."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import loader.spool
from loader.database import Database
from loader.load import Loader
from loader.settings import LoadSettings
from loader.tail import Pending, Progress, Tail
from loader.totals import Totals

from ..lines import OTHER_STREAM, STREAM, line, segment


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Three segments of one stream and one of another, five records each."""
    folder = tmp_path / "log"
    for number in (1, 2, 3):
        segment(folder, pings(range(5 * number - 4, 5 * number + 1)), number=number)
    segment(folder, pings(range(1, 6), stream=OTHER_STREAM), stream=OTHER_STREAM, service="other")
    return folder


def pings(seqs: range, stream: str = STREAM) -> Iterator[bytes]:
    return (line(seq, "ping", {"n": seq}, stream=stream) for seq in seqs)


def name(number: int, stream: str = STREAM, service: str = "hand") -> str:
    return f"{service}.{stream}.{number:06d}.jsonl"


def load(log: Path, dsn: str) -> Totals:
    async def work() -> Totals:
        async with Loader(LoadSettings(directory=log, dsn=dsn)) as loader:
            return await loader.take(finish_dead=False)  # which would close what is open here on purpose

    return asyncio.run(work())


def loaded(dsn: str) -> list[tuple[str, int]]:
    async def work() -> list[tuple[str, int]]:
        async with await Database.connect(dsn) as database:
            rows = await database.fetch("SELECT stream, seq FROM monitoring.events ORDER BY stream, seq")
            return [(row["stream"], row["seq"]) for row in rows]

    return asyncio.run(work())


def records(stop: int, *, without: range = range(0)) -> list[tuple[str, int]]:
    """What is in the tables when all of the log is, up to a seq of the first stream."""
    first = [(STREAM, seq) for seq in range(1, stop) if seq not in without]
    return sorted(first + [(OTHER_STREAM, seq) for seq in range(1, 6)])


def test_one_that_was_cut_short_after_it_was_loaded(log: Path, dsn: str) -> None:
    """L18: it is named and left, the others load."""
    load(log, dsn)
    path = log / name(2)
    size = path.stat().st_size
    os.truncate(path, size - 10)
    segment(log, pings(range(16, 18)), number=4)
    totals = load(log, dsn)
    assert totals.problems == {path.name: f"has shrunk to {size - 10} bytes, {size} were loaded"}
    assert (totals.records, loaded(dsn)) == (2, records(18))


def test_one_that_was_changed_before_what_is_loaded(log: Path, dsn: str) -> None:
    """L18: it is named and left, the others load."""
    open_ = segment(log, pings(range(16, 18)), number=4, closed=False)
    load(log, dsn)
    done = open_.stat().st_size
    text = open_.read_bytes()
    open_.write_bytes(text.replace(b'"n":16', b'"n":1600') + b"".join(pings(range(18, 20))))
    segment(log, pings(range(6, 8), stream=OTHER_STREAM), number=2, stream=OTHER_STREAM, service="other")
    totals = load(log, dsn)
    problem = f"was changed before byte {done}, up to which it is loaded; what follows is not"
    assert totals.problems == {open_.name: problem}
    assert (totals.records, len(loaded(dsn))) == (2, 24)
    open_.write_bytes(text + b"".join(pings(range(18, 20))))  # put right again
    assert (load(log, dsn).problems, len(loaded(dsn))) == ({}, 26)


def test_one_that_grew_behind_its_footer(log: Path, dsn: str) -> None:
    load(log, dsn)
    more = next(pings(range(16, 17)))
    with (log / name(3)).open("ab") as file:
        file.write(more)
    totals = load(log, dsn)
    assert totals.problems == {name(3): f"has grown behind its footer, by {len(more)} bytes"}
    assert (totals.records, loaded(dsn)) == (1, records(17)), "what is there is taken all the same"


def test_one_that_lost_its_header(log: Path, dsn: str) -> None:
    path = log / name(2)
    path.write_bytes(path.read_bytes().split(b"\n", 1)[1])
    totals = load(log, dsn)
    assert totals.problems == {path.name: "its first line is no segment header"}
    assert loaded(dsn) == records(16, without=range(6, 11))


@pytest.mark.parametrize("service", ["a-copy", "z-copy"])
def test_one_that_is_there_under_two_names(log: Path, dsn: str, service: str) -> None:
    copy = log / name(2, service=service)
    copy.write_bytes((log / name(2)).read_bytes())
    renumbered = log / name(9)
    renumbered.write_bytes((log / name(3)).read_bytes())
    second = f"is a second file of the segment {name(2)}, which is taken"
    totals = load(log, dsn)
    assert totals.problems.pop(copy.name) == second
    assert totals.problems.pop(renumbered.name) == "its first line belongs to another segment than its name says"
    assert set(totals.problems) == {name(number) for number in range(4, 9)}, "these seem to be missing"
    assert (totals.records, totals.duplicates, loaded(dsn)) == (20, 0, records(16))
    assert load(log, dsn).problems[copy.name] == second


def test_a_copy_whose_original_is_gone_is_taken(log: Path, dsn: str) -> None:
    (log / name(2)).rename(log / name(2, service="moved"))
    totals = load(log, dsn)
    assert (totals.problems, loaded(dsn)) == ({}, records(16))


def test_a_number_that_is_skipped(log: Path, dsn: str) -> None:
    (log / name(2)).unlink()
    totals = load(log, dsn)
    words = "is missing, though a later segment of its stream is there; its records are not loaded"
    assert totals.problems == {name(2): words}
    assert loaded(dsn) == records(16, without=range(6, 11))


def test_files_that_were_removed_after_they_were_loaded_are_not_missed(log: Path, dsn: str) -> None:
    """L19: as after a crash between the commit and the removal."""
    load(log, dsn)
    (log / name(1)).unlink()
    (log / name(2)).unlink()
    assert load(log, dsn).problems == {}


def test_one_that_was_removed_before_its_end_was_loaded(log: Path, dsn: str) -> None:
    """L17, L19: it is said to be missing."""
    open_ = segment(log, pings(range(16, 18)), number=4, closed=False)
    load(log, dsn)
    open_.unlink()
    segment(log, pings(range(20, 22)), number=5)
    words = "is missing, though a later segment of its stream is there; it was loaded in part"
    assert load(log, dsn).problems == {open_.name: words}


def test_one_that_carries_lines_of_another_stream(log: Path, dsn: str) -> None:
    lines = [*pings(range(16, 18)), *pings(range(6, 8), stream=OTHER_STREAM), *pings(range(18, 19))]
    segment(log, lines, number=4)
    totals = load(log, dsn)
    assert (totals.problems, totals.rejected) == ({}, 2)
    assert totals.reasons == {("reject", "stream_of_another_file"): 2}
    assert loaded(dsn) == records(19)


def test_what_is_no_regular_file(log: Path, dsn: str, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_bytes((log / name(1)).read_bytes())
    (log / name(4)).mkdir()
    os.mkfifo(log / name(5))
    (log / name(6)).symlink_to(tmp_path / "elsewhere")
    (log / name(7)).symlink_to("nowhere")
    totals = load(log, dsn)
    words = "is no regular file, though it has the name of a segment"
    assert totals.problems == {name(number): words for number in (4, 5, 6, 7)}
    assert loaded(dsn) == records(16)


def test_one_that_is_deleted_while_the_others_are_read(log: Path, dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    scan = Tail.scan

    def scan_and_lose(self: Tail, *args: object, **named: object) -> object:
        found = scan(self, *args, **named)  # type: ignore[arg-type]
        (log / name(2)).unlink(missing_ok=True)
        return found

    monkeypatch.setattr(Tail, "scan", scan_and_lose)
    totals = load(log, dsn)
    assert totals.problems == {name(2): "could not be read from byte 0 on: No such file or directory"}
    assert loaded(dsn) == records(16, without=range(6, 11))


def test_one_that_is_cut_short_while_it_is_read(log: Path, dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    read = loader.spool._whole_lines

    def read_less(item: Pending, start: int, room: int) -> bytes:
        if item.name.number == 2 and item.name.stream == STREAM:
            text = item.path.read_bytes()
            os.truncate(item.path, text.index(b'"seq":8') + 20)
        return read(item, start, room)

    monkeypatch.setattr(loader.spool, "_whole_lines", read_less)
    load(log, dsn)
    assert loaded(dsn) == records(16, without=range(8, 11))


def test_one_that_grows_while_it_is_read(tmp_path: Path, dsn: str) -> None:
    """A writer that never stops does not keep the loader from its end, and what comes later comes later."""
    log = tmp_path / "log"
    path = segment(log, pings(range(1, 3)), closed=False)
    stop = threading.Event()
    last = [2]

    def write() -> None:
        with path.open("ab", buffering=0) as file:
            for seq in range(3, 300_000):  # it writes faster than a slow machine loads
                if stop.is_set():
                    break
                text = next(pings(range(seq, seq + 1)))
                file.write(text[:20])
                file.write(text[20:])
                last[0] = seq

    writer = threading.Thread(target=write)
    writer.start()
    try:
        found = [load(log, dsn) for _ in range(5)]
    finally:
        stop.set()
        writer.join()
    found.append(load(log, dsn))
    assert [totals.rejected for totals in found] == [0] * 6
    assert sum(totals.records for totals in found) == last[0]
    assert loaded(dsn) == [(STREAM, seq) for seq in range(1, last[0] + 1)]


def test_a_look_at_what_changed_opens_nothing_else(log: Path) -> None:
    tail = Tail(log)
    sizes = {path.name: path.stat().st_size for path in log.iterdir()}
    ledger = {(item.name.stream, item.name.number): Progress(item.size, True, 5) for item in tail.scan({}).pending}
    live = segment(log, pings(range(16, 18)), number=4, closed=False)
    for file in sizes:
        (log / file).write_bytes(b"no longer what it was")
    assert [str(item.name) for item in tail.scan(ledger, [live.name]).pending] == [live.name]
    assert tail.scan(ledger, [live.name, "no-segment", name(77)]).problems == {}
    for file, size in sizes.items():
        os.truncate(log / file, size)
    assert [str(item.name) for item in tail.scan(ledger).pending] == [live.name]
    for file in sizes:
        os.truncate(log / file, 3)
    assert tail.scan(ledger, all_again=False).problems == {}
    assert tail.scan(ledger).problems.keys() == sizes.keys()
    assert tail.scan(ledger, [live.name]).problems.keys() == sizes.keys(), "it stays said"
