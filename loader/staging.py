"""Temporary tables: what a merge has to look at before it may go into the real ones."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from . import statements
from .database import Database

_WORD = re.compile(r"\{([a-z_]+)\}")


def filled(text: str, columns: Sequence[str] = (), **words: str) -> str:
    """The text of a statement with its ``{words}`` put in; ``{columns}`` is the quoted list of the columns."""
    words["columns"] = ", ".join(f'"{column}"' for column in columns)
    return _WORD.sub(lambda word: words[word[1]], text)


async def stage(database: Database, table: str, columns: Sequence[str], path: Path) -> None:
    """Copy a CSV file into ``incoming_<table>``, whose columns are those of the real table."""
    await database.execute(filled(statements.load("load/merge.sql")["stage"], columns, table=table))
    await database.copy_csv(f"incoming_{table}", columns, path, schema=None)
