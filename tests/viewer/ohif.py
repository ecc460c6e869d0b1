"""OHIF in a headless Chromium, driven as a person would: rows are double-clicked, screens looked at."""

from __future__ import annotations

import io
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import Browser, ConsoleMessage, Page, sync_playwright
from playwright.sync_api import TimeoutError as WaitedInVain

from dicomnode.demo.viewer.ohif import viewer_url
from tests.conftest import NOT_RUN_HERE
from tests.harness.nodes import wait_for

LIMIT_MS, _LOOK_MS = 120_000, 10_000
_CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
_SOFTWARE_GL = ("--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader")
_SCREEN = {"width": 1100, "height": 700}
# What React catches, OHIF reports as a message for debugging.
_TROUBLE = re.compile(r"Error Boundary|TypeError|Something went wrong")
_VIEWPORT = "cornerstone.getRenderingEngines()[0]?.getViewports()[0]"
_ROW = "[data-cy=study-browser-thumbnail-no-image]"


@contextmanager
def chromium() -> Iterator[Browser]:
    """Debian's own; skips without one."""
    program = next((found for name in _CHROMIUM if (found := shutil.which(name))), None)
    if program is None:
        pytest.skip(f"{NOT_RUN_HERE}Chromium")
    sandbox = ("--no-sandbox",) if os.geteuid() == 0 else ()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=[*_SOFTWARE_GL, *sandbox])
        try:
            yield browser
        finally:
            browser.close()


class Ohif:
    """One study in one page."""

    def __init__(self, page: Page, pictures: Path) -> None:
        self.page, self._pictures = page, pictures
        self.trouble: list[str] = []
        page.set_default_timeout(LIMIT_MS)
        page.on("console", self._hear)
        page.on("pageerror", lambda error: self.trouble.append(str(error)))

    @classmethod
    @contextmanager
    def opened(cls, browser: Browser, origin: str, study: str, series: int, pictures: Path) -> Iterator[Ohif]:
        """The study's page, when `series` of them are listed and the first picture is drawn."""
        page = browser.new_page(viewport=_SCREEN)
        try:
            ohif = cls(page, pictures)
            page.goto(viewer_url(origin, [study]))
            page.wait_for_function(
                "count => window.services?.displaySetService?.activeDisplaySets?.length >= count", arg=series
            )
            page.wait_for_function(f"{_VIEWPORT}?.viewportStatus === 'rendered'")
            yield ohif
        finally:
            page.close()

    def listed(self) -> set[tuple[str, str]]:
        """Modality and description of each row of the list that is no series of images."""
        self.page.locator(_ROW).first.wait_for()
        return {
            (
                row.locator("[data-cy=series-modality-label]").inner_text(),
                row.locator("[data-cy=series-description-label]").inner_text(),
            )
            for row in self.page.locator(_ROW).all()
        }

    def show(self, modality: str) -> None:
        """Double-click the row of this modality."""
        self.page.locator(_ROW, has_text=modality).first.dblclick()

    def show_segmentation(self) -> None:
        """The SEG laid over its series, as a person opens it: the row, then Yes."""
        self.show("SEG")
        self.page.get_by_role("button", name="Yes").click()
        self.page.wait_for_function("services.segmentationService.getSegmentations().length === 1")
        self.page.wait_for_function(f"{_VIEWPORT}?.viewportStatus === 'rendered'")

    def segments(self) -> dict[str, tuple[int, int, int]]:
        """Name and colour of each segment that the viewport shows."""
        shown = self.page.evaluate(
            f"""() => services.segmentationService.getSegmentationRepresentations({_VIEWPORT}.id)
                .flatMap(each => Object.values(each.segments)
                    .map(segment => [each.segmentationId, segment.segmentIndex, segment.color]))"""
        )
        names: dict[str, dict[str, Any]] = self.page.evaluate(
            """() => Object.fromEntries(services.segmentationService.getSegmentations()
                .map(each => [each.segmentationId, each.segments]))"""
        )
        return {names[uid][str(index)]["label"]: tuple(color[:3]) for uid, index, color in shown}

    def slices(self) -> dict[str, int]:
        """Where in the viewer's stack each SOP instance is."""
        image_ids: list[str] = self.page.evaluate(f"{_VIEWPORT}.getImageIds()")
        return {re.findall(r"/instances/([0-9.]+)", each)[0]: at for at, each in enumerate(image_ids)}

    def go_to(self, index: int, limit_ms: int = LIMIT_MS) -> None:
        """Show one slice of the stack.

        Asks until it is shown: a report that is still loading takes the viewport to a slice of its own.

        Raises:
            WaitedInVain: After `limit_ms`.
        """
        self.page.wait_for_function(
            f"""at => {{
                const viewport = {_VIEWPORT}
                if (viewport?.viewportStatus !== 'rendered') return false
                if (viewport.getCurrentImageIdIndex() === at) return true
                viewport.setImageIdIndex(at)
                return false
            }}""",
            arg=index,
            timeout=limit_ms,
        )

    def screen(self) -> NDArray[np.uint8]:
        """The pixels of the viewport, (height, width, 3)."""
        clip = self.page.evaluate(
            f"""() => {{ const box = {_VIEWPORT}.canvas.getBoundingClientRect();
                return {{ x: box.x, y: box.y,
                    width: Math.floor(box.width), height: Math.floor(box.height) }} }}"""
        )
        with Image.open(io.BytesIO(self.page.screenshot(clip=clip))) as image:
            return np.asarray(image.convert("RGB"))

    def lps_of_screen(self, shape: tuple[int, int]) -> NDArray[np.float64]:
        """LPS mm of the centre of each pixel of the screen, (height, width, 3), as the viewer has it."""
        origin, right, down = (
            np.array(each, np.float64)
            for each in self.page.evaluate(
                f"[[0.5, 0.5], [1.5, 0.5], [0.5, 1.5]].map(each => {_VIEWPORT}.canvasToWorld(each))"
            )
        )
        y, x = np.indices(shape)
        return origin + x[..., None] * (right - origin) + y[..., None] * (down - origin)

    def screen_of_lps(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Where on the viewport these points (n, 3) are, (x, y) in pixels."""
        return np.array(
            self.page.evaluate(
                f"points => points.map(each => {_VIEWPORT}.worldToCanvas(each))", points.tolist()
            )
        )

    def show_report(self) -> None:
        """The SR, when each of its measurements has found its slice."""
        self.show("SR")
        self.page.wait_for_function(
            """() => services.displaySetService.activeDisplaySets
                .find(each => each.Modality === 'SR').measurements?.every(each => each.loaded)"""
        )

    def wait_for_text(self, index: int, wanted: str) -> None:
        """Return when it is written beside a graphic on that slice of the stack.

        Each look scrolls there anew: after a report was opened, the viewer at times draws it only then.
        """

        def look() -> bool:
            try:
                self.go_to(index - 1 if index else 1, _LOOK_MS)
                self.go_to(index, _LOOK_MS)
                self.page.wait_for_function(
                    """wanted => [...document.querySelectorAll('svg text')].some(each =>
                        [...each.querySelectorAll('tspan')].some(line => line.textContent === wanted))""",
                    arg=wanted,
                    timeout=_LOOK_MS,
                )
            except WaitedInVain:
                return False
            return True

        wait_for(wanted, look, LIMIT_MS / 1000)

    def outline(self) -> NDArray[np.float64]:
        """The corners of the one polyline that is drawn, (n, 2), in pixels of the viewport."""
        points: str = self.page.evaluate(
            "document.querySelector('svg.svg-layer polyline').getAttribute('points')"
        )
        return np.array(re.findall(r"[-0-9.]+", points), float).reshape(-1, 2)

    def keep_picture(self, name: str) -> None:
        """Put what the whole page looks like beside the others, for a person's eyes."""
        self._pictures.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=self._pictures / f"{name}.png")

    def wait_for_trouble(self) -> str:
        """The first thing that went wrong."""
        return wait_for("trouble", lambda: self._turn() or self.trouble, LIMIT_MS / 1000)[0]

    def _turn(self) -> None:
        """Let the library hand over what the page has said meanwhile."""
        self.page.evaluate("0")

    def _hear(self, message: ConsoleMessage) -> None:
        if message.type == "error" or _TROUBLE.search(message.text):
            self.trouble.append(message.text)
