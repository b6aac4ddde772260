"""Settings: by argument, by environment, and what is impossible."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

import pytest

from emitter import AuditLog, DirectoryError, EmitterError, SettingError
from emitter.settings import ENVIRONMENT, EmitterSettings, settings_from_arguments, settings_from_environment


def test_the_environment_names_every_setting_that_is_no_callback() -> None:
    by_variable = {setting for setting, _ in ENVIRONMENT.values()}
    fields = set(EmitterSettings.__dataclass_fields__)
    assert fields - by_variable == {"on_loss"}


def test_values_of_the_environment_are_read() -> None:
    found = settings_from_environment(
        {
            "TRADETRAIL_DIR": "/log",
            "TRADETRAIL_SERVICE": "fox",
            "TRADETRAIL_RING_DIR": "/run/shm",
            "TRADETRAIL_RING_BYTES": "65536",
            "TRADETRAIL_SEGMENT_MAX_BYTES": "1000",
            "TRADETRAIL_SEGMENT_MAX_AGE_S": "1.5",
            "TRADETRAIL_FLUSH_INTERVAL_MS": "5",
            "TRADETRAIL_FSYNC_INTERVAL_MS": "50",
            "TRADETRAIL_MAX_LINE_BYTES": "4096",
            "TRADETRAIL_REDACT": "account, wallet",
            "TRADETRAIL_GROUP": "audit",
        }
    )
    assert found == EmitterSettings(
        directory=Path("/log"),
        service="fox",
        ring_dir=Path("/run/shm"),
        ring_bytes=65536,
        segment_max_bytes=1000,
        segment_max_age_s=1.5,
        flush_interval_ms=5,
        fsync_interval_ms=50,
        max_line_bytes=4096,
        redact=frozenset({"account", "wallet"}),
        group="audit",
    )


def test_opentelemetrys_variables_are_read() -> None:
    found = settings_from_environment(
        {
            "OTEL_SERVICE_NAME": "fox",
            "OTEL_RESOURCE_ATTRIBUTES": "service.name=other, deployment.environment=prod%2Ceu,broken",
            "OTEL_SDK_DISABLED": "True",
            "OTEL_BLRP_SCHEDULE_DELAY": "250",
        }
    )
    assert found.service == "fox"
    assert found.resource == {"service.name": "other", "deployment.environment": "prod,eu"}
    assert found.disabled
    assert found.flush_interval_ms == 250
    named = settings_from_environment({"OTEL_RESOURCE_ATTRIBUTES": "service.name=other"})
    assert named.service == "other"
    assert not settings_from_environment({"OTEL_SDK_DISABLED": "false"}).disabled


def test_ours_win_over_opentelemetrys_and_arguments_win_over_both() -> None:
    environ = {
        "OTEL_SERVICE_NAME": "otel",
        "OTEL_BLRP_SCHEDULE_DELAY": "1000",
        "TRADETRAIL_SERVICE": "ours",
        "TRADETRAIL_FLUSH_INTERVAL_MS": "7",
    }
    assert settings_from_environment(environ).service == "ours"
    assert settings_from_environment(environ).flush_interval_ms == 7
    assert settings_from_environment(environ, service="given", flush_interval_ms=9).service == "given"
    assert settings_from_environment({**environ, "TRADETRAIL_SERVICE": ""}).service == "otel"


def test_an_unknown_name_is_a_warning_that_names_it() -> None:
    with pytest.warns(UserWarning, match=r"unknown setting in the environment: TRADETRAIL_RING_BYTE$"):
        settings_from_environment({"TRADETRAIL_RING_BYTE": "1"})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        settings_from_environment({"TRADETRAIL_DSN": "postgresql://", "PATH": "/bin"})
    with pytest.raises(SettingError, match="unknown setting: ringbytes; there are directory"):
        settings_from_arguments(ringbytes=1)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ring_bytes", 16 * 1024 - 1),
        ("ring_bytes", 1e6),
        ("ring_bytes", True),
        ("ring_bytes", "65536"),
        ("segment_max_bytes", 199),
        ("max_line_bytes", 511),
        ("segment_max_age_s", 0),
        ("segment_max_age_s", float("nan")),
        ("flush_interval_ms", 0),
        ("flush_interval_ms", float("inf")),
        ("fsync_interval_ms", -1),
        ("service", ""),
        ("service", "  "),
        ("service", 5),
        ("directory", None),
        ("ring_dir", 7),
        ("redact", 7),
        ("resource", ["a"]),
        ("resource", {"a": "x" * 20_000}),
    ],
)
def test_impossible_values_are_named(name: str, value: Any) -> None:
    with pytest.raises(SettingError, match=name) as caught:
        settings_from_arguments(**{name: value})
    assert isinstance(caught.value, EmitterError)
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize("variable", ["TRADETRAIL_RING_BYTES", "OTEL_BLRP_SCHEDULE_DELAY"])
def test_a_variable_that_cannot_be_read_is_named(variable: str) -> None:
    with pytest.raises(SettingError, match=variable):
        settings_from_environment({variable: "many"})


def test_a_line_fits_a_small_ring() -> None:
    assert settings_from_arguments(ring_bytes=16 * 1024).max_line_bytes == 4096
    assert settings_from_arguments(redact="account").redact == {"account"}


def test_a_directory_that_cannot_be_used_is_said_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for directory in (tmp_path / "file", tmp_path / "file" / "log", f"{tmp_path}/a\0b"):
        with pytest.raises(DirectoryError, match="cannot be used for the log") as caught:
            AuditLog(directory)
        assert isinstance(caught.value, OSError)
    with pytest.raises(DirectoryError, match="there is no group 'nobody-has-this'"):
        AuditLog(tmp_path / "log", group="nobody-has-this")


@pytest.mark.skipif(os.getuid() == 0, reason="root may write everywhere")
def test_a_directory_without_permission_is_said(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(DirectoryError, match="ermission"):
        AuditLog(tmp_path / "log")


def test_memory_that_cannot_be_had_is_said(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="ring_bytes"):
        AuditLog(tmp_path, ring_bytes=2**62)
