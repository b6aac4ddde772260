"""Somebody who follows a page of the documentation from its top, literally, in a folder of their own."""

from __future__ import annotations

import ast
import asyncio
import configparser
import contextlib
import inspect
import io
import json
import subprocess
import tomllib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import duckdb
import yaml

from emitter import AuditLog
from loader.database import Database
from loader.load import Loader
from loader.query import RawLog
from loader.settings import LoadSettings

from .command import SCRIPT, environment
from .documents import ROOT, Block


def _each_line_as_json(text: str) -> None:
    try:
        json.loads(text)
    except ValueError:
        for line in text.splitlines():
            json.loads(line)


def _as_ini(text: str) -> None:
    configparser.RawConfigParser(strict=False).read_string(text)


PARSERS: dict[str, Callable[[str], object]] = {
    "yaml": yaml.safe_load,
    "toml": tomllib.loads,
    "ini": _as_ini,
    "json": _each_line_as_json,
}


class Reader:
    """Runs what a page shows; an assertion that fails names the block.

    ``folder`` is the current directory, ``dsn`` a migrated database, ``names`` what the page's Python takes as given.
    ``said`` is what its commands wrote, ``answers`` how many shown answers were right.
    """

    def __init__(self, folder: Path, dsn: str, names: dict[str, Any]) -> None:
        self.folder = folder
        self.log = folder / "var/audit"
        self.names: dict[str, Any] = {"__name__": "reader", **names}
        self.said = ""
        self.answers = 0
        self._dsn = dsn
        self._rows: list[list[str]] = []
        self._open = contextlib.ExitStack()
        self._raw: RawLog | None = None

    def follow(self, blocks: Iterable[Block]) -> None:
        with self._open:
            self._open.callback(self._close)
            for block in blocks:
                if not block.not_run:
                    self._do(block)

    def _logs(self) -> list[AuditLog]:
        return [value for value in self.names.values() if isinstance(value, AuditLog)]

    def _close(self) -> None:
        for log in self._logs():
            log.close()

    def _do(self, block: Block) -> None:
        if block.file:
            (self.folder / block.file).write_text(block.code)
        elif block.language == "sh":
            self._shell(block)
        elif block.language == "python":
            self._python(block)
        elif block.language == "sql":
            self._rows = self._postgresql(block) if "monitoring." in block.code else self._duckdb(block)
        elif block.language == "text":
            self._shown(block)
        else:
            assert block.language in PARSERS, f"{block.where}: nobody knows how to run {block.language!r}"
            PARSERS[block.language](block.code)

    def _shell(self, block: Block) -> None:
        done = subprocess.run(
            ["/bin/sh", "-e"],
            input=block.code,
            cwd=self.folder,
            env=environment(PATH=f"{SCRIPT.parent}:/usr/bin:/bin", TRADETRAIL_DSN=self._dsn),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=100,
            check=False,
        )
        assert done.returncode == 0, f"{block.where}: exit code {done.returncode}\n{done.stdout}"
        self.said += done.stdout

    def _python(self, block: Block) -> None:
        code = compile(block.code, block.where, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        with contextlib.redirect_stdout(io.StringIO()):
            waits = eval(code, self.names)
            if inspect.iscoroutine(waits):
                asyncio.run(waits)

    def _postgresql(self, block: Block) -> list[list[str]]:
        for log in self._logs():
            log.flush()

        async def work() -> list[list[str]]:
            async with Loader(LoadSettings(directory=self.log, dsn=self._dsn)) as loader:
                await loader.take()
            async with await Database.connect(self._dsn) as database:
                rows = await database.fetch(block.code)
            return [list(rows[0]), *(_cells(row.values()) for row in rows)] if rows else []

        return asyncio.run(work())

    def _duckdb(self, block: Block) -> list[list[str]]:
        """By ``tradetrail query``; a block with ``.read`` as duckdb's own client does it."""
        if "\n.read " in block.code:
            with duckdb.connect() as client:
                for line in block.code.splitlines():
                    sql = (ROOT / line.removeprefix(".read ")).read_text() if line.startswith(".read ") else line
                    client.execute(sql)
            return []
        if self._raw is None:
            self._raw = self._open.enter_context(RawLog(self.log))
        answer = self._raw.query(block.code)
        return [[name for name, _ in answer.columns], *(_cells(row) for row in answer.rows)]

    def _shown(self, block: Block) -> None:
        """What stands as text behind a query, as a table, is its answer; any other text is a picture."""
        if self._rows and " | " in block.code:
            shown = [[cell.strip() for cell in line.split("|")] for line in block.code.splitlines()]
            assert shown == self._rows, f"{block.where}: the answer is {self._rows}"
            self.answers += 1


def _cells(row: Any) -> list[str]:
    return ["" if value is None else str(value) for value in row]
