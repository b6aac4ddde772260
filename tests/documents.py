"""Pages of Markdown as they are written: blocks of code, tables, headings, links."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).parents[1]
_BLOCK = re.compile(
    r"^(?:<!-- (?P<note>[^\n]+) -->\n)?```(?P<language>\w*)\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL
)
_INLINE = re.compile(r"`[^`\n]+`")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
_LINK = re.compile(r"\[[^\]\n]+\]\(([^)\s]+)\)")


@dataclass(frozen=True, slots=True)
class Block:
    """A block of code; ``note`` is the comment in the line above it."""

    where: str
    language: str
    code: str
    note: str

    @property
    def not_run(self) -> str:
        """Why it cannot be run, in its note's words; empty where it can."""
        return self._said("not run")

    @property
    def file(self) -> str:
        """The name under which the reader saves it; empty where it is to be run."""
        return self._said("file")

    def _said(self, key: str) -> str:
        word, _, rest = self.note.partition(": ")
        return rest if word == key else ""


class Page:
    """A page by its path in the repository."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.path = ROOT / name
        self.text = self.path.read_text()

    @cached_property
    def blocks(self) -> list[Block]:
        return [
            Block(
                f"{self.name}:{self.text.count(chr(10), 0, match.start('language')) + 1}",
                match["language"],
                match["code"],
                match["note"] or "",
            )
            for match in _BLOCK.finditer(self.text)
        ]

    def code(self, language: str) -> list[str]:
        return [block.code for block in self.blocks if block.language == language]

    @cached_property
    def prose(self) -> str:
        """The text without its blocks."""
        return _BLOCK.sub("", self.text)

    def table(self, header: str) -> list[list[str]]:
        """The cells of the table with this first line, below its rule."""
        _, found, after = self.text.partition(f"{header}\n")
        assert found, f"{self.name}: no table {header!r}"
        rows = []
        for line in after.splitlines()[1:]:
            if not line.startswith("|"):
                break
            rows.append([cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip("|"))])
        return rows

    @cached_property
    def anchors(self) -> set[str]:
        """What a link may name behind ``#``, as GitHub makes it of the headings."""
        titles = (re.sub(r"[^\w\- ]", "", title.lower()).strip() for title in _HEADING.findall(self.prose))
        return {title.replace(" ", "-") for title in titles}

    @cached_property
    def links(self) -> list[str]:
        return _LINK.findall(_INLINE.sub("", self.prose))

    @cached_property
    def pages_named(self) -> set[str]:
        """Pages that stand in the text by their path, without a link."""
        return set(re.findall(r"\b(?:docs/\w+\.md|[A-Z]+\.md)\b", self.text))


README = Page("README.md")
PAGES = [README, *(Page(f"docs/{path.name}") for path in sorted((ROOT / "docs").glob("*.md")))]
