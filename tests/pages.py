"""Reads a report's page the way a machine would: exact figures, tables, plots."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any


class Page(HTMLParser):
    """A page: ``figures`` by (currency of the section, name), ``tables`` by name as rows of cells, ``plots`` by id.

    A cell or figure is its exact value where the page has one, else its text; None where that is a dash.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.source = path.read_text(encoding="utf-8")
        self.text = ""
        self.figures: dict[tuple[str, str], str | None] = {}
        self.tables: dict[str, list[list[str | None]]] = {}
        self.plots: dict[str, dict[str, Any]] = {}
        self._quote = self._figure = self._table = self._plot = ""
        self._cell: list[str] | None = None
        self._value: str | None = None
        self._raw = False
        self.feed(self.source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self._quote = given.get("data-quote", self._quote) or ""
        self._figure = given.get("data-figure", self._figure) or ""
        self._table = given.get("data-table", self._table) or ""
        self._raw = tag in ("script", "style")
        if tag == "script" and given.get("type") == "application/json":
            self._plot = given["id"] or ""
        elif tag == "data" and self._value is None:
            self._value = given["value"]
        elif tag in ("td", "th", "dd"):
            self._cell, self._value = [], None
        elif tag == "tr" and self._table:
            self.tables.setdefault(self._table, []).append([])

    def handle_endtag(self, tag: str) -> None:
        self._raw = False
        if tag in ("td", "th", "dd") and self._cell is not None:
            text = "".join(self._cell).strip()
            found = self._value if self._value is not None else text.replace("\N{EN DASH}", "") or None
            if tag == "dd" and self._figure:
                self.figures[self._quote, self._figure] = found
                self._figure = ""
            elif self._table:
                self.tables[self._table][-1].append(found)
            self._cell = None
        elif tag == "table":
            self._table = ""
        elif tag == "section":
            self._quote = ""
        elif tag == "script":
            self._plot = ""

    def handle_data(self, data: str) -> None:
        if self._plot:
            self.plots[self._plot] = json.loads(data)
        elif not self._raw:
            self.text += data
            if self._cell is not None:
                self._cell.append(data)

    def named(self, table: str) -> list[dict[str, str | None]]:
        """The rows of a table by the names in its head."""
        head, *rows = self.tables[table]
        return [dict(zip(map(str, head), row, strict=True)) for row in rows]
