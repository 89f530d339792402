"""Every page as a browser gets it: its own time, its bytes, its largest paint, and what axe finds.

`make bench-pages` without another side runs this; docs/performance.md has aims and figures.
A page's own time is the web's answer to one request after the other. Bytes are what Chromium took
from the network, without streams. The largest paint is that of a phone (390 pixels wide, a fourth
of the processor's speed) that has been here before; the first visit's stands beside it.
"""

import datetime
import json
import os
import statistics
import sys
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench import comparison, report
from bench.pages_exempt import HEAVY, OTHERS_FAULTS
from bench.pages_side import EMPTY_PAGE, ROOT, Side

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

AIMS = {
    "ms": 100.0,
    "ratio": 4.0,
    "first_bytes": 150_000,
    "again_bytes": 20_000,
    "largest_paint_ms": 1000.0,
}
# Where an empty page takes longer, the machine is too slow or too busy for a time to say anything.
EMPTY_MS = 25.0
SLOWER = 4
LOOKS = [(width, scheme) for width in (1280, 390) for scheme in ("light", "dark")]
PAINT = """new PerformanceObserver((list) => {
  for (const entry of list.getEntries()) window.largestPaint = entry.startTime;
}).observe({ type: "largest-contentful-paint", buffered: true });"""
# Paints come late on a slow processor; what is drawn after this is not the page any more.
SETTLE_MS = 500


def see(side: Side, own_ms: dict[str, float], *, visits: int, looks: bool) -> dict[str, Any]:
    """Visit each page in Chromium; returns what a result file holds.

    Args:
        own_ms: How long the web takes for each page, by its address.
        visits: How often a phone comes back to each.
        looks: Whether axe looks at each page in both widths and both themes.
    """
    from playwright.sync_api import sync_playwright

    with sync_playwright() as player:
        browser = player.chromium.launch(
            executable_path="/usr/bin/chromium",
            args=["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"],
        )
        pages = {page: _visited(browser, side, page, visits) for page in own_ms}
        found = list(_faults(browser, side, list(own_ms))) if looks else None
        browser.close()
    for page, row in pages.items():
        row["ms"] = own_ms[page]
        row["ratio"] = round(own_ms[page] / own_ms[EMPTY_PAGE], 1)
    empty_ms = own_ms[EMPTY_PAGE]
    return {
        "empty_ms": empty_ms,
        "aims": AIMS,
        "over": _over(pages, empty_ms),
        "axe": found,
        "pages": pages,
    }


def write(result: dict[str, Any], rounds: int, load: list[float]) -> Path:
    """Keep a result; returns its file."""
    date = datetime.datetime.now(datetime.UTC).date().isoformat()
    body = {
        "command": "make bench-pages",
        "kind": "pages",
        "date": date,
        "revision": comparison.revision(),
        "machine": comparison.machine(),
        "load_before_and_after": load,
        "rounds": rounds,
        **result,
    }
    path = ROOT / "bench" / "results" / f"pages-cpu-{date}.json"
    path.write_text(json.dumps(body, indent=1) + "\n")
    report.write()
    return path


def told(result: dict[str, Any]) -> None:
    """Print a line for each page and each thing that is over its aim."""
    for page, row in sorted(result["pages"].items(), key=lambda each: -each[1]["ms"]):
        print(
            f"{page:34} {row['ms']:6.1f} ms ({row['ratio']:.1f}), "
            f"{row['first_bytes'] / 1000:6.1f} kB, then {row['again_bytes'] / 1000:5.1f}, "
            f"paint {row['largest_paint_ms']:5.0f} ms ({row['first_paint_ms']:.0f} first)"
        )
    for line in [*result["over"], *(result["axe"] or [])]:
        print(line)


def load() -> float:
    """Return how many processes want this machine's cores."""
    return round(os.getloadavg()[0], 1)


def _over(pages: dict[str, dict[str, Any]], empty_ms: float) -> list[str]:
    """Say what is over its aim."""
    judged = [name for name in AIMS if name != "ms" or empty_ms <= EMPTY_MS]
    return [
        f"{page}: {name} is {row[name]}, the aim {AIMS[name]:g}"
        for page, row in pages.items()
        for name in judged
        if row[name] > AIMS[name] and name not in HEAVY.get(page, ())
    ]


def _visited(browser: "Browser", side: Side, path: str, visits: int) -> dict[str, Any]:
    """Visit a page as a phone that has never been here, and then again."""
    context = _context(browser, side, 390, "light", is_phone=True)
    try:
        page = context.new_page()
        page.set_default_timeout(120_000)
        page.add_init_script(PAINT)
        first = _visit(page, side, path)
        again = [_visit(page, side, path) for _ in range(visits)]
    finally:
        context.close()
    return {
        "first_bytes": first[0],
        "again_bytes": round(statistics.median(each[0] for each in again)),
        "largest_paint_ms": round(statistics.median(each[1] for each in again)),
        "first_paint_ms": round(first[1]),
    }


def _visit(page: "Page", side: Side, path: str) -> tuple[int, float]:
    """Return the bytes that came from the network, and when the largest paint was.

    In a tab that is there already: for a new one Chromium draws pages of its own, beside ours.
    """
    devtools = page.context.new_cdp_session(page)
    taken: list[int] = []
    # A stream does not finish, so it is not counted.
    devtools.on("Network.loadingFinished", lambda said: taken.append(said["encodedDataLength"]))
    devtools.send("Network.enable")
    devtools.send("Emulation.setCPUThrottlingRate", {"rate": SLOWER})
    page.goto("about:blank")
    page.wait_for_timeout(SETTLE_MS)
    page.goto(side.address + path, wait_until="load")
    page.wait_for_timeout(SETTLE_MS)
    painted = page.evaluate("window.largestPaint ?? 0")
    devtools.detach()
    return sum(taken), float(painted)


def _faults(browser: "Browser", side: Side, paths: list[str]) -> "list[str]":
    """Let axe look at every page, in both widths and both themes."""
    from axe_playwright_python.sync_playwright import Axe

    found: dict[str, dict[str, None]] = defaultdict(dict)
    axe = Axe()
    for width, scheme in LOOKS:
        context = _context(browser, side, width, scheme)
        for path in paths:
            page: Page = context.new_page()
            page.set_default_timeout(120_000)
            page.goto(side.address + path, wait_until="load")
            if path in OTHERS_FAULTS:
                page.locator("[data-drawn]").wait_for()
            for fault in axe.run(page).response["violations"]:
                if fault["id"] in OTHERS_FAULTS.get(path, ()):
                    continue
                for node in fault["nodes"]:
                    line = f"{path}: {fault['id']} ({fault['impact']}): {node['html'][:160]}"
                    found[line][f"{width} {scheme}"] = None
            page.close()
        context.close()
        print(f"axe: {width} {scheme}, {len(paths)} pages", file=sys.stderr)
    return [f"{line} [{', '.join(where)}]" for line, where in found.items()]


def _context(
    browser: "Browser", side: Side, width: int, scheme: str, *, is_phone: bool = False
) -> "BrowserContext":
    context = browser.new_context(
        locale="en-US",
        color_scheme="dark" if scheme == "dark" else "light",
        viewport={"width": width, "height": 844 if width < 500 else 900},
        is_mobile=is_phone,
    )
    name, _, secret = side.cookie.partition("=")
    context.add_cookies([{"name": name, "value": secret, "url": side.address}])
    return context
