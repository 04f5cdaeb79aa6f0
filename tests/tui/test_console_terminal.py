"""The console in a real terminal (tmux) and in a real browser (headless Chromium through --web)."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from bus_site import free_port
from console_site import PATIENCE_S, ConsoleSite, profile_of
from service_site import ENVIRONMENT

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def eventually(condition: Callable[[], Any], what: Callable[[], str]) -> Any:
    deadline = time.monotonic() + PATIENCE_S
    while not (found := condition()):
        assert time.monotonic() < deadline, f"it did not come to pass:\n{what()}"
        time.sleep(0.1)
    return found


def arguments(site: ConsoleSite) -> list[str]:
    profile = profile_of(site, name="terminal")
    return ["--url", profile.url, "--token-file", profile.token_file, "--ca", profile.ca]


def test_in_a_real_terminal(console_site: ConsoleSite, tmp_path: Path) -> None:
    if not shutil.which("tmux"):
        pytest.skip("tmux is not installed (setup/system-packages test installs it)")
    socket = str(tmp_path / "tmux")

    def tmux(*words: str) -> str:
        return subprocess.run(["tmux", "-S", socket, *words], check=True, capture_output=True, text=True).stdout

    def screen() -> str:
        return tmux("capture-pane", "-p", "-t", "console")

    command = [sys.executable, "-m", "clientagent.command", "console", *arguments(console_site), "--no-remember"]
    # A size that the environment names is the one of another terminal, or of another time.
    variables = {**ENVIRONMENT, "COLUMNS": "80", "LINES": "24"}
    variables |= {"XDG_CONFIG_HOME": str(tmp_path), "TERM": "xterm-256color", "COLORTERM": "truecolor"}
    subprocess.run(
        [
            "tmux",
            "-S",
            socket,
            "-f",
            "/dev/null",
            "new-session",
            "-d",
            "-s",
            "console",
            "-x",
            "80",
            "-y",
            "24",
            *command,
        ],
        check=True,
        env=variables,
    )
    try:
        tmux("set-option", "-g", "remain-on-exit", "on")
        eventually(lambda: "● live" in screen() and "gpu-b01" in screen(), screen)
        tmux("send-keys", "-t", "console", "5")
        eventually(lambda: "gpu.temperature" in screen() and "What it means" in screen(), screen)
        tmux("resize-window", "-t", "console", "-x", "70", "-y", "20")
        eventually(lambda: "The console needs 80×24" in screen(), screen)
        tmux("resize-window", "-t", "console", "-x", "160", "-y", "50")
        eventually(lambda: "Check the host's fans" in screen(), screen)

        def left() -> bool:
            tmux("send-keys", "-t", "console", "q")  # again and again: one that meets a screen just closing is lost
            return "pane is dead" in screen().lower()

        eventually(left, screen)
        assert "Traceback" not in screen()
    finally:
        subprocess.run(["tmux", "-S", socket, "kill-server"], check=False)


async def browse(url: str, folder: Path) -> str:
    """What the page's terminal is given to draw, heard through the browser's own protocol until the pool is there."""
    import aiohttp

    port = free_port()
    log = (folder / "chromium.log").open("w")
    browser = subprocess.Popen(
        [
            *(str(CHROMIUM), "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"),
            *(f"--remote-debugging-port={port}", f"--user-data-dir={folder}/profile", "--window-size=1400,900", url),
        ],
        stdout=log,
        stderr=log,
        env={**os.environ, "HOME": str(folder)},
    )
    try:
        async with aiohttp.ClientSession() as session:
            deadline = time.monotonic() + PATIENCE_S
            while True:
                try:
                    async with session.get(f"http://127.0.0.1:{port}/json") as answer:
                        pages = [each for each in await answer.json() if each["type"] == "page"]
                    if pages:
                        break
                except aiohttp.ClientError:
                    pass
                assert time.monotonic() < deadline, (folder / "chromium.log").read_text()[-2000:]
                await asyncio.sleep(0.2)
            heard = ""
            async with session.ws_connect(pages[0]["webSocketDebuggerUrl"], max_msg_size=0) as devtools:
                for number, method in enumerate(("Network.enable", "Page.enable", "Page.reload"), 1):
                    await devtools.send_json({"id": number, "method": method})
                while time.monotonic() < deadline and not ("gpu-b01" in heard and "live" in heard):
                    told = json.loads((await devtools.receive(timeout=PATIENCE_S)).data)
                    if told.get("method") == "Network.webSocketFrameReceived":
                        frame = told["params"]["response"]
                        content = frame["payloadData"]
                        # Binary frames (opcode 2) come as base64: the terminal's output, which xterm.js draws.
                        heard += base64.b64decode(content).decode(errors="replace") if frame["opcode"] == 2 else content
                return heard
    finally:
        browser.terminate()
        browser.wait(30)
        log.close()


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed (setup/system-packages test installs it)")
def test_in_a_browser(console_site: ConsoleSite) -> None:
    port = free_port()
    command = [sys.executable, "-m", "clientagent.command", "console", *arguments(console_site), "--web"]
    with tempfile.TemporaryDirectory(prefix="gpuferry-web-") as name:
        folder = Path(name)
        with (folder / "web.log").open("w") as log:
            served = subprocess.Popen(
                [*command, "--listen", f"127.0.0.1:{port}"],
                stdout=log,
                stderr=log,
                env={**ENVIRONMENT, "XDG_CONFIG_HOME": name},
            )
        try:

            def up() -> bool:
                try:
                    with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=10) as page:
                        return b"gpuferry" in page.read()
                except urllib.error.URLError:
                    return False

            eventually(up, lambda: (folder / "web.log").read_text()[-2000:])
            heard = asyncio.run(browse(f"http://127.0.0.1:{port}/", folder))
            assert "gpu-b01" in heard
        finally:
            served.terminate()
            served.wait(30)
