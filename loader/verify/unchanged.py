"""Unchanged: the bytes of every segment against all that vouch for them.

These are its footer, the header of the segment behind it (``docs/format.md``, 6), the ledger of the database, and with
a key its seal. And no segment may be missing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from emitter.seal import Seal
from emitter.segments import Footer, SegmentName, boot_id, read_footer

from ..archive.files import segment_of
from ..tail import Key
from ..text import count
from .books import LedgerRow
from .facts import SegmentFacts
from .files import File, Files, digests
from .findings import Findings
from .intervals import Range, without

# So many missing segments in a row are named one by one.
_MOST_MISSING = 100
_Witness = tuple[str, int, str]  # who, of how many bytes, which digest


@dataclass(slots=True)
class Unchanged:
    """Holds the files against their witnesses. ``excused``: by stream, the records that need not be in a file."""

    files: Files
    ledger: Mapping[Key, LedgerRow]
    findings: Findings
    seal: Seal | None = None
    excused: dict[str, list[Range]] = field(default_factory=dict)
    _known: dict[str, dict[int, LedgerRow]] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        for (stream, number), row in self.ledger.items():
            self._known.setdefault(stream, {})[number] = row

    def check(self, facts: Mapping[Key, SegmentFacts], progress: Callable[[int], None]) -> None:
        """All of it. ``facts``: what was read between the first and the last byte of each segment."""
        for name, problem in self.files.problems.items():
            parsed = segment_of(name)
            self.findings.add(
                "segment_unreadable",
                "error",
                f"{name} {problem}",
                stream=parsed.stream if parsed else None,
                segment=parsed.number if parsed else None,
            )
        for stream, numbers in self.files.streams().items():
            self._check_numbers(stream, numbers)
            for number in numbers:
                file = self.files.files.get((stream, number))
                if file is not None:
                    self._check_file(file, numbers[-1], facts.get(file.key, SegmentFacts()), progress)
                elif self.files.voids.get((stream, number)) != 0:
                    self._check_empty(stream, number, numbers[-1])
        self._check_gone()

    # -- what must be there --

    def _check_numbers(self, stream: str, numbers: list[int]) -> None:
        there = set(numbers)
        known = self._known.get(stream, {})
        archived = []
        void = {number for (of, number), offset in self.files.voids.items() if of == stream and offset == 0}
        for number in sorted(known.keys() - there - void):
            row = known[number]
            self._excuse(stream, row.first_seq, row.last_seq)
            if row.closed:
                if number < numbers[0]:
                    archived.append(number)
                    continue
                what = "is not here. The database has it whole, but what is archived goes the oldest first"
                self._add("segment_missing", "warning", stream, number, what)
            else:
                what = f"is not here, and was loaded in part only, up to byte {row.bytes:,}"
                self._add("segment_missing", "error", stream, number, what)
        last = max(numbers[-1], max(known, default=0))
        for first, end in without([(1, last)], [(number, number) for number in there | known.keys() | void]):
            self._check_unknown(stream, first, end)
        if archived:
            what = f"{count(len(archived), 'segment')} up to this one not here; the database has them whole"
            self._add("segment_archived", "information", stream, archived[-1], what)

    def _check_unknown(self, stream: str, first: int, last: int) -> None:
        """Numbers that are neither here nor in the database; a file's name may claim to be the billionth."""
        more = "" if self.ledger else "; if it was archived, the database knows it: give --dsn"
        for number in range(first, min(last, first + _MOST_MISSING - 1) + 1):
            if not self._came_meanwhile(stream, number):
                self._add("segment_missing", "error", stream, number, f"is not here{more}")
        if last >= first + _MOST_MISSING:
            what = f"is not here, nor is any other up to segment {last}"
            self._add("segment_missing", "error", stream, first + _MOST_MISSING, what)

    def _check_gone(self) -> None:
        """Streams of which no file is here."""
        here = {stream for stream, _ in self.files.present}
        for stream, rows in self._known.items():
            if stream in here:
                continue
            part = [number for number, row in rows.items() if not row.closed and row.void_from is None]
            for number in part:
                what = "is not here, and was loaded in part only: nobody knows how its stream ended"
                self._add("segment_missing", "error", stream, number, what)
            if not part:
                what = f"no file of this stream is here; the database has its {count(len(rows), 'segment')} whole"
                self._add("segment_archived", "information", stream, max(rows), what)

    def _came_meanwhile(self, stream: str, number: int) -> bool:
        """Whether a bot that runs made it while the directory was listed."""
        of = next((item for item in self.files.pending if item.name.stream == stream), None)
        if of is None or not self.files.living.get(stream):
            return False
        return (of.path.parent / str(SegmentName(stream, number, of.name.service))).exists()

    def _check_empty(self, stream: str, number: int, last: int) -> None:
        """A file without a first line: its bot was about to begin it, or it was emptied."""
        if any(f".{stream}.{number:06d}." in name for name in self.files.problems) or self.files.living.get(stream):
            return
        row = self.ledger.get((stream, number))
        if number < last or (row is not None and row.bytes):
            self._add("segment_cut", "error", stream, number, "has no header and no record: it was emptied")
        else:
            self._add("unfinished", "information", stream, number, "was never begun; the next load finishes it")

    # -- one file --

    def _check_file(self, file: File, last: int, facts: SegmentFacts, progress: Callable[[int], None]) -> None:
        stream, number = file.key
        if file.void is None and file.footer is None and not self._is_open(file, last, facts):
            return
        row = self.ledger.get(file.key)
        lost = row is not None and file.void is None and self._lost_after_load(file, row)
        if not lost:
            self._check_size(file)
        self._check_archived(file)
        witnesses = self._witnesses(file, None if lost else row)
        found = digests(file.path, (end for _, end, _ in witnesses), progress)
        against = [who for who, end, digest in witnesses if found.get(end) != digest]
        if against:
            what = f"its bytes are not those that {_listed(against)} vouch{'es' if len(against) == 1 else ''} for"
            self._add("segment_changed", "error", stream, number, what)
        elif file.void is None and file.footer is not None:
            self._check_footer(file, facts)
        if file.void is None and file.footer is not None and self.seal is not None:
            self._check_seal(file, self.seal)
        before = self.files.files.get((stream, number - 1))
        if (
            before is not None
            and before.void is None
            and file.header.previous_sha256 is None
            and not file.header.replaces
        ):
            what = "its header does not say the digest of the segment before it"
            self._add("chain_broken", "warning", stream, number, what)

    def _is_open(self, file: File, last: int, facts: SegmentFacts) -> bool:
        """Whether a file without a footer may be without; says so where not. True: go on with it."""
        stream, number = file.key
        row = self.ledger.get(file.key)
        if facts.footers:
            self._add("bytes_behind_footer", "error", stream, number, "has bytes behind its footer")
            return False
        if number < last and self._goes_on(stream, number):
            if not (self.files.living.get(stream) and read_footer(file.path) is not None):
                self._add(
                    "segment_cut", "error", stream, number, "has no footer, though its stream goes on: it was cut"
                )
                return False
        elif row is not None and row.closed:
            if not self._lost_after_load(file, row):
                self._add("segment_cut", "error", stream, number, "has no footer, and had one when it was loaded")
            return False
        elif not self.files.living.get(stream):
            self._say_unfinished(file)
        return True

    def _goes_on(self, stream: str, number: int) -> bool:
        """Whether the next segment has begun: its header comes after this one's footer."""
        return (stream, number + 1) in self.files.files

    def _say_unfinished(self, file: File) -> None:
        header = file.header
        ring = header.ring is not None and header.boot_id == boot_id() and Path(header.ring).exists()
        if ring:
            what, severity = "has no footer: its bot died, and the ring has the rest; a load finishes it", "information"
        else:
            what = "has no footer, and there is no ring that has the rest: its bot died without one, or it was cut"
            severity = "warning"
        self._add("unfinished", severity, file.name.stream, file.name.number, what)

    def _check_size(self, file: File) -> None:
        row = self.ledger.get(file.key)
        if row is None or file.void is not None or file.size >= row.bytes:
            return
        what = f"has {file.size:,} bytes, and {row.bytes:,} are loaded"
        self._add("segment_cut", "error", *file.key, what)

    def _check_archived(self, file: File) -> None:
        """What is archived was loaded once; a database that lacks it came from a backup, or is another one."""
        row = self.ledger.get(file.key)
        if file.archived and self.ledger and file.void is None and (row is None or row.bytes < file.size):
            what = "is archived, and the database lacks it: tradetrail archive restore --unloaded, then load"
            self._add("archived_not_loaded", "error", *file.key, what)

    def _lost_after_load(self, file: File, row: LedgerRow) -> bool:
        """Whether it lost its end in a restart of the machine after that was loaded; says so."""
        recovered = file.footer is None or file.footer.recovered
        # Of a segment that was begun anew, since not even its header was left, nobody knows the boot.
        anew = file.header.boot_id is None and file.footer is not None and not file.footer.records
        restarted = anew or file.header.boot_id not in (None, boot_id())
        if _has_all(file, row) or not restarted or not recovered:
            return False
        last = file.footer.last_seq if file.footer else None
        self._excuse(file.name.stream, (last or (row.first_seq or 1) - 1) + 1, row.last_seq)
        what = (
            f"has lines up to byte {file.body_end:,}, and {row.bytes:,} bytes are loaded; the machine was restarted "
            "since: what was not on the disk yet is in the database alone"
        )
        self._add("lost_after_load", "information", *file.key, what)
        return True

    def _witnesses(self, file: File, row: LedgerRow | None) -> list[_Witness]:
        """Who vouches for how many of its bytes. ``row``: what the database knows, where that counts."""
        stream, number = file.key
        found: list[_Witness] = []
        whole = file.void is None and file.footer is not None
        if whole and file.footer is not None:
            found.append(("its footer", file.body_end, file.footer.sha256))
        behind = self.files.files.get((stream, number + 1))
        if whole and behind is not None and behind.header.previous_sha256 and not behind.header.replaces:
            found.append(("the next segment's header", file.body_end, behind.header.previous_sha256))
        if whole and row is not None and row.closed and row.sha256 and file.size >= row.bytes:
            found.append(("the database", file.body_end, row.sha256))
        if file.void is not None:
            found += self._of_replacements(file)
        return found

    def _of_replacements(self, file: File) -> list[_Witness]:
        """What headers that made its end void say of the bytes before it."""
        stream, number = file.key
        found = []
        for (of, _), later in self.files.files.items():
            good = [void for void in later.header.replaces if void.offset]
            if of == stream and good and good[-1].segment == number and later.header.previous_sha256:
                who = f"the header of segment {later.name.number}"
                found.append((who, good[-1].offset, later.header.previous_sha256))
        return found

    def _check_footer(self, file: File, facts: SegmentFacts) -> None:
        footer = file.footer
        assert footer is not None  # noqa: S101  the caller's condition
        # A line that a disk spoilt before it was recovered may or may not have been counted.
        counted = facts.records - facts.unread <= footer.records <= facts.records and _spans(footer, facts)
        if (footer.stream, footer.segment) != file.key or not counted or facts.footers != 1:
            what = (
                f"its footer says segment {footer.segment}, {count(footer.records, 'record')} ({footer.first_seq} to "
                f"{footer.last_seq}); it holds {count(facts.records, 'record')} ({facts.first_seq} to {facts.last_seq})"
            )
            self._add("footer_wrong", "error", *file.key, what)

    def _check_seal(self, file: File, seal: Seal) -> None:
        footer = file.footer
        assert footer is not None  # noqa: S101  the caller's condition
        if footer.hmac is None:
            by = "it was recovered by a process without the key" if footer.recovered else "its writer had no key"
            self._add("unsealed", "warning", *file.key, f"has no seal: {by}, or somebody took it off")
        elif not seal.fits(file.name, footer.sha256, footer.hmac):
            self._add(
                "seal_broken", "error", *file.key, "its seal was not made with this key for this segment and digest"
            )

    def _excuse(self, stream: str, first: int | None, last: int | None) -> None:
        if first is not None and last is not None:
            self.excused.setdefault(stream, []).append((first, last))

    def _add(self, rule: str, severity: str, stream: str, segment: int, what: str) -> None:
        self.findings.add(rule, severity, what, stream=stream, segment=segment)


def _has_all(file: File, row: LedgerRow) -> bool:
    """Whether what is loaded of a segment is still in it; the footer that a recovery wrote may stand in its place."""
    if row.closed and file.footer is not None:
        return file.size >= row.bytes and file.footer.sha256 == row.sha256
    return (file.size if row.closed else file.body_end) >= row.bytes


def _listed(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _spans(footer: Footer, facts: SegmentFacts) -> bool:
    """Whether its first and last seq are those of the lines; a line that cannot be read may have been either."""
    if not facts.unread:
        return (footer.first_seq, footer.last_seq) == (facts.first_seq, facts.last_seq)
    lowest, highest = facts.first_seq, facts.last_seq
    return (footer.first_seq is None or lowest is None or footer.first_seq <= lowest) and (
        footer.last_seq is None or highest is None or footer.last_seq >= highest
    )
