"""The rules of ``tradetrail verify`` by name: those that are code, and those that are SQL."""

from __future__ import annotations

from .consistency import read_check_rules

# Severity is the gravest that the rule finds.
BUILT_IN = (
    ("hole", "error", "a number of a stream stands in no line and in no declared loss"),
    ("seq_twice", "error", "a number stands in two lines, or in one and in a declared loss"),
    ("out_of_order", "error", "a record stands behind a later one"),
    (
        "segment_changed",
        "error",
        "the bytes of a segment are not those that its footer, its successor or the ledger know",
    ),
    ("segment_cut", "error", "a segment has lost its end, or all of it"),
    ("segment_missing", "error", "a segment is not here; a warning where the database has it whole"),
    ("segment_unreadable", "error", "a file with a segment's name is none, or cannot be read"),
    ("bytes_behind_footer", "error", "a closed segment goes on behind its footer"),
    ("footer_wrong", "error", "a footer counts other records than its segment holds"),
    ("chain_broken", "warning", "a header does not say the digest of the segment before it"),
    ("seal_broken", "error", "a seal was not made with this key for this segment (--key)"),
    ("unsealed", "warning", "a closed segment has no seal (--key)"),
    (
        "unfinished",
        "warning",
        "the last segment of a bot that died has no footer; information where its ring has the rest",
    ),
    ("head_changed", "error", "what a kept line knows is not what is here (--against)"),
    ("head_cut", "error", "an end was cut off since (--against); a warning after a restart of the machine"),
    ("head_missing", "error", "a segment that a kept line knows is not here (--against)"),
    ("row_differs", "error", "a row of the database is not what the log says"),
    ("row_missing", "error", "a record of the log has no row in the database"),
    ("row_unknown", "error", "a row of the database has no record in the log"),
    ("reject_differs", "error", "a line kept in audit_rejects is not the one in the log"),
    ("hole_in_database", "error", "a number stands in no table and in no declared loss"),
    ("count_differs", "error", "of a stream whose files are gone, the tables have not what the ledger says"),
    ("row_mended", "information", "a row is that of a rejected line that was mended since"),
    ("archived_not_loaded", "error", "a segment is archived alone, and the database lacks it"),
    ("segment_archived", "information", "segments are not here, and the database has them whole"),
    ("lost_after_load", "information", "a segment lost its end in a restart, after that was loaded"),
    ("not_loaded", "information", "records are not loaded yet"),
)


def described() -> list[tuple[str, str, str]]:
    """All rules as (name, severity, what it finds)."""
    files = ("consistency.sql", "positions.sql")
    written = [(rule.name, rule.severity, rule.says) for file in files for rule in read_check_rules(file)]
    return [*BUILT_IN, *written]
