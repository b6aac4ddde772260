"""``docs/breakages.md``: the list, with who sees each breakage, as the runs have found it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from .breakage import Breakage
from .verdict import SEEN, Verdict, plain_name

PAGE = Path("docs/breakages.md")
HEADER = "| breakage | what is broken | what it would cost | seen by |"
_BEGIN, _END = "<!-- from here on make test-breakages writes it -->\n", "<!-- up to here -->\n"
_ROW = re.compile(r"^\| (?P<name>[\w-]+) \| .* \| (?P<by>[^|]+) \|$", re.MULTILINE)
_TOOK = re.compile(r"^All of them together took (.+)\.$", re.MULTILINE)
_NOT_TRIED = "not tried yet"


def write_page(root: Path, listed: Sequence[Breakage], verdicts: Sequence[Verdict], took: str | None) -> None:
    """Bring the page up to date: all that are ``listed``, and what was found now of some; ``took``: of all of them."""
    path = root / PAGE
    before, _, rest = path.read_text(encoding="utf-8").partition(_BEGIN)
    written, _, after = rest.partition(_END)
    if took is None:
        took = found[1] if (found := _TOOK.search(written)) else _NOT_TRIED
    seen_by = {row["name"]: row["by"] for row in _ROW.finditer(written)}
    seen_by |= {verdict.breakage.name: _by(verdict) for verdict in verdicts}
    score = _score(listed, seen_by, took)
    path.write_text(f"{before}{_BEGIN}\n{score}\n{_END}{after}", encoding="utf-8")


def _by(verdict: Verdict) -> str:
    return f"`{plain_name(verdict.test)}`" if verdict.result == SEEN else f"**{verdict.result}**"


def _score(listed: Sequence[Breakage], seen_by: Mapping[str, str], took: str) -> str:
    rows = [
        f"| {one.name} | {one.breaks} (`{one.file}`) | {one.costs} | {seen_by.get(one.name, _NOT_TRIED)} |"
        for one in listed
    ]
    seen = sum(seen_by.get(one.name, "").startswith("`") for one in listed)
    sentences = f"{seen} of {len(listed)} breakages are seen.\nAll of them together took {took}.\n"
    return "\n".join([sentences, HEADER, "|---|---|---|---|", *rows, ""])
