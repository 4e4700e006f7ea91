// ---------- the strip of samples ----------

const isRight = (answer, sample) => answer === sample.expected;
const rightSign = (answer, sample) => (isRight(answer, sample) ? "\u2713" : "\u2717");

/** Whether somebody said which answer is right: "unknown" says that nobody did, unless it is one of the answers. */
const hasLabel = ({ expected }) => expected != null && (expected !== "unknown" || data.samples.some(({ answer, top }) => [answer, ...(top ?? []).map(([each]) => each)].includes("unknown")));
const visible = () => data.samples.map((_, k) => k).filter((k) => state.filter === null || data.samples[k].dataset === state.filter);

function showFilter() {
  const choice = (kind, title) => el("button", { type: "button", "aria-pressed": String(state.filter === kind), "data-kind": kind ?? "", onclick: () => filterBy(kind) }, title);
  byId("filter").replaceChildren(choice(null, "all"), ...data.datasets.map((kind) => choice(kind, plain(kind))));
  byId("filter").hidden = data.datasets.length < 2;
}

function filterBy(kind) {
  state.filter = kind;
  for (const button of byId("filter").children) button.setAttribute("aria-pressed", String(button.dataset.kind === (kind ?? "")));
  showStrip();
  const shown = visible();
  if (shown.length && !shown.includes(state.sample)) choose(shown[0]);
}

function showStrip() {
  byId("strip").replaceChildren(...visible().map((k) => {
    const sample = data.samples[k];
    const spoken = `Sample ${k + 1}: ${plain(sample.dataset)}, answered ${sample.answer}, ${hasLabel(sample) ? `expected ${sample.expected}` : "no label"}`;
    const mark = hasLabel(sample) ? el("span", { class: `verdict ${isRight(sample.answer, sample) ? "good" : "bad"}` }, `${rightSign(sample.answer, sample)} ${sample.answer}`)
      : el("span", { class: "verdict" }, sample.answer);
    return el("button", { type: "button", class: "thumb", "data-sample": k, "aria-label": spoken, "aria-pressed": String(k === state.sample), onclick: () => choose(k) }, ...thumbOf(sample), mark);
  }));
}

/** What a thumbnail shows: pictures of what can be drawn, or else the beginning of a text. */
function thumbOf(sample) {
  const surfaces = data.modalities.filter(isSurface);
  if (surfaces.length) return surfaces.map((modality) => miniature(modality, sample, null));
  const texts = data.modalities.map((modality) => get(sample, "inputs", modality.name, "characters")).filter(Boolean);
  return texts.length ? [el("span", { class: "words" }, texts[0].slice(0, 40).join(""))] : [];
}

/** Shows another sample, and keeps its thumbnail in sight without moving the page. */
function choose(k) {
  const strip = byId("strip"), held = strip.contains(document.activeElement);
  state.sample = k;
  state.taken = [];
  for (const thumb of strip.children) thumb.setAttribute("aria-pressed", String(Number(thumb.dataset.sample) === k));
  const thumb = strip.querySelector(`[data-sample="${k}"]`);
  if (thumb) {
    if (held) thumb.focus({ preventScroll: true });
    const [box, frame] = [thumb.getBoundingClientRect(), strip.getBoundingClientRect()];
    strip.scrollLeft += Math.min(0, box.left - frame.left - 8) + Math.max(0, box.right - frame.right + 8);
    strip.scrollTop += Math.min(0, box.top - frame.top - 8) + Math.max(0, box.bottom - frame.bottom + 8);
  }
  showSample();
}

function move(step) {
  const shown = visible(), here = shown.indexOf(state.sample);
  if (shown.length) choose(shown[(here + step + shown.length) % shown.length]);
}

/** Arrow keys move, except where an arrow already means something: players, boxes that scroll sideways. */
function onKey(event) {
  const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  if (!step || event.altKey || event.ctrlKey || event.metaKey || event.shiftKey || event.target.closest("audio, input, [tabindex]")) return;
  event.preventDefault();
  move(step);
}

// ---------- one sample ----------

/** Builds what only changes with the sample; paint() fills in what also depends on marks, highlighter and removals. */
function showSample() {
  const sample = data.samples[state.sample], shown = visible();
  byId("position").textContent = `Sample ${shown.indexOf(state.sample) + 1} of ${shown.length}: ${plain(sample.dataset)}`;
  byId("inputs").replaceChildren(...data.modalities.map((modality) => inputCard(modality, sample)));
  paint();
  paintReply();
}

function inputCard(modality, sample) {
  const input = get(sample, "inputs", modality.name);
  const card = el("div", { class: `card input ${modality.view}`, "data-modality": modality.name, ...tones(modality) }, el("header", {}, named(modality), el("span", { class: "small mass" })));
  if (!input) card.append(el("div", { class: "map" }, el("div", { class: "none" }, el("span", { class: "absent-word" }, "absent"))));
  else if (isSurface(modality)) card.append(...surface(modality, input));
  else card.append(pieces(modality, input, sample));
  card.append(el("div", { class: "legend small" }));
  return card;
}

/** One map, or a film strip of them; below a sound its player. */
function surface(modality, input) {
  const sheets = sheetsOf(modality, input);
  const maps = sheets.map((sheet, k) => map(modality, k, sheets.length));
  if (modality.view === "video") {
    for (const each of maps) each.style.aspectRatio = `${input.columns} / ${input.rows}`;
    return [el("div", { class: "film" }, ...maps)];
  }
  if (modality.view === "picture") maps[0].style.aspectRatio = `${input.columns} / ${input.rows}`;
  return modality.view === "picture" ? maps : [...maps, ...player(modality, input, maps[0])];
}

function map(modality, k, total) {
  const frame = total > 1 ? `, frame ${k + 1} of ${total}` : "";
  const canvas = el("canvas", { role: "img", "aria-label": `${plain(modality.name)}${frame}, with highlighter` });
  return el("div", { class: "map", onpointermove: (event) => readOut(event, modality, k, total) }, canvas);
}

function player(modality, input, over) {
  const playhead = over.appendChild(el("div", { class: "playhead" }));
  const audio = el("audio", { controls: true, preload: "metadata", src: input.wav, "aria-label": `Play ${plain(modality.name)}` });
  audio.addEventListener("play", () => follow(audio, playhead));
  const between = modality.view === "sound" ? "low pitch below, high above" : "";
  return [el("div", { class: "axis small" }, el("span", {}, "0 s"), el("span", {}, between), el("span", {}, `${input.seconds.toFixed(2)} s`)), audio];
}

/** Moves the line with the sound while it plays. */
function follow(audio, playhead) {
  playhead.style.visibility = audio.paused || audio.ended ? "hidden" : "visible";
  playhead.style.left = `${100 * clamp(audio.currentTime / (audio.duration || 1))}%`;
  if (!audio.paused && !audio.ended) requestAnimationFrame(() => follow(audio, playhead));
}

/** Tells the weight under the pointer. */
function readOut(event, modality, k, total) {
  const grids = gridsOf(modality, data.samples[state.sample]), box = event.currentTarget.getBoundingClientRect();
  if (!grids) return event.currentTarget.removeAttribute("title");
  const grid = gridAt(grids, k, total);
  const row = Math.floor(clamp((event.clientY - box.top) / box.height) * 0.999 * grid.length);
  const column = Math.floor(clamp((event.clientX - box.left) / box.width) * 0.999 * grid[0].length);
  event.currentTarget.title = told(grid[row][column]);
}

const told = (weight) => (state.marks.kind === "layer" ? `${percent(weight, 2)} of this layer's attention` : number(weight));

/** Bytes or tokens, each in an element of its own. White space stays as wide as it was typed; tokens without labels are numbered. */
function pieces(modality, input, sample) {
  const printable = (character) => (character === "\n" ? "\u21b5" : character < " " ? "\u00b7" : character);
  const total = Math.max(0, ...data.layers.map((layer) => piecesOf(sample, layer, modality.name)));
  const words = modality.view === "text" ? input.characters.map(printable) : (input.labels ?? Array.from({ length: total }, (_, k) => k + 1)).map(String);
  const long = words.length > (modality.view === "text" ? 320 : 160), title = plain(modality.name);
  const box = long ? { tabindex: 0, role: "region", "aria-label": title } : {};
  return el("p", { class: `${modality.view === "text" ? "bytes" : "cells"}${long ? " long" : ""}`, ...box }, ...words.map((word) => el("span", {}, word)));
}

/** Everything but the reply that depends on the marks, the highlighter, the removals or the colours. */
function paint() {
  const sample = data.samples[state.sample];
  paintControls(sample);
  for (const modality of data.modalities) paintInput(modality, sample);
  byId("every").replaceChildren(...data.layers.map((layer, k) => layerCard(layer, k, sample)));
}

function paintInput(modality, sample) {
  const card = [...byId("inputs").children].find((each) => each.dataset.modality === modality.name);
  const input = get(sample, "inputs", modality.name), taken = state.taken.includes(modality.name);
  const grids = gridsOf(modality, sample), marked = state.overlay && !taken ? grids : null, top = grids ? greatest(grids) : 1;
  const mass = state.marks.kind === "layer" && input ? `${percent(massOf(sample, state.marks.name, modality.name), 0)} of attention` : "";
  card.classList.toggle("taken", taken);
  card.querySelector(".mass").textContent = taken ? "taken away" : mass;
  if (input && isSurface(modality)) {
    const sheets = sheetsOf(modality, input), canvases = card.querySelectorAll("canvas");
    sheets.forEach((sheet, k) => draw(canvases[k], sheet, marked && gridAt(marked, k, sheets.length), highOf(modality), top));
  } else if (input) tintPieces(card.querySelectorAll("p span"), modality, grids ? grids.flat(2) : [], Boolean(marked), top);
  paintLegend(card.querySelector(".legend"), grids, top, Boolean(marked), sample, taken || !input);
}

function tintPieces(spans, modality, weights, marked, top) {
  spans.forEach((span, k) => {
    const amount = marked ? (weights[k] ?? 0) / (top || 1) : 0;
    span.style.backgroundColor = !marked ? "" : amount < 0 ? tint(palette.against, -0.15 * amount) : tint(highOf(modality), amount);
    span.classList.toggle("against", amount < 0);
    span.style.setProperty("--hatch", amount < 0 ? tint(palette.against, -0.6 * amount) : null);
    span.title = k in weights ? told(weights[k]) : "";
  });
}

/** Maps are scaled to their own maximum to be visible; the legend says how much that is. */
function paintLegend(legend, grids, top, marked, sample, gone) {
  const layer = state.marks.kind === "layer", ramp = el("span", { class: "ramp" });
  const none = layer ? "not read by this layer" : isRefused(sample) ? "not shown: no better than random" : "no marks here";
  const why = gone ? "not given to the model" : !grids ? none : marked ? null : "highlighter off";
  if (why) return legend.replaceChildren(why);
  if (layer) {
    const even = 1 / allPieces(sample, state.marks.name);
    return legend.replaceChildren(el("span", {}, "0", ramp, `${percent(top, 2)} at most`), el("span", {}, `${(top / even).toFixed(1)} \u00d7 the even share`));
  }
  const negative = grids.flat(2).some((weight) => weight < 0);
  legend.replaceChildren(el("span", {}, negative ? "for" : "0", ramp, `${number(top)} at most`), negative ? el("span", {}, "against", el("span", { class: "ramp against" })) : "");
}

// ---------- the answer, with and without ----------

/** Removed modalities under one name, in the order of the model's. */
const keyOf = (names) => data.modalities.map((modality) => modality.name).filter((name) => names.includes(name)).join("+");

/** The answer, as it is or without what was taken away. A live region: written only when it changes. */
function paintReply() {
  const sample = data.samples[state.sample], taken = state.taken.length > 0;
  const now = taken ? get(sample, "without", keyOf(state.taken)) : sample;
  const odds = (answer, chance) => el("li", { "--mod": "var(--ink)" }, el("b", {}, answer), bar(chance), el("span", {}, percent(chance)));
  const rows = taken ? [odds(now.answer, now.probability)] : (sample.top ?? []).map(([answer, chance]) => odds(answer, chance));
  const longest = Math.max(now.answer.length, ...(sample.top ?? []).map(([answer]) => answer.length));
  const removed = list(data.modalities.map((modality) => modality.name).filter((name) => state.taken.includes(name)).map(plain));
  byId("reply").replaceChildren(
    el("span", { class: "label" }, taken ? `Without ${removed}` : "Answer"),
    el("div", { class: now.answer.length > 5 ? "big long" : "big", id: "answer" }, now.answer),
    hasLabel(sample) ? el("div", { class: "row" }, el("span", { id: "expected" }, "expected ", el("b", {}, sample.expected)),
      el("span", { class: `chip ${isRight(now.answer, sample) ? "good" : "bad"}` }, `${rightSign(now.answer, sample)} ${isRight(now.answer, sample) ? "right" : "wrong"}`))
      : el("div", { class: "row" }, el("span", { id: "expected" }, "no label")),
    el("ul", { class: "odds plain-list", "--first": `${Math.min(5.5, Math.max(3, 0.65 * longest))}rem`, "aria-label": "Most likely answers" }, ...rows));
  byId("note").textContent = taken ? `With everything: ${sample.answer} (${percent(sample.probability)}). The marks on the rest are from then.` : "Several may go at once. All answers were computed beforehand.";
  for (const button of byId("takes").children) paintTake(button, sample);
}

function takeButton(modality) {
  return el("button", { type: "button", "data-take": modality.name, onclick: () => take(modality.name) }, icon(modality.view), el("span"));
}

function paintTake(button, sample) {
  const name = button.dataset.take, taken = state.taken.includes(name), there = Boolean(get(sample, "inputs", name));
  const possible = taken || (there && Boolean(get(sample, "without", keyOf([...state.taken, name]))));
  const others = data.modalities.filter((modality) => modality.name !== name && get(sample, "inputs", modality.name) && !state.taken.includes(modality.name));
  const barred = !there ? "is absent" : others.length ? (state.taken.length ? "cannot go as well" : "cannot be taken away") : state.taken.length ? "is all that is left" : "is all it has";
  button.disabled = !possible;
  button.setAttribute("aria-pressed", String(taken));
  button.lastChild.textContent = possible ? `take away ${plain(name)}` : `${plain(name)} ${barred}`;
}

function take(name) {
  state.taken = state.taken.includes(name) ? state.taken.filter((each) => each !== name) : [...state.taken, name];
  paint();
  paintReply();
}

// ---------- every layer of one sample ----------

/** Small multiples: all maps of one layer, and how its attention was split, registers and the like included. */
function layerCard(layer, k, sample) {
  const total = allPieces(sample, layer), marks = { kind: "layer", name: layer };
  const others = Object.keys(get(sample, "mass", layer) ?? {}).filter((name) => !data.modalities.some((modality) => modality.name === name));
  const share = (name, title, tone) => {
    const mass = massOf(sample, layer, name), read = piecesOf(sample, layer, name);
    return el("li", tone, title, bar(mass, { tick: total && (read || name in (sample.inputs ?? {})) ? read / total : null }), el("span", {}, percent(mass)));
  };
  const masses = [
    ...data.modalities.map((modality) => share(modality.name, named(modality), tones(modality))),
    ...others.map((name) => share(name, el("span", {}, plain(name)), { "--mod": "var(--edge)" }))];
  const maps = data.modalities.map((modality) => miniature(modality, sample, state.overlay ? gridsOf(modality, sample, marks) : null));
  const chosen = state.marks.kind === "layer" && layer === state.marks.name;
  return el("div", { class: `card${chosen ? " chosen" : ""}`, "data-layer": layer },
    el("header", {}, el("h3", {}, `Layer ${k + 1}`), el("span", { class: "small" }, layer)), el("div", { class: "mini" }, ...maps), el("ul", { class: "masses plain-list" }, ...masses));
}
