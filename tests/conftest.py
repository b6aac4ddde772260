"""Fixtures live in ``tests/plugins``, one file per thing they provide."""

import signal

import pytest

pytest_plugins = ["tests.plugins.server", "tests.plugins.postgres", "tests.plugins.figures"]

# Under nohup, or in the background of a script, signals are ignored, by what the tests start too: it would not end.
for _signum, _handler in (
    (signal.SIGINT, signal.default_int_handler),
    (signal.SIGHUP, signal.SIG_DFL),
    (signal.SIGTERM, signal.SIG_DFL),
):
    if signal.getsignal(_signum) is signal.SIG_IGN:
        signal.signal(_signum, _handler)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Of long tests those begin first that may take the longest: else the last of them runs alone."""
    if config.option.markexpr == "long":
        items.sort(key=_limit, reverse=True)


def _limit(item: pytest.Item) -> float:
    marker = item.get_closest_marker("timeout")
    return float(marker.args[0]) if marker else 0.0
