"""``make bench-load``: the loader beside its rivals, and the lag of ``watch``, in one run on the same input."""
