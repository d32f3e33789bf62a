// The behaviour of the page. Bokeh draws; plots.py names its models.

const element = (id) => document.getElementById(id);
const model = (name) => Bokeh.documents[0].get_model_by_name(name);
const compared = facts.comparison !== null;
const uncertain = document.getElementById("codes-interval") !== null;
const numbered = facts.unit === "band"; // a cube without wavelengths
const PIN_COLOURS = ["#2f8fff", "#ff8c1a", "#1faa59", "#e5397f", "#9b5cff", "#00a5b8", "#c79a00", "#e5442f"];
const LETTERS = "ABCDEFGH";
const NEAR_SCREEN_PIXELS = 9;
const state = {
  band: firstBand(), colour: "rendered", show: "cube", error: "rmse", palette: "grey", contrast: "all",
  pins: [], under: null, playing: null, fitted: true, width: 0,
};

// --- numbers as text

const decimals = facts.step > 0 ? Math.min(8, Math.max(2, Math.ceil(-Math.log10(facts.step)))) : 3;
const shown = (value) => (isNaN(value) ? "missing" : value.toFixed(decimals).replace("-", "−"));
const short = (value) => (isNaN(value) ? "–" : String(Number(value.toPrecision(3))).replace("-", "−"));
const position = (band) => String(Number(facts.wavelengths[band].toFixed(1)));
const bandName = (band) => (numbered ? `band ${position(band)}` : `${position(band)} nm`);
const degrees = (value) => (isNaN(value) ? "–" : `${value.toFixed(2)}°`);

function nearestBand(wavelength) {
  let best = 0;
  facts.wavelengths.forEach((centre, band) => {
    if (Math.abs(centre - wavelength) < Math.abs(facts.wavelengths[best] - wavelength)) best = band;
  });
  return best;
}

function firstBand() {
  const green = 550;
  const inside = !numbered && facts.wavelengths[0] <= green && green <= facts.wavelengths[BANDS - 1];
  return inside ? nearestBand(green) : BANDS >> 1;
}

// --- pixels: `row` and `column` count those of the file; `cell` is an index into the pixels kept in the page

function pixelAt(x, y) {
  const row = Math.floor(y / facts.factor), column = Math.floor(x / facts.factor);
  if (!(row >= 0 && row < ROWS && column >= 0 && column < COLUMNS)) return null;
  const full = (index, extent) => Math.min(index * facts.factor + Math.floor(facts.factor / 2), extent - 1);
  return { cell: row * COLUMNS + column, row: full(row, facts.size[0]), column: full(column, facts.size[1]),
           x: (column + 0.5) * facts.factor, y: (row + 0.5) * facts.factor };
}

// --- palettes

const mix = (a, b, share) => a.map((part, i) => part + (b[i] - part) * share);
const hex = (rgb) => "#" + rgb.map((part) => Math.round(part).toString(16).padStart(2, "0")).join("");
const rgbOf = (text) => [1, 3, 5].map((i) => parseInt(text.slice(i, i + 2), 16));
const ramp = (colourAt) => Array.from({ length: 256 }, (_, i) => hex(colourAt(i / 255)));
// sRGB encoding, so that the light of the screen is proportional to the value.
const encodeSrgb = (share) => (share <= 0.0031308 ? 12.92 * share : 1.055 * share ** (1 / 2.4) - 0.055);
const GREY = ramp((share) => mix([0, 0, 0], [255, 255, 255], encodeSrgb(share)));
const DIVERGING = ramp((share) =>
  share < 0.5 ? mix([33, 102, 205], [245, 245, 245], 2 * share) : mix([245, 245, 245], [205, 33, 45], 2 * share - 1));

function tinted(band) {
  const colour = rgbOf(facts.colours[band]);
  return ramp((share) => {
    const light = encodeSrgb(share);
    return light < 0.6 ? mix([0, 0, 0], colour, light / 0.6) : mix(colour, [255, 255, 255], (light - 0.6) / 0.4);
  });
}

// --- pictures

function setImage(name, values, shape) {
  const source = model(`${name}_image`);
  const Kind = source.data.image[0].constructor;
  source.data = { image: [new Kind(values.buffer, shape)] };
}

function setScale(name, palette, low, high, unit = "") {
  const mapper = model(`${name}_mapper`);
  mapper.setv({ palette, low, high: high > low ? high : low + 1e-6 });
  const stops = Array.from({ length: 17 }, (_, i) => palette[Math.round((i * 255) / 16)]);
  element(`${name}-legend`).innerHTML =
    `<span>${short(low)}${unit}</span><i style="background:linear-gradient(to right,${stops})"></i><span>${short(high)}${unit}</span>`;
}

const memoised = (make) => {
  const made = new Map();
  return (key) => made.get(key) ?? made.set(key, make(key)).get(key);
};
const errorMap = memoised((kind) => errorMaps[kind]());
const reference = compared ? "truth" : "cube";
const rangeOf = memoised((band) =>
  band === "all" ? quantiles(reference, [0.002, 0.998]) : quantiles(reference, [0.002, 0.998], band, band + 1));
const largestDifference = memoised((band) => quantileOf(difference(band).map(Math.abs), 0.995));
const largestInAnyBand = memoised(() => Math.max(...facts.wavelengths.map((_, band) => largestDifference(band) || 0)));

function drawBand() {
  const { band, show, contrast } = state;
  if (show === "difference") {
    setImage("band", difference(band), [ROWS, COLUMNS]);
    // Where nothing differs, 0 still lies in the middle of the palette.
    const largest = (contrast === "all" ? largestInAnyBand("") : largestDifference(band)) || 1e-6;
    setScale("band", DIVERGING, -largest, largest);
  } else if (show === "interval") {
    setImage("band", plane(show, band), [ROWS, COLUMNS]);
    const high = contrast === "all" ? quantiles(show, [0.998])[0] : quantiles(show, [0.998], band, band + 1)[0];
    setScale("band", facts.errorPalette, 0, high);
  } else {
    setImage("band", plane(show, band), [ROWS, COLUMNS]);
    const [low, high] = contrast === "all" ? rangeOf("all") : rangeOf(band);
    const palette = state.palette === "tint" ? tinted(band) : GREY;
    setScale("band", palette, contrast === "all" ? Math.min(0, low) : low, high);
  }
}

function drawError() {
  if (!compared) return;
  const kind = state.error;
  const values = kind === "band" ? difference(state.band).map(Math.abs) : errorMap(kind);
  setImage("error", values, [ROWS, COLUMNS]);
  setScale("error", facts.errorPalette, 0, quantileOf(values, 0.995), kind === "sam" ? "°" : "");
}

async function drawColour() {
  const chosen = state.colour, image = new Image();
  image.src = `data:image/png;base64,${facts.pictures[chosen]}`;
  await image.decode();
  if (chosen !== state.colour) return; // another was chosen meanwhile, and may be drawn already
  const canvas = Object.assign(document.createElement("canvas"), { width: image.width, height: image.height });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(image, 0, 0);
  const { data } = context.getImageData(0, 0, image.width, image.height);
  setImage("colour", data, [image.height, image.width]);
  const shown = { photo: "photo", rendered: facts.rendering, difference: facts.difference }[chosen];
  const title = shown[0].toUpperCase() + shown.slice(1);
  Object.assign(element("colour-title"), { textContent: title, title });
}

// --- spectra

function drawSpectra() {
  const ink = getComputedStyle(document.documentElement).getPropertyValue("--ink").trim();
  const shownPixels = state.pins.map((pin) => ({ ...pin, colour: PIN_COLOURS[pin.slot], label: LETTERS[pin.slot] }));
  if (state.under) shownPixels.push({ ...state.under, colour: ink, label: "cursor" });
  const lines = { nm: [], value: [], colour: [] }, truths = { nm: [], value: [], colour: [] };
  const samples = { nm: [], value: [], colour: [], label: [], half: [] };
  const areas = { nm: [], value: [], colour: [] };
  for (const { cell, colour, label, row, column } of shownPixels) {
    const widths = uncertain ? spectrumAt("interval", cell) : null;
    if (widths) addArea(areas, spectrumAt("cube", cell), widths, colour);
    for (const [name, target] of [["truth", truths], ["cube", lines]]) {
      if (!cubes[name]) continue;
      const values = spectrumAt(name, cell);
      target.nm.push(facts.wavelengths);
      target.value.push(values);
      target.colour.push(colour);
      if (name === "truth") continue;
      samples.nm.push(...facts.wavelengths);
      samples.value.push(...values);
      samples.half.push(...(widths ?? Array(BANDS).fill(NaN)));
      samples.colour.push(...Array(BANDS).fill(colour));
      samples.label.push(...Array(BANDS).fill(`${label}: row ${row}, column ${column}`));
    }
  }
  fitSpectra([...lines.value, ...truths.value, ...areas.value]);
  if (uncertain) model("interval_areas").data = areas;
  model("truth_lines").data = truths;
  model("spectrum_lines").data = lines;
  model("samples").data = samples;
  model("pins").data = {
    x: state.pins.map((pin) => pin.x), y: state.pins.map((pin) => pin.y),
    colour: state.pins.map((pin) => PIN_COLOURS[pin.slot]), letter: state.pins.map((pin) => LETTERS[pin.slot]),
  };
  model("cursor").data = { x: state.under ? [state.under.x] : [], y: state.under ? [state.under.y] : [] };
  listPins();
}

// The outline of cube ± half-width, cut at 0: forth along the upper side, back along the lower. Spectra with gaps have
// none.
function addArea(areas, values, widths, colour) {
  if (values.some(isNaN) || widths.some(isNaN)) return;
  const upper = Array.from(values, (value, band) => value + widths[band]);
  const lower = Array.from(values, (value, band) => Math.max(value - widths[band], Math.min(value, 0)));
  areas.nm.push([...facts.wavelengths, ...facts.wavelengths.toReversed()]);
  areas.value.push([...upper, ...lower.toReversed()]);
  areas.colour.push(colour);
}

function fitSpectra(spectra) {
  let low = 0, high = -Infinity;
  for (const values of spectra) {
    for (const value of values) {
      if (value < low) low = value;
      if (value > high) high = value;
    }
  }
  if (!(high > low)) high = low + 1;
  const margin = 0.05 * (high - low);
  const range = model("spectra").y_range;
  const ends = { start: low < 0 ? low - margin : 0, end: high + margin };
  range.setv(ends);
}

// One pixel's numbers in the selected band.
function reading(pixel) {
  let text = `<span>row ${pixel.row}, col ${pixel.column}</span><span class="value">${shown(valueAt("cube", state.band, pixel.cell))}</span>`;
  if (uncertain) text += `<span title="half-width of the interval">±${valueAt("interval", state.band, pixel.cell).toFixed(3)}</span>`;
  if (compared) {
    const apart = angle(spectrumAt("cube", pixel.cell), spectrumAt("truth", pixel.cell));
    text += `<span>truth ${shown(valueAt("truth", state.band, pixel.cell))}</span><span title="spectral angle">${degrees(apart)}</span>`;
  }
  return text;
}

// The rows stay while the readings change: a button that is replaced between press and release gets no click.
function listPins() {
  element("cursor").innerHTML = state.under ? reading(state.under) : "point at a picture; click to pin a pixel";
  const list = element("pins");
  const slots = state.pins.map((pin) => pin.slot).join();
  if (list.dataset.slots !== slots) {
    list.innerHTML = state.pins.map(({ slot }) =>
      `<li style="--pin:${PIN_COLOURS[slot]}"><b>${LETTERS[slot]}</b><div class="reading"></div><button data-slot="${slot}" title="remove">×</button></li>`).join("");
    list.dataset.slots = slots;
  }
  list.querySelectorAll(".reading").forEach((place, i) => { place.innerHTML = reading(state.pins[i]); });
}

function drawBandErrors() {
  if (!compared) return;
  const errors = facts.comparison.bandRmse.map((value) => value ?? NaN);
  model("band_errors").data = { nm: facts.wavelengths, rmse: errors, colour: facts.colours };
  const largest = Math.max(...errors.filter((value) => !isNaN(value)), 0) || 1;
  model("bands").y_range.setv({ end: 1.08 * largest });
}

// --- interaction

function setBand(band) {
  state.band = Math.min(BANDS - 1, Math.max(0, band));
  element("band").value = state.band;
  element("band").setAttribute("aria-valuetext", bandName(state.band));
  element("wavelength").innerHTML = `<i style="background:${facts.colours[state.band]}"></i>${bandName(state.band)}`;
  element("band-title").textContent = `Band ${state.band + 1} of ${BANDS}`;
  drawBand();
  if (state.error === "band") drawError();
  for (const name of compared ? ["spectra", "bands"] : ["spectra"]) {
    model(`${name}_here`).location = facts.wavelengths[state.band];
  }
  listPins();
}

// A band chosen by hand stays: playing would move on at once.
function chooseBand(band) {
  if (state.playing) play();
  setBand(band);
}

function togglePin(x, y) {
  const pixel = pixelAt(x, y);
  if (!pixel) return;
  const unit = (model("band").x_range.end - model("band").x_range.start) / model("band").inner_width;
  const near = state.pins.find((pin) => pin.cell === pixel.cell || Math.hypot(pin.x - x, pin.y - y) < NEAR_SCREEN_PIXELS * unit);
  if (near) return removePin(near.slot);
  if (state.pins.length === LETTERS.length) state.pins.shift();
  const slot = [...LETTERS].findIndex((_, i) => !state.pins.some((pin) => pin.slot === i));
  state.pins.push({ ...pixel, slot });
  drawSpectra();
}

function removePin(slot) {
  state.pins = state.pins.filter((pin) => pin.slot !== slot);
  drawSpectra();
}

function point(x, y) {
  const pixel = pixelAt(x, y);
  if (pixel?.cell === state.under?.cell) return;
  state.under = pixel;
  if (!point.scheduled) {
    point.scheduled = true;
    requestAnimationFrame(() => { point.scheduled = false; drawSpectra(); });
  }
}

function play() {
  clearInterval(state.playing);
  state.playing = state.playing ? null : setInterval(() => setBand((state.band + 1) % BANDS), Math.max(40, 4000 / BANDS));
  element("play").textContent = state.playing ? "❚❚" : "▶";
}

// --- the view: pixels are square in panels of any shape

function fitView(whole) {
  const { inner_width: width, inner_height: height, x_range: across, y_range: down } = model("band");
  if (!(width > 0 && height > 0)) return;
  const [rows, columns] = facts.size;
  const unit = whole ? Math.max(rows / height, columns / width) : (across.end - across.start) / state.width;
  const [x, y] = whole ? [columns / 2, rows / 2] : [(across.start + across.end) / 2, (down.start + down.end) / 2];
  const wide = { start: x - (unit * width) / 2, end: x + (unit * width) / 2 };
  const high = { start: y + (unit * height) / 2, end: y - (unit * height) / 2 };
  across.setv(wide);
  down.setv(high);
  Object.assign(state, { width, whole: [wide.start, wide.end] });
  state.fitted = whole;
}

function onResize() {
  const { x_range: across } = model("band");
  const moved = state.fitted && Math.abs(across.start - state.whole[0]) + Math.abs(across.end - state.whole[1]) > 1e-6;
  fitView(state.fitted && !moved);
}

function saveSpectra() {
  const chosen = state.pins.flatMap((pin) => Object.keys(cubes).map((name) => ({
    head: `${LETTERS[pin.slot]} ${name} row ${pin.row} column ${pin.column}`, values: spectrumAt(name, pin.cell) })));
  const lines = [[numbered ? "band" : "wavelength_nm", ...chosen.map(({ head }) => head)]];
  facts.wavelengths.forEach((centre, band) => {
    lines.push([centre, ...chosen.map(({ values }) => (isNaN(values[band]) ? "" : values[band].toPrecision(8)))]);
  });
  const text = lines.map((line) => line.join(",")).join("\n") + "\n";
  const link = document.createElement("a");
  link.href = `data:text/csv;charset=utf-8,${encodeURIComponent(text)}`;
  link.download = `${facts.title} spectra.csv`;
  link.click();
}

// --- appearance

function setLook(look) {
  document.documentElement.dataset.look = look;
  const style = getComputedStyle(document.documentElement);
  const [ink, faint, line] = ["--ink", "--faint", "--line"].map((name) => style.getPropertyValue(name).trim());
  const font = style.getPropertyValue("--font").trim();
  for (const plot of Bokeh.documents[0].roots()) {
    for (const axis of [...plot.below, ...plot.left]) {
      axis.setv({ axis_label_text_color: ink, major_label_text_color: ink, axis_line_color: faint,
                  major_tick_line_color: faint, axis_label_text_font: font, major_label_text_font: font,
                  axis_label_text_font_size: "12px", major_label_text_font_size: "11px" });
    }
    for (const part of plot.center) {
      if (part.type === "Grid" && part.axis?.type === plot.left[0].type && part.dimension === 1) part.grid_line_color = line;
      if (part.type === "Span") part.line_color = ink;
    }
  }
  drawSpectra();
}

function choice(id, key, options, then) {
  const place = element(id);
  place.innerHTML = Object.entries(options).map(([value, [text, title]]) =>
    `<button data-value="${value}" title="${title}">${text}</button>`).join("");
  const mark = () => {
    for (const button of place.children) button.setAttribute("aria-pressed", button.dataset.value === state[key]);
  };
  place.addEventListener("click", ({ target }) => {
    if (!target.dataset.value) return;
    state[key] = target.dataset.value;
    mark();
    then();
  });
  mark();
}

function describe() {
  const [rows, columns] = facts.size;
  const about = [`${rows} × ${columns} pixels`, `${BANDS} band${BANDS > 1 ? "s" : ""}`];
  if (!numbered) about.push(BANDS > 1 ? `${position(0)}–${bandName(BANDS - 1)}` : bandName(0));
  element("about").textContent = about.join("  ·  ");
  if (compared) {
    const { psnr, rmse, sam } = facts.comparison;
    const score = (name, value) => `<span>${name} <b>${value}</b></span>`;
    const ratio = psnr !== null ? `${psnr.toFixed(2)} dB` : rmse !== null ? "∞ dB" : "–"; // –: no value in common
    element("scores").innerHTML = score("PSNR", ratio) + score("RMSE", short(rmse ?? NaN)) + score("SAM", degrees(sam ?? NaN));
  }
  const top = facts.offset + (facts.levels - 1) * facts.step;
  const note = [`Values are those of the file, rounded to steps of ${facts.step.toPrecision(2)} (${Math.round(Math.log2(facts.levels + 1))}-bit codes from ${short(facts.offset)} to ${short(top)}).`];
  if (facts.factor > 1) {
    note.push(`One pixel in ${facts.factor} × ${facts.factor} is shown, ${ROWS} × ${COLUMNS} of ${rows} × ${columns}${compared ? "; PSNR, RMSE, SAM and the error of each band are those of the whole cube" : ""}.`);
  }
  if (facts.missing) note.push(`${facts.missing.toLocaleString("en")} values are missing (not finite).`);
  if (compared) note.push("Solid: cube; dashed: truth.");
  if (uncertain) note.push("Shaded: cube ± half-width of its interval, cut at 0; half-widths are rounded to thousandths of the widest.");
  element("note").textContent = note.join("  ");
}

function buildControls() {
  const slider = element("band");
  const widest = Math.max(...facts.wavelengths.map((_, band) => bandName(band).length));
  element("wavelength").style.minWidth = `${widest + 3}ch`;
  slider.max = BANDS - 1;
  slider.style.setProperty("--track", `linear-gradient(to right, ${facts.colours.concat(BANDS === 1 ? facts.colours : [])})`);
  slider.addEventListener("input", () => chooseBand(Number(slider.value)));
  const marks = Math.min(BANDS, 7);
  const ticks = marks > 1 ? Array.from({ length: marks }, (_, i) => Math.round((i * (BANDS - 1)) / (marks - 1))) : [0];
  element("scale").innerHTML = ticks.map((band) =>
    `<span style="left:${BANDS > 1 ? (100 * band) / (BANDS - 1) : 0}%">${Math.round(facts.wavelengths[band])}</span>`).join("");
  const redraw = () => setBand(state.band);
  choice("palette-choice", "palette", { grey: ["grey", "screen brightness proportional to the value"], tint: ["tint", "shades of the wavelength's colour"] }, redraw);
  choice("contrast-choice", "contrast", { all: ["one scale", "same scale for all bands"], band: ["each band", "a scale of its own for each band"] }, redraw);
  const views = { rendered: ["cube", facts.rendering], photo: ["photo", "the input photo"] };
  if (facts.pictures.difference) views.difference = ["difference", facts.difference];
  if (facts.pictures.photo) choice("colour-choice", "colour", views, drawColour);
  const shows = { cube: ["cube", ""] };
  if (compared) Object.assign(shows, { truth: ["truth", ""], difference: ["difference", "cube − truth"] });
  if (uncertain) shows.interval = ["interval", "half-width of the interval in this band"];
  if (compared || uncertain) choice("band-choice", "show", shows, redraw);
  if (!compared) return;
  choice("error-choice", "error", { rmse: ["RMSE", "root mean square over the bands"], sam: ["SAM", "spectral angle"], band: ["this band", "|cube − truth| in the selected band"] }, drawError);
}

// Handles clicks and moves as browser events: Bokeh reports a slow click as a different event.
function listenTo(picture) {
  const at = ({ clientX, clientY }) => {
    const box = picture.firstElementChild.getBoundingClientRect();
    const { x_range: across, y_range: down } = model("band");
    return [across.start + ((clientX - box.x) / box.width) * (across.end - across.start),
            down.end + ((clientY - box.y) / box.height) * (down.start - down.end)];
  };
  let pressed = null;
  picture.addEventListener("pointerdown", (event) => { pressed = event; });
  picture.addEventListener("click", (event) => {
    const dragged = pressed && Math.hypot(event.clientX - pressed.clientX, event.clientY - pressed.clientY) > 4;
    if (!dragged) togglePin(...at(event));
  });
  picture.addEventListener("pointermove", (event) => point(...at(event)));
  picture.addEventListener("pointerleave", () => point(NaN, NaN));
}

function listen() {
  const clear = () => { state.pins = []; drawSpectra(); };
  const look = () => setLook(document.documentElement.dataset.look === "dark" ? "light" : "dark");
  const help = () => element("help").showModal();
  const keys = {
    ArrowRight: (far) => chooseBand(state.band + far), ArrowLeft: (far) => chooseBand(state.band - far),
    Home: () => chooseBand(0), End: () => chooseBand(BANDS - 1), " ": play, 0: () => fitView(true), c: clear, l: look, "?": help,
  };
  document.addEventListener("keydown", (event) => {
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    if (!keys[key] || event.ctrlKey || event.metaKey || event.altKey || element("help").open) return;
    if (key === " " && event.target.matches("button:focus-visible")) return; // Space presses a button reached by Tab
    event.preventDefault();
    keys[key](event.shiftKey ? 5 : 1);
  });
  for (const [id, then] of [["play", play], ["reset", () => fitView(true)], ["clear", clear], ["save", saveSpectra], ["appearance", look], ["help-button", help]]) {
    element(id).addEventListener("click", then);
  }
  // After a click of the mouse, so that Space plays the bands again; one by a key has detail 0.
  document.addEventListener("click", ({ target, detail }) => { if (detail) target.blur?.(); });
  element("pins").addEventListener("click", ({ target }) => { if (target.dataset.slot) removePin(Number(target.dataset.slot)); });
  document.querySelectorAll(".picture .plot").forEach(listenTo);
  for (const name of ["inner_width", "inner_height"]) model("band").properties[name].change.connect(onResize);
}

// --- opening

async function drawn() {
  while (!(window.Bokeh?.documents[0]?.is_idle && model("band").inner_width > 0)) {
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

async function open() {
  if (!window.DecompressionStream) throw new Error("this page needs a browser from 2023 or later");
  await Promise.all([unpackAll(), drawn()]);
  state.pins = facts.pins.map(([row, column], slot) => ({ ...pixelAt(column, row), slot }));
  describe();
  buildControls();
  drawBandErrors();
  await drawColour();
  drawError();
  setLook("dark");
  setBand(state.band);
  fitView(true);
  listen();
  window.m3sr = { state, model, chooseWavelength: (x) => chooseBand(nearestBand(x)) };
  element("curtain").remove();
  requestAnimationFrame(() => setTimeout(() => { document.body.dataset.openedMs = Math.round(performance.now()); }));
}

open().catch((error) => {
  element("curtain").textContent = `This page could not be opened: ${error.message}`;
  throw error;
});
