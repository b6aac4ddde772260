"""All benchmarks, one after the other: ``python -m benchmarks [--quick] [--json]``."""

from __future__ import annotations

from . import emit
from .load import __main__ as load

if __name__ == "__main__":
    emit.main()
    load.main()
