"""SQL by name: the statements in the files of ``sql/``, read strictly.

A statement starts with ``-- name: snake_case_name``, then at least one ``-- `` line that says what it is for,
then its SQL up to the next name or the end of the file. A misspelt directive, a name given twice or a
statement without words is an error when the file is loaded, with file and line.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

from loader.errors import EnvironmentFault, TradetrailError

_NAME = re.compile(r"-- name: ([a-z][a-z0-9_]*)")
# One word, a colon and at most one more word: meant as a directive, whatever it says.
_DIRECTIVE = re.compile(r"\s*--\s*(\w+\s*:\s*\S*|(?i:name)\s*:.*)\s*")
_COMMENT = re.compile(r"\s*--(.*)")


class StatementError(TradetrailError):
    """A file of statements that cannot be read; says file and line."""


class UnknownStatementError(StatementError, KeyError):
    """A statement was asked for that its file does not have."""


class Statements(Mapping[str, str]):
    """The statements of one file, by name, in the file's order."""

    def __init__(self, file: str, texts: Mapping[str, str]) -> None:
        self._file = file
        self._texts = dict(texts)

    def __getitem__(self, name: str) -> str:
        try:
            return self._texts[name]
        except KeyError:
            known = ", ".join(self._texts)
            raise UnknownStatementError(f"sql/{self._file} has no statement {name!r}; it has {known}") from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._texts)

    def __len__(self) -> int:
        return len(self._texts)


@cache
def sql_dir() -> Path:
    """The folder of the SQL files, in a checkout as in an installed wheel."""
    folder = Path(__file__).parent / "sql"
    if not folder.is_dir():
        raise EnvironmentFault(f"the SQL files are missing at {folder}; install tradetrail again")
    return folder


@cache
def load(file: str) -> Statements:
    """The statements of ``sql/<file>``, such as ``load/merge.sql``."""
    try:
        text = (sql_dir() / file).read_text(encoding="utf-8")
    except OSError as error:
        raise StatementError(f"sql/{file} cannot be read: {error.strerror}") from error
    return parse(text, file)


def parse(text: str, file: str) -> Statements:
    """Read the text of a file of statements; ``file`` is for messages."""
    texts: dict[str, str] = {}
    name, start, described = "", 0, False
    body: list[str] = []

    def finish() -> None:
        if not name:
            return
        if not described:
            raise StatementError(f"sql/{file}:{start}: {name} has no line that says what it is for")
        if not any(line.strip() and not _COMMENT.fullmatch(line) for line in body):
            raise StatementError(f"sql/{file}:{start}: {name} is empty")
        texts[name] = "\n".join(body).strip()

    for number, line in enumerate(text.splitlines(), 1):
        comment = _COMMENT.fullmatch(line)
        if match := _NAME.fullmatch(line.rstrip()):
            finish()
            name, start, described = match[1], number, False
            body = []
            if name in texts:
                raise StatementError(f"sql/{file}:{number}: {name} is there twice")
        elif _DIRECTIVE.fullmatch(line):
            raise StatementError(f"sql/{file}:{number}: unknown directive {line.strip()!r}")
        elif not name:
            if line.strip():
                raise StatementError(f"sql/{file}:{number}: text before the first '-- name:'")
        elif comment and not any(body):
            described = described or bool(comment[1].strip())
        else:
            body.append(line)
    finish()
    return Statements(file, texts)
