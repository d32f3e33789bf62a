"""The page in a real browser: it plots the values of the cube."""

import shutil
from types import SimpleNamespace

import numpy as np
import pytest

from m3sr_jax.viewer.comparison import compare
from m3sr_jax.viewer.page import write_page

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="found no Chromium: apt-get install chromium")
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
LAPTOP, DESKTOP = (1366, 768), (1920, 1080)
NM = np.arange(400.0, 701.0, 10.0)
HEIGHT, WIDTH = 48, 64
MISSING = (slice(30, 36), slice(40, 50))
# Half a step of the codes, and float32 in the arrays that Bokeh draws.
EXACT = 0.5001
FLOAT32 = 1e-6


def scene():
    """A cube and its truth: bright at the top left, dark at the bottom right, a hole in the cube."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    level = 0.1 + 0.8 * ((y < HEIGHT // 2) & (x < WIDTH // 2))
    truth = (level[..., None] * (0.6 + 0.3 * np.sin(NM / 40))).astype(np.float32)
    cube = truth + rng.normal(0, 0.02, truth.shape).astype(np.float32)
    cube[MISSING] = np.nan
    return cube, truth


def half_widths():
    """Wide in long wavelengths: their lower side is below 0."""
    return np.broadcast_to(np.linspace(0.02, 0.8, len(NM)), (HEIGHT, WIDTH, len(NM))).astype(np.float32)


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pages")
    cube, truth = scene()
    photo = np.random.default_rng(1).random((2 * HEIGHT, 2 * WIDTH, 3), np.float32)
    write_page(folder / "compared.html", cube, NM, truth=truth, photo=photo, title="compared")
    write_page(folder / "alone.html", cube[..., ::2], NM[::2] * 2, title="</script><b>alone")
    write_page(folder / "numbered.html", cube[..., :7], None)
    write_page(folder / "uncertain.html", cube, NM, interval=half_widths(), title="uncertain")
    write_page(folder / "equal.html", truth, NM, truth=truth)
    write_page(folder / "nothing.html", np.full_like(cube, np.nan), NM, truth=truth)
    return folder


@pytest.fixture
def opened(browser, files):
    """Opens a page in a window; fails if the page logs an error or makes a network request."""
    pages, faults = [], []

    def go(name="compared", size=LAPTOP):
        page = browser.new_page(viewport={"width": size[0], "height": size[1]})
        pages.append(page)
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
        page.on("request", lambda request: faults.append(request.url) if request.url[:4] == "http" else None)
        page.goto((files / f"{name}.html").as_uri())
        page.wait_for_function("document.body.dataset.openedMs")
        return page

    yield go
    for page in pages:
        page.close()
    assert not faults


def step(page):
    return page.evaluate("facts.step")


def plotted(page, source):
    """Columns of a Bokeh source, typed arrays as lists and NaN as None."""
    script = "name => JSON.parse(JSON.stringify(m3sr.model(name).data, (key, v) => ArrayBuffer.isView(v) ? [...v] : v))"
    return page.evaluate(script, source)


def image(page, name):
    values = np.array(plotted(page, f"{name}_image")["image"][0], np.float64)
    return values.reshape(HEIGHT, WIDTH)


def on_screen(page, panel, row, column):
    """Returns the position of a pixel's centre in the window."""
    box = page.locator(f"#{panel}-panel .plot > *").bounding_box()
    view = page.evaluate(
        "() => { const {x_range, y_range, inner_width, inner_height} = m3sr.model('band');"
        "return [x_range.start, x_range.end, y_range.start, y_range.end, inner_width, inner_height] }"
    )
    left, right, bottom, top, width, height = view
    x = box["x"] + (column + 0.5 - left) / (right - left) * width
    y = box["y"] + (row + 0.5 - top) / (bottom - top) * height
    return SimpleNamespace(x=x, y=y, unit=((right - left) / width, (bottom - top) / height))


def test_the_slider_shows_the_band_of_the_cube(opened):
    page, (cube, truth) = opened(), scene()
    slider = page.locator("#band").bounding_box()
    page.mouse.click(slider["x"] + slider["width"] * 0.25, slider["y"] + slider["height"] / 2)
    band = int(page.locator("#band").input_value())
    assert abs(band - 0.25 * 30) <= 1
    assert page.locator("#wavelength").inner_text() == f"{NM[band]:g} nm"
    assert f"Band {band + 1} of 31" in page.locator("#band-title").inner_text()
    np.testing.assert_allclose(image(page, "band"), cube[..., band], atol=step(page) * EXACT + FLOAT32)
    page.click("#band-choice >> text=truth")
    np.testing.assert_allclose(image(page, "band"), truth[..., band], atol=step(page) * EXACT + FLOAT32)
    page.click("#band-choice >> text=difference")
    np.testing.assert_allclose(image(page, "band"), (cube - truth)[..., band], atol=2 * step(page) * EXACT + FLOAT32)


@pytest.mark.parametrize("size", [LAPTOP, DESKTOP])
@pytest.mark.parametrize("panel", ["colour", "band", "error"])
def test_a_click_pins_the_spectrum_of_that_pixel(opened, size, panel):
    page, (cube, truth) = opened(size=size), scene()
    page.keyboard.press("c")
    row, column = 7, 51
    place = on_screen(page, panel, row, column)
    page.mouse.click(place.x, place.y)
    page.wait_for_function("m3sr.state.pins.length == 1")
    for source, expected in (("spectrum_lines", cube), ("truth_lines", truth)):
        data = plotted(page, source)
        np.testing.assert_allclose(data["nm"][0], NM)
        np.testing.assert_allclose(data["value"][0], expected[row, column], atol=step(page) * EXACT)
    shown = page.locator("#pins li").inner_text().split()
    assert [shown[2].rstrip(","), shown[4]] == [str(row), str(column)]
    assert float(shown[5]) == pytest.approx(float(cube[row, column, 15]), abs=1e-5 + step(page))
    page.mouse.click(place.x + 2, place.y)  # the same pin again
    page.wait_for_function("m3sr.state.pins.length == 0")


def test_several_pixels_are_pinned_and_the_cursor_adds_one(opened):
    page, (cube, _) = opened(), scene()
    page.keyboard.press("c")
    chosen = [(3, 4), (40, 10), (20, 60)]
    for row, column in chosen:
        place = on_screen(page, "band", row, column)
        page.mouse.click(place.x, place.y)
    place = on_screen(page, "colour", 10, 20)
    page.mouse.move(place.x, place.y)
    page.wait_for_function("m3sr.model('cursor').data.y[0] == 10.5")
    lines = plotted(page, "spectrum_lines")
    for values, (row, column) in zip(lines["value"], [*chosen, (10, 20)], strict=True):
        np.testing.assert_allclose(values, cube[row, column], atol=step(page) * EXACT)
    assert len(set(lines["colour"])) == 4
    assert plotted(page, "pins")["letter"] == ["A", "B", "C"]
    page.click("#pins li:nth-child(2) button")
    assert plotted(page, "pins")["letter"] == ["A", "C"]


def test_a_pin_is_removed_although_its_reading_changes_during_the_click(opened):
    page = opened()
    button = page.locator("#pins li:nth-child(2) button")
    place = button.bounding_box()
    page.mouse.move(place["x"] + place["width"] / 2, place["y"] + place["height"] / 2)
    page.mouse.down()
    before = page.locator("#pins li").first.inner_text()
    page.keyboard.press("ArrowRight")
    assert page.locator("#pins li").first.inner_text() != before
    page.mouse.up()
    page.wait_for_function("m3sr.state.pins.length == 2")
    assert plotted(page, "pins")["letter"] == ["A", "C"]


def test_a_second_click_in_a_large_pixel_removes_its_pin(opened):
    page = opened()
    page.keyboard.press("c")
    page.evaluate("m3sr.model('band').x_range.setv({start: 20, end: 24})")
    page.evaluate("m3sr.model('band').y_range.setv({start: 14, end: 10})")
    place = on_screen(page, "band", 12, 22)
    corner = 0.4 / place.unit[0], 0.4 / place.unit[1]  # on the screen, far more than the radius of a pin
    page.mouse.click(place.x - corner[0], place.y - corner[1])
    page.wait_for_function("m3sr.state.pins.length == 1")
    page.mouse.click(place.x + corner[0], place.y + corner[1])
    page.wait_for_function("m3sr.state.pins.length == 0")


def test_missing_values_are_named_and_leave_gaps(opened):
    page = opened()
    place = on_screen(page, "band", 32, 45)
    page.mouse.click(place.x, place.y)
    page.wait_for_function("m3sr.state.pins.length == 4")
    assert plotted(page, "spectrum_lines")["value"][3] == [None] * 31
    assert "missing" in page.locator("#pins li:nth-child(4)").inner_text()
    assert f"{6 * 10 * 31:,} values are missing" in page.locator("#note").inner_text()


def test_keys_step_the_band(opened):
    page = opened()
    for key, expected in [
        ("ArrowRight", 16), ("ArrowLeft", 15), ("Shift+ArrowRight", 20), ("End", 30), ("ArrowRight", 30), ("Home", 0),
    ]:  # fmt: skip
        page.keyboard.press(key)
        assert page.evaluate("m3sr.state.band") == expected
    page.locator("#band").focus()  # the slider handles arrow keys too: still one step
    page.keyboard.press("ArrowRight")
    assert page.evaluate("m3sr.state.band") == 1
    page.keyboard.press(" ")
    page.wait_for_function("m3sr.state.band > 3")
    page.keyboard.press(" ")
    assert page.evaluate("m3sr.state.playing") is None


def test_a_band_chosen_by_hand_stays(opened):
    page = opened()
    page.keyboard.press(" ")
    page.wait_for_function("m3sr.state.band > 15")
    slider = page.locator("#band").bounding_box()
    page.mouse.click(slider["x"] + 1, slider["y"] + slider["height"] / 2)
    assert page.evaluate("[m3sr.state.playing, m3sr.state.band]") == [None, 0]


def test_space_presses_a_button_that_tab_has_reached(opened):
    page = opened()
    page.locator("#save").focus()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "clear"
    page.keyboard.press(" ")
    page.wait_for_function("m3sr.state.pins.length == 0")
    assert page.evaluate("[m3sr.state.playing, document.activeElement.id]") == [None, "clear"]
    page.click("#reset")
    page.keyboard.press(" ")
    assert page.evaluate("m3sr.state.playing !== null")


def test_the_picture_chosen_last_stays_although_an_earlier_one_takes_longer(opened):
    page = opened()
    cube, title = plotted(page, "colour_image"), page.locator("#colour-title").inner_text()
    page.evaluate(
        "() => { const decode = HTMLImageElement.prototype.decode; window.decoded = [];"
        " HTMLImageElement.prototype.decode = function () {"
        "   const wait = decoded.length ? null : new Promise((resolve) => { window.release = resolve; });"
        "   const done = Promise.resolve(wait).then(() => decode.call(this));"
        "   decoded.push(done); return done; } }"
    )
    page.click("#colour-choice >> text=photo")
    page.click("#colour-choice >> text=cube")
    page.evaluate("async () => { await decoded[1]; release(); await decoded[0]; await new Promise(setTimeout); }")
    assert plotted(page, "colour_image") == cube
    assert page.locator("#colour-title").inner_text() == title


def test_cubes_without_a_value_in_common_have_no_scores(opened):
    page = opened("nothing")
    assert page.locator("#scores").inner_text().split() == ["PSNR", "–", "RMSE", "–", "SAM", "–"]


@pytest.mark.parametrize("name", ["equal", "nothing"])
def test_no_difference_has_the_middle_colour(opened, name):
    page = opened(name)
    page.click("#band-choice >> text=difference")
    for contrast in ("one scale", "each band"):
        page.click(f"#contrast-choice >> text={contrast}")
        low, high = page.evaluate("(({low, high}) => [low, high])(m3sr.model('band_mapper'))")
        assert low == -high < 0


def test_errors_are_those_of_the_cubes(opened):
    page, (cube, truth) = opened(), scene()
    expected = compare(cube, truth)
    bars = plotted(page, "band_errors")
    np.testing.assert_allclose(bars["rmse"], expected.band_rmse, rtol=1e-6)
    np.testing.assert_allclose(bars["nm"], NM)
    assert f"{expected.psnr:.2f} dB" in page.locator("#scores").inner_text()
    gap = (cube - truth).astype(np.float64)
    np.testing.assert_allclose(image(page, "error"), np.sqrt((gap**2).mean(-1)), atol=2 * step(page))
    page.click("#error-choice >> text=SAM")
    x, y = cube.astype(np.float64), truth.astype(np.float64)
    cosine = (x * y).sum(-1) / np.linalg.norm(x, axis=-1) / np.linalg.norm(y, axis=-1)
    np.testing.assert_allclose(image(page, "error"), np.degrees(np.arccos(cosine)), atol=0.02)


def test_what_is_drawn_is_upright_and_in_place(opened):
    """Looks at the screen itself: it is bright where the cube is bright."""
    import io

    from PIL import Image

    page = opened()
    page.keyboard.press("c")
    # Bokeh draws in the frame after the next 17 ms.
    page.evaluate("() => new Promise((done) => setTimeout(() => requestAnimationFrame(done), 50))")
    shot = np.asarray(Image.open(io.BytesIO(page.screenshot())).convert("L"), np.float64)
    for panel in ("colour", "band"):
        seen = {}
        for name, row, column in [("bright", 5, 5), ("right", 5, 58), ("below", 42, 5)]:
            place = on_screen(page, panel, row, column)
            x, y = int(place.x), int(place.y)
            seen[name] = shot[y - 2 : y + 3, x - 2 : x + 3].mean()
        assert seen["bright"] > 1.5 * max(seen["right"], seen["below"])


@pytest.mark.parametrize("name", ["compared", "alone", "uncertain"])
@pytest.mark.parametrize("size", [LAPTOP, DESKTOP])
def test_everything_fits_the_window_and_pixels_are_square(opened, name, size):
    page = opened(name, size)
    assert page.evaluate("[document.documentElement.scrollWidth, document.documentElement.scrollHeight]") == [*size]
    clipped = page.evaluate(
        "[...document.querySelectorAll('h2, header, #controls, footer, #pins')].filter(e => e.scrollWidth >"
        " e.clientWidth + 1).map(e => e.innerText)"
    )
    assert clipped == []
    place = on_screen(page, "band", 0, 0)
    assert place.unit[0] == pytest.approx(place.unit[1], rel=1e-6)
    axes = page.evaluate(
        "Bokeh.documents[0].roots().flatMap(p => p.below).filter(a => a.visible).map(a => a.axis_label)"
    )
    assert set(axes) == {"wavelength (nm)"}


def test_zoom_is_shared_and_survives_another_window_size(opened):
    page = opened()
    whole = on_screen(page, "band", 12, 20)
    page.mouse.move(whole.x, whole.y)
    page.mouse.wheel(0, -400)
    page.wait_for_function(f"m3sr.model('band').x_range.end - m3sr.model('band').x_range.start < {0.9 * WIDTH}")
    assert page.evaluate("['colour', 'error'].every(n => m3sr.model(n).x_range === m3sr.model('band').x_range)")
    zoomed = on_screen(page, "band", 12, 20).unit
    page.set_viewport_size({"width": DESKTOP[0], "height": DESKTOP[1]})
    page.wait_for_function("m3sr.model('band').inner_width > 500")
    after = on_screen(page, "band", 12, 20).unit
    assert after == pytest.approx((zoomed[0], zoomed[0]), rel=1e-3)
    page.keyboard.press("0")
    assert on_screen(page, "band", 12, 20).unit[0] < whole.unit[0]


def test_a_page_of_other_bands_and_a_hostile_title(opened):
    page = opened("alone")
    assert page.locator("h1").inner_text() == "</script><b>alone"
    assert "16 bands" in page.locator("#about").inner_text()
    assert "800–1400 nm" in page.locator("#about").inner_text()
    assert page.locator("#error-panel").is_hidden()
    assert page.locator("#colour-title").inner_text().startswith("False colour 1400 / ")


def test_scales_are_printed(opened):
    assert b"/ShadingType" in opened().pdf()  # their gradients; a browser leaves out backgrounds unless told otherwise


def test_bands_without_wavelengths_are_numbered(opened):
    page = opened("numbered")
    assert page.locator("#about").inner_text().endswith("7 bands")
    assert page.locator("#wavelength").inner_text().strip() == "band 4"
    assert page.locator("#colour-title").inner_text().startswith("False colour bands 7 / 4 / 1")


def test_a_click_on_a_plot_goes_to_that_wavelength(opened):
    page = opened()
    box = page.locator("#bands-panel .plot > *").bounding_box()
    page.mouse.click(box["x"] + box["width"] - 20, box["y"] + 40)
    page.wait_for_function("m3sr.state.band >= 29")


def test_spectra_can_be_saved(opened):
    page, (cube, truth) = opened(), scene()
    with page.expect_download() as download:
        page.click("#save")
    rows = [line.split(",") for line in download.value.path().read_text().splitlines()]
    assert rows[0][:3] == ["wavelength_nm", *(rows[0][1:3])]
    head = rows[0][1].split()  # A cube row R column C
    row, column = int(head[3]), int(head[5])
    table = np.array(rows[1:], np.float64)
    np.testing.assert_allclose(table[:, 0], NM)
    np.testing.assert_allclose(table[:, 1], cube[row, column], atol=step(page) * EXACT)
    np.testing.assert_allclose(table[:, 2], truth[row, column], atol=step(page) * EXACT)


def test_intervals_are_drawn_around_the_spectra_and_as_a_map(opened):
    page, (cube, _), widths = opened("uncertain"), scene(), half_widths()
    coarse = 0.5 * widths.max() / 1000 + step(page) * EXACT  # half-widths are rounded to thousandths of the largest
    page.keyboard.press("c")
    for row, column in ((7, 51), (32, 45)):  # the second has missing values
        place = on_screen(page, "band", row, column)
        page.mouse.click(place.x, place.y)
    page.wait_for_function("m3sr.state.pins.length == 2")
    areas = plotted(page, "interval_areas")
    shown = cube[7, 51].astype(np.float64)
    sides = np.split(np.array(areas["value"][0]), 2)
    assert len({*areas["colour"][:1]}) == 1
    np.testing.assert_allclose(areas["nm"][0], [*NM, *NM[::-1]])
    np.testing.assert_allclose(sides[0], shown + widths[7, 51], atol=coarse + 2 * step(page))
    np.testing.assert_allclose(sides[1][::-1], np.maximum(shown - widths[7, 51], 0), atol=coarse + 2 * step(page))
    assert "±" in page.locator("#pins li").first.inner_text()
    page.click("#band-choice >> text=interval")
    np.testing.assert_allclose(image(page, "band"), widths[..., 15], atol=coarse + FLOAT32)
