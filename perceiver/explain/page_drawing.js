"use strict";
const data = JSON.parse(document.getElementById("payload").textContent);

/** What the reader has chosen. `marks` is what the highlighter shows, `head` null for the mean of the heads, `taken` names of modalities. */
const state = { sample: 0, marks: { kind: "layer", name: data.layers.at(-1) }, head: null, overlay: true, taken: [], filter: null };

// ---------- elements ----------

const byId = (id) => document.getElementById(id);

/** Makes an element. Text always becomes a text node, so no data can turn into markup. */
function el(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

function svg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name.startsWith("--")) element.style.setProperty(name, value);
    else if (value !== null && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

const ICONS = {
  picture: ["M3 4h18v16H3z", "M3 17l5.5-6 4.5 5 3-3 5 5", "M16.5 8.5h.01"],
  video: ["M3 4h18v16H3z", "M7 4v16", "M17 4v16", "M3 9.3h4", "M3 14.7h4", "M17 9.3h4", "M17 14.7h4"],
  sound: ["M3 10v4", "M7.5 6v12", "M12 3v18", "M16.5 7v10", "M21 10v4"],
  wave: ["M2 12c2.5-9 4.5-9 7 0s4.5 9 7 0 4-7 6-2"],
  text: ["M4 7V4.5h16V7", "M12 4.5v15", "M9 19.5h6"],
  tokens: ["M3.5 3.5h7v7h-7z", "M13.5 3.5h7v7h-7z", "M3.5 13.5h7v7h-7z", "M13.5 13.5h7v7h-7z"],
};

function icon(view) {
  return svg("svg", { class: "icon", viewBox: "0 0 24 24", "aria-hidden": "true" }, ...(ICONS[view] ?? ICONS.tokens).map((d) => svg("path", { d })));
}

const named = (modality) => el("span", { class: "modality", ...tones(modality) }, icon(modality.view), plain(modality.name));

/** A bar from zero, with an optional tick for the even share and a whisker for an interval. A scale is [lowest, highest], 0 to 1 if none is given. */
function bar(value, { tick = null, interval = null, scale = [0, 1] } = {}) {
  const place = (number) => 100 * clamp((number - scale[0]) / (scale[1] - scale[0]));
  const stretch = (name, low, high) => el("span", { class: name, style: `left: ${low}%; width: ${high - low}%` });
  const [zero, end] = [place(0), place(value || 0)];
  return el("span", { class: "bar", "aria-hidden": "true" }, stretch("length", Math.min(zero, end), Math.max(zero, end)),
    interval ? stretch("whisker", place(interval[0]), place(interval[1])) : null,
    Number.isFinite(tick) ? el("span", { class: "tick", style: `left: ${place(tick)}%` }) : null);
}

/** The sign, the word and the class of a verdict. The sign and the word tell it without the colour. */
const VERDICTS = { ok: ["\u2713", "ok"], warning: ["!", "warning"], "not applicable": ["\u2013", "not applicable"] };
const signOf = (verdict) => (VERDICTS[verdict] ?? ["?"])[0];
const classOf = (verdict) => ({ ok: "ok", warning: "warning" })[verdict] ?? "none-such";

function badge(verdict, words = verdict) {
  return el("span", { class: `badge ${classOf(verdict)}` }, el("span", { "aria-hidden": "true" }, signOf(verdict)), plain(String(words ?? "no verdict")));
}

// ---------- numbers and words ----------

const get = (tree, ...keys) => keys.reduce((node, key) => (node === undefined || node === null ? undefined : node[key]), tree);
const some = (tree) => Boolean(tree) && Object.keys(tree).length > 0;
const sum = (values) => values.reduce((total, value) => total + value, 0);
const mean = (values) => (values.length ? sum(values) / values.length : 0);
const clamp = (value) => Math.min(1, Math.max(0, value));
const plain = (name) => name.replaceAll("_", " ");
const list = (words) => (words.length < 2 ? words.join("") : `${words.slice(0, -1).join(", ")} and ${words.at(-1)}`);
const several = (count, one, many = `${one}s`) => `${number(count)} ${count === 1 ? one : many}`;
const percent = (value, digits = 1) => (Number.isFinite(value) ? `${(100 * value).toFixed(digits)}%` : "\u2013");
const minus = (text) => text.replace(/-(?=\d|\.)/g, "\u2212");
const points = (value) => (Number.isFinite(value) ? minus(String(Math.round(100 * value) || 0)) : "\u2013");

/** A number of any size in about three digits. */
function number(value) {
  if (!Number.isFinite(value)) return "\u2013";
  const size = Math.abs(value);
  if (Number.isInteger(value) || size >= 100) return minus(Math.round(value).toLocaleString("en-US"));
  if (size < 0.001) return minus(value.toPrecision(2));
  return minus(value.toFixed(size >= 10 ? 1 : size >= 1 ? 2 : 3));
}

// ---------- colours as numbers: canvases and tints cannot read CSS variables ----------

let palette = {};

function readPalette() {
  const probe = document.body.appendChild(el("i"));
  const resolve = (name) => {
    probe.style.color = `var(--${name})`;
    return getComputedStyle(probe).color.match(/[\d.]+/g).slice(0, 3).map(Number);
  };
  palette = { paper: resolve("surface"), ink: resolve("ink"), against: resolve("against"), high: data.modalities.map((modality) => resolve(`h${indexOf(modality)}`)) };
  probe.remove();
}

const indexOf = (modality) => data.modalities.indexOf(modality) % 6;
const tones = (modality) => ({ "--mod": `var(--m${indexOf(modality)})`, "--high": `var(--h${indexOf(modality)})` });
const highOf = (modality) => palette.high[data.modalities.indexOf(modality)];
const mix = (from, to, amount) => from.map((value, k) => value + (to[k] - value) * amount);
const css = (colour) => `rgb(${colour.map(Math.round).join(", ")})`;
const tint = (colour, amount) => css(mix(palette.paper, colour, clamp(amount)));

/** The colour of one point: highlighter lies on the paper and under the ink, so that the drawing stays legible. */
function shade(value, weight, high) {
  if (Array.isArray(value)) return mix(value, high, 0.6 * weight);
  return mix(mix(palette.paper, high, weight), mix(palette.ink, high, 0.15 * weight), clamp(value));
}

// ---------- inputs as sheets: {rows, columns, at(y, x)}, where at() is ink from 0 to 1, or [red, green, blue] ----------

const SHEETS = {
  picture: (input) => [raster(bytesOf(input), input, 0)],
  video: (input) => Array.from({ length: input.frames }, (_, k) => raster(bytesOf(input), input, k)),
  sound: (input) => [spectrogram(bytesOf(input), input)],
  wave: (input) => [waveform(input)],
};
const bytesOf = (input) => Uint8Array.from(atob(input.bytes), (character) => character.charCodeAt(0));
const sheetsKnown = new WeakMap();

/** The sheets of an input, decoded once: one for a picture or a sound, one a frame for a video. */
function sheetsOf(modality, input) {
  if (!sheetsKnown.has(input)) sheetsKnown.set(input, SHEETS[modality.view](input));
  return sheetsKnown.get(input);
}

function raster(bytes, { rows, columns, channels }, frame) {
  const start = frame * rows * columns * channels;
  const at = channels === 3
    ? (y, x) => { const k = start + 3 * (y * columns + x); return [bytes[k], bytes[k + 1], bytes[k + 2]]; }
    : (y, x) => bytes[start + y * columns + x] / 255;
  return { rows, columns, at };
}

/** Time runs to the right, and the highest pitch is on top. Squared, so that what is quiet stays paper and highlighter shows on it. */
function spectrogram(bytes, input) {
  return { rows: input.columns, columns: input.rows, at: (y, x) => (bytes[x * input.columns + input.columns - 1 - y] / 255) ** 2 };
}

/** Ink between the least and the greatest sample of each stretch, in 97 rows, the middle one at zero. */
function waveform({ low, high }) {
  const row = (value) => Math.round(48 * (1 - Math.min(1, Math.max(-1, value))));
  return { rows: 97, columns: low.length, at: (y, x) => (y >= row(high[x]) && y <= row(low[x]) ? 0.85 : 0) };
}

const isSurface = (modality) => modality.view in SHEETS;

// ---------- weights as grids [y][x], one for each sheet or for a stretch of sheets ----------

const GRIDS = {
  picture: (weights) => [weights],
  video: (weights) => weights,
  sound: (weights) => [Array.isArray(weights[0]) ? weights[0].map((_, k) => weights.map((moment) => moment[moment.length - 1 - k])) : weights],
};

/** The weights that the chosen marks put on a modality, or null where there are none. */
function gridsOf(modality, sample, marks = state.marks) {
  const weights = marks.kind === "layer" ? ofHead(get(sample, "attention", marks.name, modality.name)) : get(sample, "explanations", marks.name, modality.name);
  if (!weights || !weights.length || (marks.kind === "explanation" && isRefused(sample))) return null;
  return (GRIDS[modality.view] ?? ((each) => [[each]]))(weights);
}

const average = (nested) => (Array.isArray(nested[0]) ? nested[0].map((_, k) => average(nested.map((each) => each[k]))) : mean(nested));
const ofHead = (heads) => (heads && heads.length ? (state.head === null ? average(heads) : heads[state.head]) : null);
const headsOf = (sample, layer) => Math.max(0, ...Object.values(get(sample, "attention", layer) ?? {}).map((heads) => heads.length));
const greatest = (grids) => grids.flat(2).reduce((top, weight) => Math.max(top, Math.abs(weight)), 0);
const count = (nested) => (Array.isArray(nested) ? sum(nested.map(count)) : 1);

/** How many pieces a layer reads of a modality, or of other parts of its input, such as registers. */
const piecesOf = (sample, layer, name) => count(get(sample, "attention", layer, name, 0) ?? []);
const allPieces = (sample, layer) => sum(Object.keys(get(sample, "attention", layer) ?? {}).map((name) => piecesOf(sample, layer, name)));

/** The share of a layer's attention that a part of its input got: mean over the heads, or of the chosen head. */
function massOf(sample, layer, name) {
  const heads = get(sample, "attention", layer, name);
  if (state.head === null || !heads || !heads[state.head]) return get(sample, "mass", layer, name);
  return sum([heads[state.head]].flat(Infinity));
}

// ---------- drawing ----------

/** Draws a sheet and its highlighter, one canvas pixel a value (or a weight, where these are finer). Against the answer is hatched, so it is drawn larger. */
function draw(canvas, sheet, grid, high, top) {
  const [rows, columns] = [Math.max(sheet.rows, grid ? grid.length : 1), Math.max(sheet.columns, grid ? grid[0].length : 1)];
  const zoom = grid && grid.some((row) => row.some((weight) => weight < 0)) ? Math.max(1, Math.ceil(256 / Math.max(rows, columns))) : 1;
  [canvas.width, canvas.height] = [columns * zoom, rows * zoom];
  const image = new ImageData(canvas.width, canvas.height);
  for (let y = 0; y < rows; y++)
    for (let x = 0; x < columns; x++) {
      const value = sheet.at(Math.floor((y * sheet.rows) / rows), Math.floor((x * sheet.columns) / columns));
      const weight = grid ? (grid[Math.floor((y * grid.length) / rows)][Math.floor((x * grid[0].length) / columns)] ?? 0) / (top || 1) : 0;
      block(image, x * zoom, y * zoom, zoom, value, weight, high);
    }
  canvas.getContext("2d").putImageData(image, 0, 0);
}

/** One value, zoom x zoom canvas pixels: all of one colour, or hatched where it speaks against the answer. */
function block(image, left, top, zoom, value, weight, high) {
  const plainly = shade(value, weight < 0 ? -0.15 * weight : weight, weight < 0 ? palette.against : high);
  const hatched = weight < 0 ? mix(shade(value, -weight, palette.against), palette.against, -0.45 * weight) : plainly;
  for (let y = top; y < top + zoom; y++)
    for (let x = left; x < left + zoom; x++) {
      const colour = (x + y) % 8 < 4 ? hatched : plainly, k = 4 * (y * image.width + x);
      [image.data[k], image.data[k + 1], image.data[k + 2], image.data[k + 3]] = [colour[0], colour[1], colour[2], 255];
    }
}

/** A small picture of a modality of a sample, or a hatched place where it is absent. Of a video it is the frame in the middle. */
function miniature(modality, sample, grids) {
  const input = get(sample, "inputs", modality.name);
  if (!input) return el("span", { class: `none ${modality.view}`, title: `${plain(modality.name)}: absent` });
  const canvas = el("canvas", { class: modality.view, "aria-hidden": "true" });
  const sheets = isSurface(modality) ? sheetsOf(modality, input) : [{ rows: 1, columns: 1, at: () => 0 }];
  const middle = Math.floor(sheets.length / 2);
  draw(canvas, sheets[middle], grids && gridAt(grids, middle, sheets.length), highOf(modality), grids ? greatest(grids) : 1);
  return canvas;
}

/** The grid that covers a sheet, where one grid may cover several. */
const gridAt = (grids, k, sheets) => grids[Math.floor((k * grids.length) / sheets)];
