"""A headless browser for tests: Chromium over its debugging pipe, with no driver and no package."""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Any

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
    "--disable-extensions", "--disable-background-networking", "--disable-component-update", "--hide-scrollbars",
    "--remote-debugging-pipe",
)  # fmt: skip


class Browser:
    """A page of Chromium; a context manager."""

    def __init__(self, profile: Path, *, width: int = 1280, height: int = 900, scale: float = 1.0) -> None:
        """Start one.

        Args:
            profile: A folder for its files.
            width: Of the page, in CSS pixels.
            height: Of the page, in CSS pixels.
            scale: Pixels of a screenshot per CSS pixel.
        """
        to_child, self._to_child = os.pipe()
        self._from_child, from_child = os.pipe()

        # Chromium reads commands from descriptor 3 and writes responses to 4. A pipe may have one of these numbers, so
        # duplicate both ends first.
        command = [str(CHROMIUM), *FLAGS, f"--user-data-dir={profile}", "about:blank"]
        shell = f'exec "$0" "$@" 3<&{to_child} 4>&{from_child}'
        self._process = subprocess.Popen(
            ["bash", "-c", shell, *command],
            pass_fds=(to_child, from_child),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        os.close(to_child)
        os.close(from_child)
        self._buffer = b""
        self._number = 0
        self.events: list[dict[str, Any]] = []
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        self._session = ""
        self._session = self._call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self._call(f"{domain}.enable")
        self.resize(width, height, scale)

    def resize(self, width: int, height: int, scale: float = 1.0, *, is_phone: bool = False) -> None:
        """Give the page another size, in CSS pixels."""
        self._call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=scale, mobile=is_phone
        )

    def prefer(self, scheme: str) -> None:
        """Have the page think that the user prefers "dark" or "light"."""
        feature = {"name": "prefers-color-scheme", "value": scheme}
        self._call("Emulation.setEmulatedMedia", features=[feature])

    def open(self, url: str) -> None:
        """Go to a page and wait until it is loaded."""
        self._call("Page.navigate", url=url)
        self.wait(f"location.href === {json.dumps(url)} && document.readyState === 'complete'")

    def run(self, script: str) -> Any:
        """The value of an expression of JavaScript, awaited."""
        response = self._call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in response:
            raise AssertionError(response["exceptionDetails"]["exception"].get("description", script))
        return response["result"].get("value")

    def wait(self, script: str, timeout_s: float = 20.0) -> Any:
        """The value of an expression as soon as it is true."""
        deadline = time.monotonic() + timeout_s
        while not (value := self.run(script)):
            if time.monotonic() > deadline:
                raise AssertionError(f"not within {timeout_s} s: {script}; page: {self.run('document.body.innerText')}")
            time.sleep(0.1)
        return value

    def click(self, selector: str) -> None:
        """Press the mouse in the middle of an element."""
        x, y = self.run(
            f"(() => {{ const node = document.querySelector({json.dumps(selector)}); node.scrollIntoView(); "
            "const r = node.getBoundingClientRect(); return [r.x + r.width / 2, r.y + r.height / 2] })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self._call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def press(self, key: str) -> None:
        """Press a key that has a name, such as ArrowLeft, in what has the focus."""
        codes = {"ArrowLeft": 37, "ArrowRight": 39, "Enter": 13, "Tab": 9}
        for kind in ("keyDown", "keyUp"):
            self._call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=codes[key])

    def screenshot(self, path: Path, *, kind: str = "png", quality: int | None = None) -> None:
        """Write what is seen to a file."""
        options = {"quality": quality} if quality else {}
        data = self._call("Page.captureScreenshot", format=kind, **options)["data"]
        path.write_bytes(base64.b64decode(data))

    def complaints(self) -> list[str]:
        """Errors of scripts and refused resources so far."""
        self.run("0")
        found = []
        for event in self.events:
            if event["method"] == "Runtime.exceptionThrown":
                found.append(event["params"]["exceptionDetails"]["text"])
            if event["method"] == "Log.entryAdded" and event["params"]["entry"]["level"] == "error":
                found.append(event["params"]["entry"]["text"])
        return found

    def close(self) -> None:
        """End the browser."""
        try:
            self._call("Browser.close")
        except (OSError, AssertionError):
            self._process.kill()
        self._process.wait(timeout=20)
        os.close(self._to_child)
        os.close(self._from_child)

    def _call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command and wait for its response; events that come before it are kept."""
        self._number += 1
        session = {"sessionId": self._session} if getattr(self, "_session", "") and "Browser" not in method else {}
        message = {"id": self._number, "method": method, "params": parameters, **session}
        os.write(self._to_child, json.dumps(message).encode() + b"\0")
        while True:
            response = json.loads(self._read_message())
            if response.get("id") == self._number:
                if "error" in response:
                    raise AssertionError(f"{method}: {response['error']['message']}")
                result: dict[str, Any] = response["result"]
                return result
            self.events.append(response)

    def _read_message(self, timeout_s: float = 60.0) -> bytes:
        while b"\0" not in self._buffer:
            if not select.select([self._from_child], [], [], timeout_s)[0]:
                raise AssertionError(f"the browser did not respond within {timeout_s} s")
            part = os.read(self._from_child, 1 << 20)
            if not part:
                raise OSError("the browser ended")
            self._buffer += part
        message, _, self._buffer = self._buffer.partition(b"\0")
        return message

    def __enter__(self) -> Browser:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
