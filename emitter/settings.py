"""The emitter's settings: one frozen object, made from arguments or from the environment."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from .errors import SettingError

if TYPE_CHECKING:
    from .core import Stats

KIB = 1024
MIB = 1024 * KIB

# A ring holds at least some lines of the greatest length, and the space kept for the lines that declare losses.
MIN_RING_BYTES = 16 * KIB
MIN_SEGMENT_BYTES = 200
MIN_LINE_BYTES = 512
# Longer ones cannot be waited for; nobody means them.
MAX_INTERVAL_MS = 3_600_000
MAX_RESOURCE_BYTES = 16 * KIB


@dataclass(frozen=True, slots=True, kw_only=True)
class EmitterSettings:
    """Settings of one ``AuditLog``; units stand in the names."""

    directory: Path = Path("var/audit")
    service: str = "bot"
    ring_dir: Path = Path("/dev/shm")  # noqa: S108  tmpfs on every Linux; another kind of file system is refused
    ring_bytes: int = 32 * MIB
    segment_max_bytes: int = 64 * MIB
    segment_max_age_s: float = 3600.0
    flush_interval_ms: float = 20.0
    fsync_interval_ms: float = 1000.0
    max_line_bytes: int = 64 * KIB
    redact: frozenset[str] = frozenset()
    group: str | None = None
    seal_key: Path | None = None
    disabled: bool = False
    resource: Mapping[str, str] = field(default_factory=dict)
    on_loss: Callable[[Stats], None] | None = None

    def __post_init__(self) -> None:
        _bytes("ring_bytes", self.ring_bytes, MIN_RING_BYTES)
        _bytes("segment_max_bytes", self.segment_max_bytes, MIN_SEGMENT_BYTES)
        _bytes("max_line_bytes", self.max_line_bytes, MIN_LINE_BYTES)
        _between("segment_max_age_s", self.segment_max_age_s, 0.001, float("inf"))
        _between("flush_interval_ms", self.flush_interval_ms, 1, MAX_INTERVAL_MS)
        _between("fsync_interval_ms", self.fsync_interval_ms, 1, MAX_INTERVAL_MS)
        if self.max_line_bytes > self.ring_bytes // 4:
            object.__setattr__(self, "max_line_bytes", self.ring_bytes // 4)
        if not isinstance(self.service, str) or not self.service.strip():
            raise SettingError("service: a name is needed, for example service='fox-bot'")


def _bytes(name: str, value: object, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise SettingError(f"{name}: {value!r} is not a whole number of at least {least}")


def _between(name: str, value: object, least: float, most: float) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not least <= value <= most:
        raise SettingError(f"{name}: {value!r} is not a number from {least:g} to {most:g}")


def _resource(text: str) -> dict[str, str]:
    """``OTEL_RESOURCE_ATTRIBUTES``: ``key=value,key=value``, values percent-encoded (OpenTelemetry's resource SDK)."""
    pairs = (part.partition("=") for part in text.split(",") if "=" in part)
    return {key.strip(): unquote(value.strip()) for key, _, value in pairs}


def _flag(text: str) -> bool:
    return text.strip().lower() in {"1", "true", "yes", "on"}


# Variable -> (setting, reader). The table in docs/settings.md is held to this one by a test.
ENVIRONMENT: dict[str, tuple[str, Callable[[str], Any]]] = {
    "TRADETRAIL_DIR": ("directory", Path),
    "TRADETRAIL_SERVICE": ("service", str),
    "TRADETRAIL_RING_DIR": ("ring_dir", Path),
    "TRADETRAIL_RING_BYTES": ("ring_bytes", int),
    "TRADETRAIL_SEGMENT_MAX_BYTES": ("segment_max_bytes", int),
    "TRADETRAIL_SEGMENT_MAX_AGE_S": ("segment_max_age_s", float),
    "TRADETRAIL_FLUSH_INTERVAL_MS": ("flush_interval_ms", float),
    "TRADETRAIL_FSYNC_INTERVAL_MS": ("fsync_interval_ms", float),
    "TRADETRAIL_MAX_LINE_BYTES": ("max_line_bytes", int),
    "TRADETRAIL_REDACT": ("redact", lambda text: text.replace(",", " ").split()),
    "TRADETRAIL_GROUP": ("group", str),
    "TRADETRAIL_SEAL_KEY": ("seal_key", Path),
    "OTEL_SERVICE_NAME": ("service", str),
    "OTEL_RESOURCE_ATTRIBUTES": ("resource", _resource),
    "OTEL_SDK_DISABLED": ("disabled", _flag),
    "OTEL_BLRP_SCHEDULE_DELAY": ("flush_interval_ms", float),
}
# The loader's own variables: known here only so that they are not called unknown.
LOADER_VARIABLES = frozenset(
    {
        "TRADETRAIL_BATCH_BYTES",
        "TRADETRAIL_DEBUG",
        "TRADETRAIL_DSN",
        "TRADETRAIL_DSN_FILE",
        "TRADETRAIL_METRICS_HOST",
        "TRADETRAIL_METRICS_PORT",
        "TRADETRAIL_TEST_DSN",
        "TRADETRAIL_TEST_SCHEMA",
        "TRADETRAIL_BENCH_DSN",
    }
)


def settings_from_environment(environ: Mapping[str, str] | None = None, **given: Any) -> EmitterSettings:
    """Settings by ``TRADETRAIL_*`` and OpenTelemetry's variables; arguments given win over both.

    ``TRADETRAIL_*`` wins over ``OTEL_*``. An unknown ``TRADETRAIL_*`` name is a warning that names it; a value
    that cannot be read is a :class:`SettingError`.
    """
    environ = os.environ if environ is None else environ
    values: dict[str, Any] = {}
    for variable, (setting, read) in reversed(ENVIRONMENT.items()):
        text = environ.get(variable, "")
        if text:
            try:
                values[setting] = read(text)
            except ValueError as error:
                raise SettingError(f"{variable}: {text!r} cannot be read: {error}") from error
    for variable in environ:
        known = variable in ENVIRONMENT or variable in LOADER_VARIABLES
        if variable.startswith("TRADETRAIL_") and not known:
            warnings.warn(f"unknown setting in the environment: {variable}", stacklevel=2)
    if "service" not in values and "service.name" in values.get("resource", {}):
        values["service"] = values["resource"]["service.name"]
    return settings_from_arguments(**(values | given))


def settings_from_arguments(**given: Any) -> EmitterSettings:
    """Settings from keyword arguments; an unknown name is a :class:`SettingError`."""
    known = {f.name for f in fields(EmitterSettings)}
    unknown = sorted(set(given) - known)
    if unknown:
        raise SettingError(f"unknown setting: {', '.join(unknown)}; there are {', '.join(sorted(known))}")
    made: tuple[tuple[str, Callable[[Any], object]], ...] = (
        ("directory", Path),
        ("ring_dir", Path),
        ("seal_key", lambda given: None if given is None else Path(given)),
        ("redact", _names),
        ("resource", _texts),
    )
    for name, make in made:
        if name in given:
            try:
                given[name] = make(given[name])
            except (TypeError, ValueError, AttributeError) as error:
                raise SettingError(f"{name}: {given[name]!r} cannot be used: {error}") from error
    return EmitterSettings(**given)


def _names(value: Iterable[str]) -> frozenset[str]:
    """Field names; one alone may be given as it is."""
    return frozenset([value] if isinstance(value, str) else (str(name) for name in value))


def _texts(value: Mapping[str, object]) -> dict[str, str]:
    texts = {str(key): str(item) for key, item in value.items()}
    size = sum(len(key) + len(item) for key, item in texts.items())
    if size > MAX_RESOURCE_BYTES:
        raise ValueError(f"{size} characters in all, {MAX_RESOURCE_BYTES} are the most")
    return texts
