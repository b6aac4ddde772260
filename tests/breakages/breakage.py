"""One way to break the product, as an exact change of lines in one of its files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from loader.statements import parse


class Stale(Exception):
    """A breakage and the tree do not fit together any more; ``str()`` says what to mend."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Breakage:
    """What is broken, what that would cost a user, and who has to see it.

    ``change`` is written as in a diff: lines that go begin with ``-``, those that come with ``+``, others with a space;
    a line ``@@`` is between two places. What was there stands exactly once in ``file``. ``seen_by`` are tests, as in
    ``docs/faults.md``: a file under ``tests``, and a test in it.
    """

    name: str
    breaks: str
    costs: str
    file: str
    change: str
    seen_by: tuple[str, ...]

    @property
    def paths(self) -> tuple[str, ...]:
        """``seen_by`` as pytest is given it."""
        return tuple(f"tests/{test}" for test in self.seen_by)

    def broken(self, text: str) -> str:
        """The file's text with it. Errors: :class:`Stale`."""
        for old, new in self._places():
            if (times := text.count(old)) != 1:
                first = old.strip().partition("\n")[0]
                raise Stale(f"{self.name}: in {self.file} its old text stands {times} times, not once: {first}")
            text = text.replace(old, new)
        return text

    def require_sound(self, root: Path) -> None:
        """That it still fits the tree, and leaves a program: what is none is seen by anybody, and proves nothing.

        Errors: :class:`Stale`, ``OSError``, ``SyntaxError``, and those of :func:`loader.statements.parse`.
        """
        text = self.broken((root / self.file).read_text(encoding="utf-8"))
        if self.file.endswith(".py"):
            compile(text, self.file, "exec")
        elif "-- name: " in text:
            parse(text, self.file)

    def _places(self) -> Iterator[tuple[str, str]]:
        for place in self.change.split("@@\n"):
            lines = [line if line != "\n" else " \n" for line in place.splitlines(keepends=True)]
            if wrong := [line for line in lines if line[0] not in " -+"]:
                raise Stale(f"{self.name}: a line of its change begins with neither -, + nor a space: {wrong[0]}")
            yield _side(lines, " -"), _side(lines, " +")


def _side(lines: list[str], signs: str) -> str:
    return "".join(line[1:] for line in lines if line[0] in signs)
