"""What an error says is to be installed, from a checkout and from a wheel."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import pytest

from loader.extras import installing


def test_a_checkout_is_installed_from_where_it_lies(tmp_path: Path) -> None:
    root = tmp_path / "my bots"
    root.mkdir()
    assert shlex.split(installing("report", root))[1:] == ["install", "tradetrail[report]"]
    (root / "pyproject.toml").touch()
    assert shlex.split(installing("report", root))[1:] == ["install", "-e", f"{root}[report]"]


def test_it_is_the_pip_of_this_interpreter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    pip = tmp_path / "pip"
    assert installing("spark", tmp_path) == "pip install 'tradetrail[spark]'"
    pip.touch(mode=0o755)
    assert installing("spark", tmp_path) == "pip install 'tradetrail[spark]'"
    monkeypatch.setenv("PATH", "")
    assert installing("spark", tmp_path) == f"{pip} install 'tradetrail[spark]'"
