"""A whole Etude, started as a person starts it, and a real browser."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect, sync_playwright

from tests import patience, warm

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@dataclass
class House:
    """A running `etude up`."""

    data_dir: Path
    address: str
    setup_link: str
    process: subprocess.Popen[str]

    def etude(self, *arguments: str, given: str = "") -> str:
        """Run a command of the CLI on this house; returns what it printed."""
        done = warm.run(
            [sys.executable, "-m", "app.cli", *arguments, "--data-dir", str(self.data_dir)],
            input=given,
            timeout=patience.seconds(120),
            env=clean_environment(),
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()


def clean_environment() -> dict[str, str]:
    """The environment without addresses and settings that a test may have set."""
    return {
        name: value
        for name, value in os.environ.items()
        if name not in ("DATABASE_URL", "REDIS_URL") and not name.startswith("ETUDE_")
    }


@pytest.fixture(scope="session")
def house() -> Iterator[House]:
    data_dir = Path(tempfile.mkdtemp(prefix="etude-e2e-"))
    data_dir.chmod(0o711)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with (data_dir / "up.log").open("w") as log:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "app.cli", "up"),
                *("--port", str(port), "--data-dir", str(data_dir)),
            ],
            stdout=log,
            stderr=log,
            text=True,
            env=clean_environment(),
        )
    try:
        deadline = time.monotonic() + patience.seconds(120)
        while not (found := re.search(r"(http://\S+)/setup/\S+", _said(data_dir))):
            assert process.poll() is None, _said(data_dir)
            assert time.monotonic() < deadline, _said(data_dir)
            time.sleep(0.1)
        yield House(data_dir, found[1], found[0], process)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=patience.seconds(150))  # a job saves its place first
        finally:
            process.kill()
        print(_said(data_dir))
        for path in sorted((data_dir / "logs").glob("w*.log")):
            print(
                f"--- {path.name}", *path.read_text(errors="replace").splitlines()[-30:], sep="\n"
            )
        shutil.rmtree(data_dir, ignore_errors=True)


def _said(data_dir: Path) -> str:
    return (data_dir / "up.log").read_text(errors="replace")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    # Not for the whole session: while Playwright is there, a test that comes after these in the
    # same process cannot call asyncio.run.
    if CHROMIUM is None:
        sentence = "NO BROWSER: the tests of the pages were not made; install Debian's chromium."
        if os.environ.get("ETUDE_REQUIRE_BROWSER"):
            pytest.fail(sentence)
        print(f"\n*** {sentence} ***\n")
        pytest.skip(sentence)
    expect.set_options(timeout=patience.milliseconds(60))
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=[
                *("--no-sandbox", "--disable-gpu", "--disable-background-networking"),
                *("--disable-component-update", "--disable-sync", "--no-first-run"),
            ],
        )
        yield chromium
        chromium.close()
