"""Complete: every number of a stream stands in one record or in one declared loss, in its order."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from .. import statements
from ..text import count
from .books import Books
from .facts import Facts, Reading
from .findings import Findings, seqs
from .intervals import Range, joined, total, within, without


def check_files(
    reading: Reading, streams: Iterable[str], excused: Mapping[str, Sequence[Range]], findings: Findings
) -> dict[str, list[Range]]:
    """By the files alone; what is missing, by stream. ``excused``: records whose files are known not to be here."""
    unread: dict[str, list[int]] = {}
    nameless: dict[str, int] = {}
    for stream, seq in reading.ask("SELECT CAST(stream AS VARCHAR), seq FROM facts.unread"):
        if seq is None:
            nameless[stream] = nameless.get(stream, 0) + 1
        else:
            unread.setdefault(stream, []).append(seq)
    return {
        stream: _check_stream(
            reading.facts, stream, unread.get(stream, []), nameless.get(stream, 0), excused.get(stream, ()), findings
        )
        for stream in streams
    }


def _check_stream(
    facts: Facts, stream: str, unread: list[int], nameless: int, excused: Sequence[Range], findings: Findings
) -> list[Range]:
    breaks = facts.breaks.get(stream, [])
    gaps = joined((before + 1, seq - 1) for _, seq, before in breaks if seq > before)
    late = [(segment, seq) for segment, seq, before in breaks if seq <= before]
    for segment, seq in late:
        if within(seq, gaps):
            what = f"{seqs(seq, seq)} stands behind a later one: lines were moved"
            findings.add("out_of_order", "error", what, stream=stream, seq=seq, segment=segment)
        else:
            what = f"{seqs(seq, seq)} is there twice"
            findings.add("seq_twice", "error", what, stream=stream, seq=seq, segment=segment)
    losses = [(first, last) for first, last, _ in facts.losses.get(stream, ())]
    end = max([facts.highest.get(stream, 0), *(last for _, last in losses)])
    beyond = [(facts.highest.get(stream, 0) + 1, end)]
    missing = without([*gaps, *beyond], [*losses, *((seq, seq) for _, seq in late), *((seq, seq) for seq in unread)])
    for first, last in without(losses, [*gaps, *beyond]):
        what = f"{seqs(first, last)}: declared lost, and there all the same"
        findings.add("seq_twice", "error", what, stream=stream, seq=first)
    missing = without(missing, excused)
    where = {before + 1: segment for segment, seq, before in breaks if seq > before}
    for first, last in missing:
        hint = f"; {count(nameless, 'line')} of the stream cannot be read" if nameless else ""
        at = max((start for start in where if start <= first), default=None)
        findings.add(
            "hole",
            "error",
            f"{seqs(first, last)}: no line, and no declared loss{hint}",
            stream=stream,
            seq=first,
            segment=where[at] if at is not None else None,
        )
    return missing


def check_database(reading: Reading, books: Books, missing: Mapping[str, Sequence[Range]], findings: Findings) -> None:
    """By the database: what neither a table nor audit_rejects nor a declared loss has.

    Left out is what the log has a record of (the rows of those are held against it one by one, or are not loaded yet),
    and what is ``missing`` there too.
    """
    sql = statements.load("checks/sides.sql")
    holes = books.holes
    known: dict[str, list[Range]] = {stream: list(ranges) for stream, ranges in missing.items()}
    if holes:
        columns = [list(column) for column in zip(*holes, strict=True)]
        for stream, _, _, seq in reading.ask(sql["records_in"], *columns):
            known.setdefault(stream, []).append((seq, seq))
    places = {
        (stream, segment, offset): seq
        for stream, segment, offset, seq in reading.ask(
            "SELECT CAST(stream AS VARCHAR), segment, byte_offset, seq FROM facts.unread WHERE seq IS NOT NULL"
        )
    }
    for place in books.nameless:
        if place in places:
            known.setdefault(place[0], []).append((places[place], places[place]))
    by_stream: dict[str, list[Range]] = {}
    for stream, first, last in holes:
        by_stream.setdefault(stream, []).append((first, last))
    for stream, ranges in by_stream.items():
        for first, last in without(ranges, known.get(stream, ())):
            what = f"{seqs(first, last)}: in no table of the database, and in no declared loss"
            findings.add("hole_in_database", "error", what, stream=stream, seq=first)


def check_counts(books: Books, streams: Iterable[str], findings: Findings) -> None:
    """Streams whose files are gone: as many records as the ledger says."""
    here = set(streams)
    told: dict[str, int] = {}
    for (stream, _), row in books.ledger.items():
        if stream not in here:
            told[stream] = told.get(stream, 0) + row.records
    for stream, records in told.items():
        there = books.counts.get(stream, 0)
        if there != records:
            what = f"the ledger says {count(records, 'record')}, the tables have {there:,}"
            findings.add("count_differs", "error", what, stream=stream)


def lost(facts: Facts) -> int:
    """How many records the log declares lost."""
    return sum(total((first, last) for first, last, _ in ranges) for ranges in facts.losses.values())
