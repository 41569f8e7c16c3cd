"""A headless Chromium by chromedriver, spoken to in the W3C's WebDriver protocol, which is JSON over HTTP."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import pytest

PATIENCE_SECONDS = 120
CLICK = """
const [text, exact] = arguments;
const buttons = [...document.querySelectorAll('button')].filter(b => !b.disabled && b.getAttribute('aria-disabled') != 'true');
const found = buttons.find(b => exact ? b.innerText.trim() == text : b.innerText.trim().startsWith(text));
if (found) found.click();
return !!found;
"""
LINK = """
const found = [...document.querySelectorAll('main a')].find(a => a.textContent.trim() == arguments[0]);
if (found) found.click();
return !!found;
"""
BUTTONS = (
    "return [...document.querySelectorAll('button')].map(b => b.innerText.trim() + (b.disabled ? ' (disabled)' : ''))"
)


@dataclass
class Browser:
    """A session."""

    address: str

    def go(self, url: str) -> None:
        _call("POST", f"{self.address}/url", {"url": url})

    def click(self, text: str, exact: bool = True) -> None:
        """Click the button that says so, once it can be clicked."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not self.run(CLICK, text, exact):
            # The UI greets whoever comes for the first time.
            self.run(CLICK, "Skip", True)
            assert time.monotonic() < deadline, f"no button {text!r}, but {self.run(BUTTONS)}"
            time.sleep(0.5)

    def click_link(self, text: str) -> None:
        """Click the first link that says so."""
        self.wait_for(LINK, text)

    def wait_for(self, script: str, *arguments: Any) -> None:
        """Run a script until it returns what is true."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not self.run(script, *arguments):
            assert time.monotonic() < deadline, f"never true: {script.strip()} {arguments}"
            time.sleep(0.05)

    def run(self, script: str, *arguments: Any) -> Any:
        return _call("POST", f"{self.address}/execute/sync", {"script": script, "args": list(arguments)})

    def run_async(self, script: str, *arguments: Any) -> Any:
        """Run a script until it calls its last argument, and return what it was called with."""
        return _call("POST", f"{self.address}/execute/async", {"script": script, "args": list(arguments)})


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser; without one on this machine the test is skipped."""
    binary, driver = shutil.which("chromium") or shutil.which("google-chrome"), shutil.which("chromedriver")
    if not binary or not driver:
        pytest.skip("no chromium or no chromedriver here (apt install chromium chromium-driver)")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = f"http://127.0.0.1:{port}"
    process = subprocess.Popen([driver, f"--port={port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not _ready(server):
            assert time.monotonic() < deadline, "chromedriver does not answer"
            time.sleep(0.2)
        switches = [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--window-size=1500,1100",
        ]
        chrome = {"binary": binary, "args": switches}
        wanted = {"alwaysMatch": {"browserName": "chrome", "goog:chromeOptions": chrome}}
        session = _call("POST", f"{server}/session", {"capabilities": wanted})["sessionId"]
        try:
            yield Browser(f"{server}/session/{session}")
        finally:
            _call("DELETE", f"{server}/session/{session}")
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(10)


def _ready(server: str) -> bool:
    try:
        return bool(_call("GET", f"{server}/status")["ready"])
    except OSError:
        return False


def _call(method: str, address: str, body: Any = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(address, data, {"content-type": "application/json"}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE_SECONDS) as answer:
            return json.load(answer)["value"]
    except urllib.error.HTTPError as error:
        raise AssertionError(error.read().decode()[:600]) from error
