"""Consistent: what the records of a trail say of the same order, fill or position fits together.

The rules are queries in ``sql/checks``: ``consistency.sql`` asks the log, ``positions.sql`` the bot's own table. A rule
is a block of ``-- key: value`` lines and a query for what breaks it, as (stream, seq, value).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from .. import statements
from ..database import Column, Database
from ..statements import StatementError, sql_dir
from .facts import Reading
from .findings import SEVERITIES, Findings

_DIRECTIVE = re.compile(r"-- ([a-z]+): (.*)")
_KEYS = ("rule", "severity", "needs", "says")
WHOLE_TRAIL = "whole trail"
_SHOWN = 200
_MOST = 100_000


@dataclass(frozen=True, slots=True)
class CheckRule:
    """One rule: how grave it is, what it says (``{value}`` is what its query answers), its query, and what it needs."""

    name: str
    severity: str
    says: str
    query: str
    needs: str = ""


@cache
def read_check_rules(file: str) -> tuple[CheckRule, ...]:
    """The rules of ``sql/checks/<file>``; a :class:`~loader.statements.StatementError` says where a mistake is."""
    text = (sql_dir() / "checks" / file).read_text(encoding="utf-8")
    rules: list[CheckRule] = []
    keys: dict[str, str] = {}
    query: list[str] = []
    started = 0

    def finish() -> None:
        if keys:
            rules.append(_rule(keys, "\n".join(query).strip(), f"sql/checks/{file}:{started}"))

    for number, line in enumerate(text.splitlines(), 1):
        match = _DIRECTIVE.fullmatch(line.rstrip())
        if match and match[1] == "rule":
            finish()
            keys, query, started = {"rule": match[2]}, [], number
        elif match and keys and not query:
            if match[1] not in _KEYS or match[1] in keys:
                raise StatementError(f"sql/checks/{file}:{number}: {match[1]!r} is no key of a rule, or stands twice")
            keys[match[1]] = match[2]
        elif keys and line.strip():
            query.append(line)
        elif line.strip() and not line.startswith("--"):
            raise StatementError(f"sql/checks/{file}:{number}: a rule begins with '-- rule: name'")
    finish()
    names = [rule.name for rule in rules]
    if len(set(names)) < len(names):
        raise StatementError(f"sql/checks/{file}: a rule stands twice")
    return tuple(rules)


def _rule(keys: Mapping[str, str], query: str, where: str) -> CheckRule:
    if keys.get("severity") not in SEVERITIES or not keys.get("says") or not query:
        raise StatementError(f"{where}: the rule {keys['rule']} lacks its severity, its sentence or its query")
    return CheckRule(keys["rule"], keys["severity"], keys["says"], query, keys.get("needs", ""))


def check_log(reading: Reading, findings: Findings, *, whole: bool) -> list[str]:
    """Ask the log; the rules that were left out, where it is not the ``whole`` trail."""
    left_out = []
    reading.ask(statements.load("checks/facts.sql")["settled"])
    for rule in read_check_rules("consistency.sql"):
        if rule.name in findings.ignored:
            continue
        if rule.needs == WHOLE_TRAIL and not whole:
            left_out.append(rule.name)
            continue
        asked = f"SELECT CAST(stream AS VARCHAR), seq, value FROM ({rule.query}) ORDER BY 1, 2 LIMIT {_MOST}"  # noqa: S608  our own
        for stream, seq, value in reading.ask(asked):
            _add(findings, rule, stream, seq, value)
    return left_out


async def check_positions(database: Database, columns: Mapping[str, Column], findings: Findings) -> None:
    """Ask the database; ``columns`` are those of its positions."""
    if not columns or not await database.fetchval("SELECT EXISTS (SELECT FROM monitoring.positions)"):
        return
    for rule in read_check_rules("positions.sql"):
        if rule.name not in findings.ignored and all(name in columns for name in rule.needs.split()):
            for row in await database.fetch(f"{rule.query} LIMIT {_MOST}"):
                _add(findings, rule, row["stream"], row["seq"], row["value"])


def _add(findings: Findings, rule: CheckRule, stream: str, seq: int, value: object) -> None:
    text = str(value)
    shown = text if len(text) <= _SHOWN else f"{text[:_SHOWN]} ..."
    findings.add(rule.name, rule.severity, rule.says.replace("{value}", shown), stream=stream, seq=seq)
