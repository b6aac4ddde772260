"""The rules that records are held to: read from SQL files, strictly, and turned into one query of findings.

A rule is a block of ``-- key: value`` lines and a condition in DuckDB's SQL::

    -- rule: number_unreadable
    -- each: number            for every field of that sort (or `for: order trade`, kinds of records)
    -- severity: reject        or repair
    -- says: {field} is no number: {value}
    NOT is_number({field})

``says`` is the sentence for people; ``{value}`` in it is the field's text, or the expression of a ``value:`` line.
``within:`` may give a cheaper condition that every record meets which breaks the rule: most are asked no more.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from emitter.records import KINDS, Field, Kind

from .database import Column
from .errors import UsageError
from .statements import sql_dir

_KEYS = ("rule", "for", "each", "severity", "says", "value", "within")
_SORTS = ("required", "number", "bounded", "integer", "boolean", "time", "limited", "not_null")
_FOR = ("line", "record", *(kind.name for kind in KINDS))
_DIRECTIVE = re.compile(r"-- ([a-z]+): (.*)")
_NUMBERS = ("number", "fee")
_SHOWN = 80

Columns = Mapping[str, Mapping[str, Column]]


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule: what it is for, how grave it is, what it says, and its condition."""

    name: str
    severity: str
    says: str
    condition: str
    applies_to: tuple[str, ...] = ("record",)
    each: str | None = None
    value: str = "NULL"
    within: str | None = None


def read_rules(path: Path | None = None) -> list[Rule]:
    """The rules of a file (by default the product's own); a :class:`UsageError` names file and line of a mistake."""
    path = path or sql_dir() / "load" / "rules.sql"
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: the rules cannot be read: {error}") from error
    rules: list[Rule] = []
    keys: dict[str, str] = {}
    condition: list[str] = []
    started = 0

    def finish() -> None:
        if keys:
            rules.append(_rule(keys, "\n".join(condition).strip(), f"{path.name}:{started}"))

    for number, line in enumerate(text.splitlines(), 1):
        match = _DIRECTIVE.fullmatch(line.rstrip())
        if match and match[1] == "rule":
            finish()
            keys, condition, started = {"rule": match[2]}, [], number
        elif match and keys and not condition:
            if match[1] not in _KEYS or match[1] in keys:
                raise UsageError(f"{path.name}:{number}: {match[1]!r} is no key of a rule, or stands twice")
            keys[match[1]] = match[2]
        elif keys and line.strip():
            condition.append(line)
        elif line.strip() and not line.startswith("--"):
            raise UsageError(f"{path.name}:{number}: a rule begins with '-- rule: name'")
    finish()
    names = [rule.name for rule in rules]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"{path.name}: the rule {name} stands twice")
    return rules


def _rule(keys: dict[str, str], condition: str, where: str) -> Rule:
    name = keys["rule"]
    problem = None
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        problem = "a name is made of small letters, digits and underscores"
    elif keys.get("severity") not in ("reject", "repair"):
        problem = "severity is reject or repair"
    elif not keys.get("says"):
        problem = "the sentence for people (says) is missing"
    elif not condition:
        problem = "the condition is missing"
    elif "each" in keys and keys["each"] not in _SORTS:
        problem = f"each is one of {', '.join(_SORTS)}"
    elif any(word not in _FOR for word in keys.get("for", "record").split()):
        problem = f"for is one or more of {', '.join(_FOR)}"
    if problem:
        raise UsageError(f"{where}: rule {name}: {problem}")
    return Rule(
        name=name,
        severity=keys["severity"],
        says=keys["says"],
        condition=condition,
        applies_to=tuple(keys.get("for", "record").split()),
        each=keys.get("each"),
        value=keys.get("value", "NULL"),
        within=keys.get("within"),
    )


@dataclass(frozen=True, slots=True)
class Judgement:
    """The rules as queries over ``suspected_lines`` and ``records`` (see ``sql/load/checks.sql``).

    ``doubtful_lines`` and ``doubtful_records`` find in one pass whatever breaks any rule: most batches have none.
    ``findings`` then says for those, in tables of these names, (n, place, rule, severity, says).
    """

    doubtful_lines: str
    doubtful_records: str
    findings: str


def judgement(rules: list[Rule], columns: Columns) -> Judgement:
    """The queries for these rules.

    ``columns`` are the real columns by table; without them (checking files alone) the rules about columns are out.
    """
    # Rules that share what they lie within share that question: a dict keeps each once, in order.
    conditions: dict[str, dict[str, None]] = {"lines": {}, "records": {}}
    findings = []
    for place, rule in enumerate(rules):
        instances = _instances(rule.each, columns) if rule.each else [("", rule.applies_to, {})]
        for field, kinds, words in instances:
            value = f'"{field}"' if field else rule.value
            filled = {"field": value, "value": value, **words}
            condition = _condition(rule.condition, kinds, filled)
            source = "lines" if kinds == ("line",) else "records"
            conditions[source][f"({_condition(rule.within or rule.condition, kinds, filled)})"] = None
            findings.append(
                f"SELECT n, {place} AS place, '{rule.name}' AS rule, '{rule.severity}' AS severity, "
                f"{_sentence(rule, field, value, words)} AS says FROM doubtful_{source} WHERE {condition}"
            )
    return Judgement(
        f"SELECT * FROM suspected_lines WHERE {' OR '.join(conditions['lines'])}",
        f"SELECT * FROM records WHERE {' OR '.join(conditions['records'])}",
        " UNION ALL ".join(findings),
    )


def _condition(text: str, kinds: tuple[str, ...], words: Mapping[str, str]) -> str:
    condition = _fill(text, words)
    if kinds == ("line",):
        return condition
    if kinds == ("record",):
        return f"kind IS DISTINCT FROM 'control' AND ({condition})"
    listed = ", ".join(f"'{kind}'" for kind in kinds)
    return f"kind IN ({listed}) AND ({condition})"


def _sentence(rule: Rule, field: str, value: str, words: Mapping[str, str]) -> str:
    """The sentence for people as an expression in SQL, with the value (its beginning) put in."""
    text = _fill(rule.says.replace("'", "''"), {**words, "field": field})
    return "'" + text.replace("{value}", f"' || left(CAST({value} AS VARCHAR), {_SHOWN}) || '") + "'"


def _fill(text: str, words: Mapping[str, str]) -> str:
    for word, replacement in words.items():
        text = text.replace("{" + word + "}", replacement)
    return text


def _instances(sort: str, columns: Columns) -> list[tuple[str, tuple[str, ...], dict[str, str]]]:
    """(field, kinds, words) for every field, or real column, of one sort; equal ones of several kinds as one."""
    found: dict[tuple[str, tuple[tuple[str, str], ...]], list[str]] = {}
    for kind in KINDS:
        for field in kind.fields:
            # An update that does not say a field leaves the order's as it is, whatever the row of the order needs.
            known = {kind.table: columns[kind.table]} if sort == "not_null" and kind.table in columns else columns
            words = _words(sort, field, column_of(kind, field, known))
            if words is not None:
                found.setdefault((field.name, tuple(words.items())), []).append(kind.name)
    return [(name, tuple(kinds), dict(words)) for (name, words), kinds in found.items()]


def _words(sort: str, field: Field, column: Column | None) -> dict[str, str] | None:
    """What ``{limit}`` and ``{scale}`` mean for one field under one sort of rule; None where the sort is not its."""
    if sort == "required":
        return {} if field.required else None
    if sort == "number":
        return {} if field.type in _NUMBERS else None
    if sort in ("boolean", "time"):
        return {} if field.type == sort else None
    if sort == "integer":
        return {"limit": integer_type(column)} if field.type == "integer" else None
    if column is None:
        return None
    if sort == "bounded" and field.type in _NUMBERS and decimal_type(column):
        return {"limit": str(decimal_type(column)), "scale": str(column.scale)}
    if sort == "limited" and field.type == "text" and column.max_length:
        return {"limit": str(column.max_length)}
    if sort == "not_null" and not column.nullable and not field.required and field.type != "time":
        return {}
    return None


def column_of(kind: Kind, field: Field, columns: Columns) -> Column | None:
    """The real column that bounds a field: an update's values end in the row of its order too."""
    tables = ("orders", kind.table) if kind.table == "order_updates" else (kind.table,)
    return next((columns[table][field.name] for table in tables if field.name in columns.get(table, {})), None)


def decimal_type(column: Column | None) -> str | None:
    """DuckDB's type for a bounded NUMERIC column, or None where the column takes any number."""
    if column is None or column.data_type != "numeric" or column.precision is None:
        return None
    return f"DECIMAL({min(column.precision, 38)}, {column.scale})"


def integer_type(column: Column | None) -> str:
    """DuckDB's type for an integer column; BIGINT where the column is not an integer or not known."""
    known = {"integer": "INTEGER", "smallint": "SMALLINT", "bigint": "BIGINT"}
    return known.get(column.data_type, "BIGINT") if column else "BIGINT"
