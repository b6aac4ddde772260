"""The rows of an answer as text: CSV, JSON, JSON Lines, each row written as it comes."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

from .query import Answer
from .show import plain
from .text import json_escaped


class Text(Protocol):
    """Where text is written to."""

    def write(self, text: str, /) -> int: ...


def write_json(answer: Answer, to: Text) -> int:
    """One list of objects, a row on each line; how many. What is JSON in the log stays as it was written."""
    rows, before = 0, "["
    for row in _objects(answer):
        to.write(before + row)
        before = ",\n "
        rows += 1
    to.write("]\n" if rows else "[]\n")
    return rows


def write_lines(answer: Answer, to: Text) -> int:
    """An object on each line; how many."""
    rows = 0
    for row in _objects(answer):
        to.write(row + "\n")
        rows += 1
    return rows


def write_csv(answer: Answer, to: Text) -> int:
    """CSV with a header; how many rows."""
    writer, rows = csv.writer(to, lineterminator="\n"), 0
    writer.writerow([name for name, _ in answer.columns])
    for row in answer.rows:
        writer.writerow([_csv_value(value) for value in row])
        rows += 1
    return rows


WRITERS: Mapping[str, Callable[[Answer, Text], int]] = {"csv": write_csv, "json": write_json, "jsonl": write_lines}


def _objects(answer: Answer) -> Iterator[str]:
    names = [_dumped(name) for name, _ in answer.columns]
    is_json = [type_ == "JSON" for _, type_ in answer.columns]
    for row in answer.rows:
        fields = (
            f"{name}: {_as_written(value) if raw and isinstance(value, str) else _dumped(value)}"
            for name, raw, value in zip(names, is_json, row, strict=True)
        )
        yield f"{{{', '.join(fields)}}}"


def _dumped(value: Any) -> str:
    return json_escaped(json.dumps(plain(value), ensure_ascii=False, allow_nan=False))


def _as_written(text: str) -> str:
    def refuse(constant: str) -> None:
        raise ValueError(constant)

    try:
        json.loads(text, parse_constant=refuse)
    except (ValueError, RecursionError):
        return _dumped(text)
    return json_escaped(text.replace("\n", " ").replace("\r", " "))  # signs that can only stand between the values


def _csv_value(value: Any) -> Any:
    known = plain(value)
    return json.dumps(known, ensure_ascii=False) if isinstance(known, dict | list) else known
