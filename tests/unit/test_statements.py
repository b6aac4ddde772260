"""SQL files are read strictly: what is not a statement is an error with its place."""

import pytest

from loader.errors import TradetrailError
from loader.statements import StatementError, UnknownStatementError, load, parse, sql_dir

GOOD = """-- name: first_one
-- What it is for,
-- in two lines.
SELECT 1
-- a remark inside
FROM t;

-- name: second
-- Another.
SELECT 2;
"""


def test_statements_are_found_by_name_in_the_order_of_the_file() -> None:
    statements = parse(GOOD, "x.sql")
    assert dict(statements) == {
        "first_one": "SELECT 1\n-- a remark inside\nFROM t;",
        "second": "SELECT 2;",
    }
    assert list(statements) == ["first_one", "second"]


def test_asking_for_an_unknown_name_is_a_clear_key_error() -> None:
    with pytest.raises(KeyError) as caught:
        parse(GOOD, "x.sql")["frist_one"]
    assert isinstance(caught.value, UnknownStatementError)
    assert str(caught.value) == "sql/x.sql has no statement 'frist_one'; it has first_one, second"
    assert "frist_one" not in parse(GOOD, "x.sql")


@pytest.mark.parametrize(
    ("text", "line", "word"),
    [
        (GOOD + "-- name: second\n-- Again.\nSELECT 3;\n", 11, "twice"),
        ("SELECT 1;\n" + GOOD, 1, "before the first"),
        ("-- just a remark about the file\n" + GOOD, 1, "before the first"),
        (GOOD.replace("-- name: second", "-- nmae: second"), 8, "unknown directive"),
        (GOOD.replace("-- name: second", "--name: second"), 8, "unknown directive"),
        (GOOD.replace("-- name: second", "-- Name: second"), 8, "unknown directive"),
        (GOOD.replace("-- name: second", "-- name: Second"), 8, "unknown directive"),
        (GOOD.replace("-- name: second", "-- name: two words"), 8, "unknown directive"),
        (GOOD.replace("-- name: second", "-- name:"), 8, "unknown directive"),
        (GOOD.replace("-- Another.\n", ""), 8, "what it is for"),
        (GOOD.replace("-- Another.", "--"), 8, "what it is for"),
        (GOOD.replace("SELECT 2;", ""), 8, "empty"),
        (GOOD.replace("SELECT 2;", "\n-- nothing but a remark"), 8, "empty"),
    ],
)
def test_a_file_that_is_not_strictly_right_is_refused_with_its_line(text: str, line: int, word: str) -> None:
    with pytest.raises(StatementError, match=word) as caught:
        parse(text, "x.sql")
    assert str(caught.value).startswith(f"sql/x.sql:{line}: ")
    assert isinstance(caught.value, TradetrailError)


def test_a_missing_file_is_one_line() -> None:
    with pytest.raises(StatementError, match=r"sql/no/such\.sql cannot be read"):
        load("no/such.sql")


def test_the_folder_of_sql_files_is_found() -> None:
    assert (sql_dir() / "migrations" / "0001_schema.sql").is_file()
