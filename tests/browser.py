"""Opens a page in the machine's headless Chromium and says what came of it, over the DevTools protocol.

The protocol's messages go through two pipes (``--remote-debugging-pipe``), each ended by a NUL: no port, no driver.
Each browser has an empty profile of its own and ends with its context.
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import select
import shutil
import signal
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import axe_core_python

PROGRAM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
AXE = (Path(axe_core_python.__file__).parent / "axe.min.js").read_text(encoding="utf-8")
_FLAGS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--remote-debugging-pipe"),
]
_DEADLINE_S = 60.0


class Browser:
    """A running Chromium. Use as a context manager; one page at a time."""

    def __enter__(self) -> Self:
        assert PROGRAM is not None
        self._profile = tempfile.mkdtemp(prefix="tradetrail-chromium-")
        asked, self._ask = os.pipe()
        self._answers, answers = os.pipe()
        # Chromium reads from 3 and writes to 4: its ends are moved out of the way of these numbers first.
        theirs = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 10) for fd in (asked, answers)]
        self._pid = os.posix_spawn(
            PROGRAM,
            [PROGRAM, *_FLAGS, f"--user-data-dir={self._profile}", "about:blank"],
            {**os.environ, "HOME": self._profile},
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
                (os.POSIX_SPAWN_DUP2, theirs[0], 3),
                (os.POSIX_SPAWN_DUP2, theirs[1], 4),
            ],
            setpgroup=0,
        )
        for fd in (asked, answers, *theirs):
            os.close(fd)
        self._numbers = 0
        self._read = b""
        self.events: list[dict[str, Any]] = []
        self._session: str | None = None
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)
        os.close(self._ask)
        os.close(self._answers)
        shutil.rmtree(self._profile, ignore_errors=True)

    def send(self, method: str, **params: Any) -> dict[str, Any]:
        """Call a method; its result. What is told meanwhile goes into ``events``."""
        self._numbers += 1
        message: dict[str, Any] = {"id": self._numbers, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        left = json.dumps(message).encode() + b"\0"
        while left:
            left = left[os.write(self._ask, left) :]
        deadline = time.monotonic() + _DEADLINE_S
        while True:
            told = self._next(deadline)
            if told.get("id") == self._numbers:
                assert "error" not in told, told
                return dict(told["result"])
            self.events.append(told)

    def _next(self, deadline: float) -> dict[str, Any]:
        while b"\0" not in self._read:
            ready, _, _ = select.select([self._answers], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, "Chromium does not answer"
            more = os.read(self._answers, 1 << 20)
            assert more, "Chromium has ended"
            self._read += more
        text, _, self._read = self._read.partition(b"\0")
        return dict(json.loads(text))

    def evaluate(self, expression: str) -> Any:
        """The value of an expression in the page; a promise is waited for."""
        found = self.send("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def until(self, expression: str) -> Any:
        """The first value of an expression that is none of nothing; it is asked anew with each picture."""
        return self.evaluate(
            "new Promise((found, missed) => { const end = performance.now() + 10000; const look = () => {"
            f" const value = {expression}; if (value) found(value);"
            " else if (performance.now() > end) missed(new Error('it never came')); else requestAnimationFrame(look);"
            " }; look(); })"
        )

    def open(self, path: Path, *, width: int = 1000, height: int = 800, dark: bool = False) -> float:
        """Open a report and wait until its plots are drawn; how many seconds that took."""
        self.events.clear()
        self.look(width, height, dark=dark)
        started = time.monotonic()
        self.send("Page.navigate", url=path.resolve().as_uri())
        while not any(event.get("method") == "Page.loadEventFired" for event in self.events):
            self.events.append(self._next(started + _DEADLINE_S))
        self.evaluate("window.plotsDrawn.then(() => null)")
        return time.monotonic() - started

    def look(self, width: int, height: int = 800, *, dark: bool = False) -> None:
        """Change the size of the window, and what its user prefers."""
        self.send("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.send("Emulation.setEmulatedMedia", features=[scheme])

    def complaints(self) -> list[str]:
        """What the console said, uncaught errors, and violations of the page's policy."""
        found = []
        for event in self.events:
            params = event.get("params", {})
            if event.get("method") == "Runtime.exceptionThrown":
                found.append(json.dumps(params["exceptionDetails"]))
            elif event.get("method") == "Runtime.consoleAPICalled":
                found.append(json.dumps(params["args"]))
            elif event.get("method") == "Log.entryAdded":
                found.append(params["entry"]["text"])
        return found

    def requests(self) -> list[str]:
        """What was asked for, the page itself left out."""
        urls = [
            event["params"]["request"]["url"]
            for event in self.events
            if event.get("method") == "Network.requestWillBeSent" and event["params"].get("type") != "Document"
        ]
        return [url for url in urls if not url.startswith("data:")]

    def violations(self) -> list[str]:
        """What axe-core has against the page (deque.com/axe), each as its rule and where."""
        self.evaluate(f"{AXE}; null")
        found = self.evaluate("axe.run().then((found) => found.violations)")
        return [f"{one['id']}: {node['html'][:200]} {node['any']}" for one in found for node in one["nodes"]]

    def picture(self, path: Path, *, whole: bool = True) -> Path:
        """A PNG of the page."""
        found = self.send("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(found["data"]))
        return path

    def printed(self, path: Path) -> Path:
        """A PDF of the page as it is printed on A4."""
        found = self.send("Page.printToPDF", paperWidth=8.27, paperHeight=11.69, printBackground=False)
        path.write_bytes(base64.b64decode(found["data"]))
        return path
