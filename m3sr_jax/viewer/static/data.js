"use strict";
// The numbers behind the page: codes unpacked from text (the inverse of packing.py), values, errors, ranges.

const facts = JSON.parse(document.getElementById("facts").textContent);
const [ROWS, COLUMNS] = facts.kept;
const BANDS = facts.wavelengths.length;
const PIXELS = ROWS * COLUMNS;
const cubes = {}; // "cube" and optionally "truth" and "interval", half-widths → Uint16Array of BANDS planes of PIXELS codes

function bytesOf(text) {
  if (Uint8Array.fromBase64) return Uint8Array.fromBase64(text);
  const letters = atob(text);
  const bytes = new Uint8Array(letters.length);
  for (let i = 0; i < bytes.length; i++) bytes[i] = letters.charCodeAt(i);
  return bytes;
}

async function unpack(text) {
  const stream = new Blob([bytesOf(text)]).stream().pipeThrough(new DecompressionStream("deflate"));
  const bytes = new Uint8Array(await new Response(stream).arrayBuffer());
  const count = bytes.length / 2;
  const codes = new Uint16Array(count); // wraps modulo 2^16, as the differences do
  for (let i = 0; i < count; i++) {
    const zigzag = bytes[i] | (bytes[count + i] << 8);
    codes[i] = (zigzag >> 1) ^ -(zigzag & 1);
  }
  for (let i = PIXELS; i < count; i++) codes[i] += codes[i - PIXELS];
  for (let row = 0; row < count; row += COLUMNS) {
    for (let i = row + 1; i < row + COLUMNS; i++) codes[i] += codes[i - 1];
  }
  return codes;
}

async function unpackAll() {
  for (const name of ["cube", "truth", "interval"]) {
    const element = document.getElementById(`codes-${name}`);
    if (!element) continue;
    cubes[name] = await unpack(element.textContent.trim());
    element.remove(); // frees tens of megabytes of text
  }
}

const decode = (code) => (code ? facts.offset + (code - 1) * facts.step : NaN);
const valueAt = (name, band, pixel) => decode(cubes[name][band * PIXELS + pixel]);

function spectrumAt(name, pixel) {
  return Float64Array.from({ length: BANDS }, (_, band) => valueAt(name, band, pixel));
}

function plane(name, band) {
  const values = new Float32Array(PIXELS);
  const codes = cubes[name].subarray(band * PIXELS, (band + 1) * PIXELS);
  for (let i = 0; i < PIXELS; i++) values[i] = decode(codes[i]);
  return values;
}

function difference(band) {
  const values = new Float32Array(PIXELS);
  const start = band * PIXELS;
  for (let i = 0; i < PIXELS; i++) values[i] = decode(cubes.cube[start + i]) - decode(cubes.truth[start + i]);
  return values;
}

// Spectral angle in degrees between two spectra; NaN if one is zero.
function angle(x, y) {
  let xx = 0, yy = 0, gap = 0, total = 0;
  for (let i = 0; i < x.length; i++) {
    if (isNaN(x[i]) || isNaN(y[i])) continue;
    xx += x[i] * x[i];
    yy += y[i] * y[i];
  }
  if (!xx || !yy) return NaN;
  const a = 1 / Math.sqrt(xx), b = 1 / Math.sqrt(yy);
  for (let i = 0; i < x.length; i++) {
    if (isNaN(x[i]) || isNaN(y[i])) continue;
    gap += (a * x[i] - b * y[i]) ** 2;
    total += (a * x[i] + b * y[i]) ** 2;
  }
  return (2 * Math.atan2(Math.sqrt(gap), Math.sqrt(total)) * 180) / Math.PI;
}

// Maps of the root-mean-square error over the bands, and of the spectral angle.
const errorMaps = {
  rmse() {
    const square = new Float64Array(PIXELS), count = new Uint32Array(PIXELS);
    for (let i = 0; i < cubes.cube.length; i++) {
      const x = cubes.cube[i], y = cubes.truth[i];
      if (!x || !y) continue;
      square[i % PIXELS] += (x - y) ** 2;
      count[i % PIXELS]++;
    }
    return Float32Array.from(square, (sum, i) => facts.step * Math.sqrt(sum / count[i]));
  },
  sam() {
    const dot = new Float64Array(PIXELS), xx = new Float64Array(PIXELS), yy = new Float64Array(PIXELS);
    for (let i = 0, pixel = 0; i < cubes.cube.length; i++, pixel = pixel + 1 === PIXELS ? 0 : pixel + 1) {
      const x = decode(cubes.cube[i]), y = decode(cubes.truth[i]);
      if (isNaN(x) || isNaN(y)) continue;
      dot[pixel] += x * y;
      xx[pixel] += x * x;
      yy[pixel] += y * y;
    }
    return Float32Array.from(dot, (sum, i) => {
      if (!xx[i] || !yy[i]) return NaN;
      return (Math.acos(Math.min(1, Math.max(-1, sum / Math.sqrt(xx[i] * yy[i])))) * 180) / Math.PI;
    });
  },
};

// The quantiles of a cube's finite values, for the given shares, over bands first to last − 1.
function quantiles(name, shares, first = 0, last = BANDS) {
  const histogram = new Uint32Array(65536);
  const codes = cubes[name].subarray(first * PIXELS, last * PIXELS);
  for (let i = 0; i < codes.length; i++) histogram[codes[i]]++;
  const total = codes.length - histogram[0];
  return shares.map((share) => {
    if (!total) return NaN;
    let code = 1;
    for (let seen = histogram[1]; seen < share * total && code < 65535; ) seen += histogram[++code];
    return decode(code);
  });
}

function quantileOf(values, share) {
  const finite = values.filter((value) => !isNaN(value)).sort();
  return finite.length ? finite[Math.min(finite.length - 1, Math.floor(share * finite.length))] : NaN;
}
