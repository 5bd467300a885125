"""Make calls that have something to show, and take pictures of their page.

That is what ``make watching-pictures`` does.

They are docs/_static/dashboard.png and docs/_static/failures.png. It needs Chromium.
"""

from __future__ import annotations

import io
import os
import random
import shutil
import time
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import Page, sync_playwright

from hybridexec import HybridExecutor

PICTURES = Path(__file__).parent / "_static"
#: How many calls are made.
CALLS = 30_000
#: Cuts paths of this machine out of the traceback.
SHORTEN = """(root) => {
    const all = [...Bokeh.documents[0]._all_models.values()]
    const trace = all.find((each) => each.text?.includes("Traceback"))
    trace.text = trace.text.replaceAll(root, "")
}"""
#: How many bytes a picture may have.
LARGEST = 150_000


def fetch(number: int) -> int:
    """Stands for a request."""
    draw = random.Random(number)
    time.sleep(draw.lognormvariate(-3.2, 0.6))
    if draw.random() < 0.05:
        raise ConnectionError(f"host {number % 7} has closed the connection")
    if draw.random() < 0.02:
        raise ValueError(f"not JSON: '<html><title>{number}</title>'")
    return number


def convert(seconds: float) -> None:
    """Stands for a call that computes and lets no other run."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass


def crash() -> None:
    """Stands for one that brings its worker down."""
    os._exit(3)


def main() -> None:
    """Take the pictures."""
    with (
        sync_playwright() as playwright,
        HybridExecutor(3, concurrency=40, hub_lag_warning=0.5) as executor,
    ):
        assert executor.submit(fetch, 0).result() == 0
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"))
        page = browser.new_page(viewport={"width": 1280, "height": 1340})
        page.goto(executor.dashboard().url)
        work(executor)
        page.get_by_text("exit code 3").first.wait_for()
        page.wait_for_timeout(2000)  # so that it has the last
        take(page, "dashboard.png")
        page.get_by_text("ValueError", exact=True).click()
        page.get_by_text("raise ValueError").wait_for()
        page.evaluate(SHORTEN, str(PICTURES.parents[1]) + os.sep)
        page.mouse.move(0, 0)
        page.evaluate("window.scrollTo(0, 0)")
        failures = page.get_by_text("Failures, by type and place").bounding_box()
        assert failures is not None
        clip = {"x": 0, "y": failures["y"] - 12, "width": 1280, "height": 420}
        take(page, "failures.png", clip=clip, full_page=True)
        browser.close()


def work(executor: HybridExecutor) -> None:
    """Make the calls."""
    view = executor.options(timeout=0.2, retries=1, retry_on=ValueError)
    accidents = {CALLS // 4: (convert, 1.5), CALLS // 2: (crash,)}
    for outcome in view.outcomes(fetch, range(CALLS)):
        if outcome.item in accidents:
            executor.submit(*accidents[outcome.item])


def take(page: Page, name: str, **options: Any) -> None:
    """Write a picture, in few colours."""
    picture = Image.open(io.BytesIO(page.screenshot(**options))).convert("RGB")
    path = PICTURES / name
    # The method that keeps colours of which there is little.
    few = picture.quantize(method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    few.save(path, optimize=True)
    if path.stat().st_size > LARGEST:
        raise SystemExit(f"{path} has {path.stat().st_size:,} bytes")
    print(path, path.stat().st_size)


if __name__ == "__main__":
    main()
