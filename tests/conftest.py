"""Fixtures live in ``tests/plugins``, one file per thing they provide."""

import signal

pytest_plugins = ["tests.plugins.server", "tests.plugins.postgres", "tests.plugins.figures"]

# Under nohup, or in the background of a script, signals are ignored, by what the tests start too: it would not end.
for _signum, _handler in (
    (signal.SIGINT, signal.default_int_handler),
    (signal.SIGHUP, signal.SIG_DFL),
    (signal.SIGTERM, signal.SIG_DFL),
):
    if signal.getsignal(_signum) is signal.SIG_IGN:
        signal.signal(_signum, _handler)
