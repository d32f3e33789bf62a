"""Pages of `m3sr view`: file size, time to write, and time to open in a browser.

Command:  python benchmarks/bench_viewer.py [--output benchmarks/results/cpu.jsonl]
          [--screenshot benchmarks/results/view.png]

The cube is a synthetic scene of 512×512×31, or --cube FILE. One page shows the cube alone; the other shows an estimate
(least squares; for a file, the cube with noise) beside the cube as truth. `opened_s` is the median time from loading
until pictures and spectra are on screen, in headless Chromium without a GPU. The goals are 3 s and 25 MB.
`opened_cpu_s` is the CPU time of the tab's process, which depends little on other work.
"""

from __future__ import annotations

import shutil
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
from measure import parser, save, show

from m3sr_jax.data.synthetic import SyntheticSpec, open_synthetic
from m3sr_jax.io import read_cube
from m3sr_jax.regression import fit
from m3sr_jax.viewer.page import write_page

FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
REPEATS = 5
WINDOW = {"width": 1366, "height": 768}
SCENE = 2  # of the held-out scenes, the one that the pages show


def synthetic_scene() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """A held-out scene: its estimate by quadratic least squares, truth, photo and wavelengths."""
    with tempfile.TemporaryDirectory() as folder:
        dataset = open_synthetic(SyntheticSpec(num_train=6, num_valid=SCENE + 1, height=512, width=512), folder)
        scene = dataset.valid[SCENE]
        scenes = (dataset.train[i] for i in range(len(dataset.train)))
        estimate = fit(((each.rgb, each.cube) for each in scenes), "quadratic").predict(scene.rgb)
        return np.asarray(estimate, np.float32), scene.cube, scene.rgb, scene.wavelengths


def opening_seconds(page: Path, screenshot: Path | None) -> tuple[list[float], list[float]]:
    """Opens a page several times, each in a new tab; returns wall times and CPU times in seconds.

    The first opening warms up the browser and is left out.
    """
    from playwright.sync_api import sync_playwright

    seconds, processor = [], []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        for _ in range(REPEATS + 1):
            tab = browser.new_page(viewport=WINDOW)  # type: ignore[arg-type]
            devtools = tab.context.new_cdp_session(tab)
            devtools.send("Performance.enable")
            tab.goto(page.as_uri())
            tab.wait_for_function("document.body.dataset.openedMs")
            seconds.append(float(tab.evaluate("document.body.dataset.openedMs")) / 1000)
            measured = {entry["name"]: entry["value"] for entry in devtools.send("Performance.getMetrics")["metrics"]}
            processor.append(float(measured["ProcessTime"]))
            if screenshot is not None:
                tab.screenshot(path=screenshot)
            tab.close()
        browser.close()
    return seconds[1:], processor[1:]


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--cube", type=Path, help="show this cube instead of a synthetic scene")
    options.add_argument("--screenshot", type=Path, help="PNG file for a screenshot of the page with truth")
    args = options.parse_args()
    if args.cube is None:
        cube, truth, photo, wavelengths = synthetic_scene()
    else:
        truth, wavelengths = read_cube(args.cube)
        photo, noise = None, np.random.default_rng(0).normal(0, 0.01, truth.shape)
        cube = (truth + noise).astype(np.float32)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder, "page.html")
        alone = {"photo": photo}
        for name, extras in [("alone", alone), ("with truth", alone | {"truth": truth})]:
            start = time.perf_counter()
            write_page(page, truth if name == "alone" else cube, wavelengths, title="synthetic scene", **extras)
            row = {"page": name, "shape": "x".join(map(str, cube.shape)), "write_s": time.perf_counter() - start}
            row["megabytes"] = page.stat().st_size / 1e6
            if shutil.which("chromium"):
                seconds, processor = opening_seconds(page, args.screenshot)
                row |= {"opened_s": statistics.median(seconds), "opened_min_s": min(seconds)}
                row["opened_cpu_s"] = statistics.median(processor)
            show(row)
            rows.append(row)
    save(rows, "viewer", args.output)


if __name__ == "__main__":
    main()
