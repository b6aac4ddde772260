"""Fixtures live in ``tests/plugins``, one file per thing they provide."""

pytest_plugins = ["tests.plugins.server", "tests.plugins.postgres"]
