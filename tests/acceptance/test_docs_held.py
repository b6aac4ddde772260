"""README and docs are held to what is there: their links lead on, their tables and names are the program's."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from emitter.settings import ENVIRONMENT, LOADER_VARIABLES, EmitterSettings
from loader.rules import read_rules
from loader.verify.rule_book import described

from ..documents import PAGES, README, ROOT, Block, Page

ALL = [*PAGES, Page("CONTRIBUTING.md"), Page("CHANGELOG.md")]


def named(pages: list[Page]) -> Any:
    return pytest.mark.parametrize("page", pages, ids=lambda page: page.path.stem)


# -- the blocks --


@named(PAGES)
def test_a_block_has_a_language_and_a_reason_where_it_is_not_run(page: Page) -> None:
    assert page.text.count("\n```") == 2 * len(page.blocks), f"{page.name}: a block that is not closed, or indented"
    for block in page.blocks:
        assert block.language, f"{block.where}: no language"
        assert not block.not_run or reason_is_true(block), f"{block.where}: {block.not_run}"


def reason_is_true(block: Block) -> bool:
    """Some words, and what they name is there."""
    words = block.not_run
    files = re.findall(r"\b(?:tests|docs|examples)/[\w/.]+\b", words)
    targets = re.findall(r"`make ([a-z-]+)`", words)
    return len(words.split()) > 4 and all((ROOT / file).exists() for file in files) and set(targets) <= make_targets()


# -- the links --


@named(ALL)
def test_links_lead_somewhere(page: Page) -> None:
    for link in page.links:
        target, _, anchor = link.partition("#")
        if target.startswith("https://"):
            continue
        path = (page.path.parent / target).resolve() if target else page.path
        assert path.is_file(), f"{page.name}: {link}"
        if anchor:
            found = Page(str(path.relative_to(ROOT)))
            assert anchor in found.anchors, f"{page.name}: {link}"
        inside = path.is_relative_to(ROOT / "docs") or page.path.parent == ROOT
        assert inside, f"{page.name}: {link} is not among the pages"
    for name in page.pages_named:
        assert (ROOT / name).is_file() or (ROOT / "docs" / name).is_file(), f"{page.name}: {name}"


def test_the_overview_and_the_readme_lead_to_every_page() -> None:
    pages = {path.name for path in (ROOT / "docs").glob("*.md")}
    assert {link.partition("#")[0] for link in Page("docs/index.md").links} == pages - {"index.md"}
    linked = {link.partition("#")[0].removeprefix("docs/") for link in README.links}
    verbs = {"emitting", "loading", "querying", "metrics", "proving", "operating", "adopting"}
    assert linked >= {f"{verb}.md" for verb in verbs} | {"index.md"}


def test_the_site_is_built_strictly_and_fetches_nothing(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", tmp_path / "site"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    pages = list((tmp_path / "site").rglob("*.html"))
    assert {page.stem for page in pages} >= {page.path.stem for page in PAGES[1:]}
    for page in pages:
        assert not re.findall(r'<(?:script|link|img|iframe)[^>]+(?:src|href)="?(?:https?:)?//[^">]+', page.read_text())


# -- the tables --


def test_the_settings_table_is_that_of_the_code() -> None:
    rows = Page("docs/settings.md").table("| variable | argument | default | meaning |")
    table = {row[0].strip("`"): row for row in rows}
    assert set(table) == set(ENVIRONMENT) | LOADER_VARIABLES
    for variable, (setting, _) in ENVIRONMENT.items():
        assert table[variable][1] == f"`{setting}`"
    plain = EmitterSettings()
    for variable, row in table.items():
        if variable in ENVIRONMENT and row[2] not in ("", "none"):
            assert row[2] == f"`{getattr(plain, ENVIRONMENT[variable][0])}`", variable


def test_the_tables_of_rules_are_those_of_the_code() -> None:
    page = Page("docs/rules.md")
    words = {"reject": "rejected", "repair": "repaired"}
    of_load = [[f"`{rule.name}`", words[rule.severity], rule.says] for rule in read_rules()]
    assert page.table("| rule | the line is | because |") == of_load
    of_verify = [[f"`{name}`", severity, says] for name, severity, says in described()]
    assert page.table("| rule | severity | finding |") == of_verify
    known = {rule.name for rule in read_rules()} | {name for name, _, _ in described()}
    named_there = "".join(
        re.findall(r"`verify`(?: with the database)?: ((?:`\w+`(?:, )?)+)", Page("docs/operating.md").text)
    )
    assert {"hole", "row_missing"} <= set(re.findall(r"\w+", named_there)) <= known


def make_targets() -> set[str]:
    return set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def test_every_make_target_named_exists() -> None:
    text = "".join(page.text for page in ALL)
    found = set(re.findall(r"^make ([a-z][a-z-]*)|`make ([a-z][a-z-]*)", text, re.MULTILINE))
    assert {"demo", "test", "docs"} <= {first or second for first, second in found} <= make_targets()


def test_every_command_named_exists_and_every_command_is_named() -> None:
    table = README.table("| command | what it does |")
    listed = {word for row in table for word in re.findall(r"`tradetrail ([a-z]+)`", row[0])}
    commands = "".join(code for page in PAGES for code in page.code("sh"))
    shown = set(re.findall(r"^tradetrail ([a-z]+)", commands, re.MULTILINE))
    told = subprocess.run(
        [sys.executable, "-m", "loader", "--help"],
        capture_output=True,
        text=True,
        check=True,
        env={"NO_COLOR": "1", "COLUMNS": "200"},
    )
    there = set(re.findall(r"^\W*([a-z]+)  +\w", told.stdout, re.MULTILINE))
    assert listed == there
    assert shown <= there
