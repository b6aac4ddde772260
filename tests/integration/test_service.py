"""The systemd unit that is shipped: it starts what there is, with what that needs."""

from __future__ import annotations

import configparser
import shlex
import shutil
import subprocess
from importlib.resources import files
from pathlib import Path

import pytest
from typer.main import get_command

from loader import watch
from loader.cli import app
from tests.command import SCRIPT, tradetrail

UNIT = Path(str(files("loader"))) / "examples" / "tradetrail-watch.service"


@pytest.fixture
def service() -> configparser.SectionProxy:
    parser = configparser.RawConfigParser(strict=True)  # a name that stands twice is an error
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read_string(UNIT.read_text())
    return parser["Service"]


def test_what_it_starts_is_a_command_with_its_options(service: configparser.SectionProxy) -> None:
    program, *words = shlex.split(service["ExecStart"])
    assert Path(program).is_absolute()
    assert Path(program).name == "tradetrail"
    command = get_command(app)
    with command.make_context("tradetrail", words, resilient_parsing=False) as context:
        name, found, rest = command.resolve_command(context, [*context._protected_args, *context.args])
        assert name == "watch"
        with found.make_context(name, rest, parent=context) as given:
            assert given.params["directory"] == Path("/var/lib/bot/audit")
            assert given.params["metrics_port"] == 9464
            assert given.params["metrics_host"] == "127.0.0.1"
            assert given.params["dsn"] is None


def test_no_password_stands_where_others_may_read_it(service: configparser.SectionProxy) -> None:
    assert "dsn" not in service["ExecStart"]
    assert "Environment" not in service
    assert not service["EnvironmentFile"].startswith("-")  # without a DSN it would start a database of its own


def test_a_wrong_configuration_is_not_tried_again(service: configparser.SectionProxy, tmp_path: Path) -> None:
    assert service["Restart"] == "on-failure"
    said = tradetrail("watch", "--dir", tmp_path, "--dsn", "postgresql://u:p/w@h/d")
    assert str(said.returncode) in service["RestartPreventExitStatus"].split()


def test_it_may_end_in_its_own_time(service: configparser.SectionProxy) -> None:
    assert int(service["TimeoutStopSec"]) > 2 * (watch._GRACE_S + 2.0)  # the batch in flight, and the connection


def test_its_walls_leave_what_recovery_needs(service: configparser.SectionProxy) -> None:
    words = shlex.split(service["ExecStart"])
    log = Path(words[words.index("--dir") + 1])
    assert any(log.is_relative_to(path.lstrip("-+")) for path in service["ReadWritePaths"].split())
    assert service["RemoveIPC"] == "no"
    for wall in ("DynamicUser", "PrivateDevices", "TemporaryFileSystem", "InaccessiblePaths", "ProcSubset"):
        assert wall not in service


def test_systemd_understands_all_of_it(tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("there is no systemd-analyze; on Debian: apt-get install systemd")
    mine = tmp_path / UNIT.name
    mine.write_text(UNIT.read_text().replace("/opt/tradetrail/bin/tradetrail", str(SCRIPT)))
    done = subprocess.run(
        [analyze, "verify", "--man=no", mine], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
