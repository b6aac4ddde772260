"""Runs a command and tells what it cost, as a last line of JSON after the command's own output.

    python -I -S cost.py COMMAND [ARGUMENT]...

A small process of its own: Linux counts the memory of who starts a process as that process's (``ru_maxrss`` of
getrusage(2)), so a large parent would hide what a small child needs. Knows nothing but the standard library.
"""

import json
import os
import subprocess
import sys
import time


def main() -> None:
    begun = time.perf_counter()
    process = subprocess.Popen(sys.argv[1:])
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - begun
    figures = {
        "code": os.waitstatus_to_exitcode(status),
        "seconds": seconds,
        "cpu_s": usage.ru_utime + usage.ru_stime,
        "peak_bytes": usage.ru_maxrss * 1024,  # the largest of it and the processes that it waited for
    }
    print("\n" + json.dumps(figures), flush=True)


if __name__ == "__main__":
    main()
