// ---------- first screen ----------

const NOUNS = { picture: "a picture", video: "a video", sound: "a recording", wave: "a recording", text: "a text" };
const isShort = !["worth", "belief", "diagnoses", "explanations", "ladder", "cost"].some((key) => some(data[key]));

function showHead() {
  document.title = `${data.title}: what the model read and what it used`;
  byId("title").textContent = data.title;
  byId("subtitle").textContent = data.subtitle;
  byId("lead").textContent = data.asked ?? askedOf();
}

/** What the model was asked, as far as the inputs tell. */
function askedOf() {
  const given = list(data.modalities.map((modality) => NOUNS[modality.view] ?? plain(modality.name)));
  const complete = data.samples.every((sample) => data.modalities.every((modality) => get(sample, "inputs", modality.name)));
  const how = data.modalities.length < 2 ? "" : complete ? ", all at once," : ", or whichever of them there was,";
  return `One model was given ${given}${how} and had to find one answer. What did it use, where did it look, and is the picture of its attention true?`;
}

const lossOf = (kind, modality) => get(data.accuracy, kind) - get(data.accuracy_without, modality.name, kind);

/** What each modality was worth for each kind of question: Shapley values, or else what its removal costs. */
function showWorth() {
  const shared = some(data.worth);
  const cellOf = (kind, modality) => (shared ? get(data.worth, kind, modality.name) : { value: lossOf(kind, modality) }) ?? {};
  const cells = data.datasets.flatMap((kind) => data.modalities.map((modality) => cellOf(kind, modality)));
  const ends = cells.flatMap((cell) => [cell.value, ...(cell.interval ?? [])]).filter(Number.isFinite);
  if (!ends.length) return byId("worth").replaceChildren(el("h2", {}, "How often the answer was right"), accuracyList());
  const scale = [Math.min(0, ...ends), Math.max(0.1, Math.ceil(10 * Math.max(...ends)) / 10)];
  const bars = `A full bar is ${points(scale[1])} points.`;
  const caption = shared
    ? [`Points of accuracy that each adds, shared out fairly (Shapley value). ${bars}`, ...(cells.some((cell) => cell.interval) ? [" The whisker", el("span", { class: "key whisker" }), "is the interval."] : [])]
    : [`Points of accuracy lost when it is taken away. ${bars}`];
  byId("worth").replaceChildren(el("h2", {}, "What was each modality worth?"),
    matrix({ id: "worth-table", title: "What each modality was worth", cellOf: (kind, modality) => ({ ...cellOf(kind, modality), scale }), format: points,
      beside: (kind) => el("span", { class: "small" }, percent(data.accuracy[kind]), el("span", { class: "wide-only" }, " right")) }),
    el("p", { class: "small" }, ...caption));
}

function accuracyList() {
  return el("ul", { class: "plain-list masses", "--first": "8rem" }, ...data.datasets.map((kind) =>
    el("li", { "--mod": "var(--ink)" }, el("b", {}, plain(kind)), bar(data.accuracy[kind]), el("span", {}, percent(data.accuracy[kind])))));
}

const ANSWERS = { ok: "yes", warning: "no", "not applicable": "cannot be said" };

/** Whether the picture of attention may be believed, in short, with a sign for each diagnosis. Without a verdict the remarks say what is known. */
function showBelief() {
  const card = byId("belief"), remarks = remarkList(), diagnoses = data.diagnoses ?? [];
  const heading = el("h2", {}, "May the picture be believed?");
  if (data.belief) {
    card.append(el("div", { class: "answer" }, heading, badge(data.belief.verdict, ANSWERS[data.belief.verdict] ?? data.belief.verdict)), el("p", { class: "sentence" }, data.belief.sentence));
  } else if (isShort) {
    const command = el("code", {}, "perceiver explain RUN_DIR");
    card.append(heading, ...(remarks ? [remarks] : []),
      el("p", { class: "small", id: "short" }, "This is the short report. ", command, " makes the whole one: what each modality is worth with intervals, explanations and their tests, and six diagnoses."));
  }
  if (diagnoses.length) card.append(checks(diagnoses));
  card.hidden = !card.children.length;
  if (remarks && !remarks.parentElement) byId("attention").append(remarks);
}

function remarkList() {
  const remarks = data.remarks ?? [];
  return remarks.length ? el("ul", { class: "remarks plain-list", id: "remarks" }, ...remarks.map((remark) => el("li", {}, remark))) : null;
}

function checks(diagnoses) {
  const link = (each) => el("a", { href: `#diagnosis-${each.key}` }, el("span", { class: `sign ${classOf(each.verdict)}`, "aria-hidden": "true" }, signOf(each.verdict)),
    el("span", {}, plain(each.title), el("span", { class: "off-screen" }, `: ${each.verdict}`)));
  return el("nav", { class: "checks", "aria-label": "Diagnoses" }, ...diagnoses.map(link));
}

/** Inputs, streams as wide as their attention mass, latents and answer, drawn with the first complete sample. */
function showDiagram() {
  const sample = data.samples.find((each) => data.modalities.every((modality) => get(each, "inputs", modality.name))) ?? data.samples[0];
  const slot = 112, total = data.modalities.length * slot, middle = total / 2, stream = 118, tall = Math.max(total, 190), shift = (tall - total) / 2;
  const masses = data.modalities.map((modality) => mean(Object.values(get(data.mass, modality.name) ?? {})));
  const known = sum(masses) > 0, share = masses.map((mass) => (known ? mass / sum(masses) : 1 / masses.length));
  const parts = data.modalities.flatMap((modality, k) => {
    const y = k * slot, thick = share[k] * stream;
    const end = middle - stream / 2 + stream * sum(share.slice(0, k)) + thick / 2;
    const label = svg("text", { x: 4, y: y + 104 }, plain(modality.name), known ? svg("tspan", { class: "plain", dx: 8 }, percent(share[k], 0)) : null);
    const flow = svg("path", { class: "flow", "stroke-width": thick.toFixed(1), d: `M152 ${y + 44} C 250 ${y + 44}, 235 ${end}, 334 ${end}`, ...tones(modality) });
    return [flow, svg("rect", { class: "tile", x: 4, y: y + 4, width: 150, height: 80, rx: 9 }), glyph(modality, get(sample, "inputs", modality.name), y), label];
  });
  const dots = [0, 1, 2].flatMap((x) => [0, 1, 2, 3, 4, 5, 6].map((y) => svg("rect", { class: "latent", x: 344 + 17 * x, y: middle - 58 + 17 * y, width: 12, height: 12, rx: 3 })));
  const answer = String(get(sample, "answer") ?? "?"), size = Math.min(44, 150 / answer.length);
  parts.push(svg("rect", { class: "tile", x: 334, y: middle - 69, width: 66, height: 138, rx: 12 }), ...dots);
  parts.push(svg("text", { x: 367, y: middle + 90, "text-anchor": "middle" }, "latents"));
  parts.push(svg("path", { class: "arrow", d: `M410 ${middle} H446 M438 ${middle - 8} L447 ${middle} L438 ${middle + 8}` }));
  parts.push(svg("rect", { class: "tile", x: 458, y: middle - 45, width: 98, height: 90, rx: 12 }));
  parts.push(svg("text", { class: "answer", x: 507, y: middle + 0.34 * size, "text-anchor": "middle", style: `font-size: ${size}px` }, answer));
  parts.push(svg("text", { x: 507, y: middle + 67, "text-anchor": "middle" }, "answer"));
  const spoken = `${list(data.modalities.map((modality) => plain(modality.name)))} flow into the latents, and the latents give the answer`;
  byId("diagram").replaceChildren(
    svg("svg", { viewBox: `0 ${-shift} 560 ${tall}`, role: "img", "aria-label": spoken }, ...parts),
    el("figcaption", { class: "small" }, `Every input flows into one small set of latents, and the answer comes from them alone.${known ? " A stream is as wide as its share of all attention." : ""}`));
}

/** The content of an input tile in the diagram. */
function glyph(modality, input, y) {
  const group = svg("g", tones(modality)), place = { x: 14, y: y + 12, width: 130, height: 64 };
  if (!input) return group;
  if (modality.view === "text") {
    const lines = input.characters.join("").match(/.{1,14}(\s|$)|.{1,14}/g) ?? [];
    group.append(...lines.slice(0, 3).map((line, k) => svg("text", { class: "typed", x: 15, y: y + 30 + 20 * k }, line.trim())));
  } else if (modality.view === "sound" || modality.view === "wave") {
    const loud = loudness(modality, input), step = place.width / loud.length;
    group.append(...loud.map((each, k) => svg("rect", { x: place.x + step * k, y: y + 43.5 - 32 * each, width: 0.62 * step, height: 1 + 64 * each, fill: "var(--mod)" })));
  } else if (isSurface(modality)) {
    const canvas = el("canvas"), [first] = sheetsOf(modality, input);
    draw(canvas, first, null, highOf(modality), 1);
    group.append(svg("image", { ...place, href: canvas.toDataURL() }));
  } else {
    group.append(...[0, 1, 2, 3, 4, 5].map((k) => svg("rect", { x: 16 + 21 * k, y: y + 36, width: 16, height: 16, rx: 3, fill: "var(--mod)" })));
  }
  return group;
}

/** How loud a sound is in each of at most 52 stretches, from 0 to 1. */
function loudness(modality, input) {
  const [sheet] = sheetsOf(modality, input), bars = Math.min(52, sheet.columns);
  const ink = (x) => sum(Array.from({ length: sheet.rows }, (_, y) => sheet.at(y, x)));
  const loud = Array.from({ length: bars }, (_, k) => ink(Math.floor(((k + 0.5) * sheet.columns) / bars)));
  const [low, high] = [Math.min(...loud), Math.max(...loud)];
  return loud.map((each) => (each - low) / (high - low || 1));
}

// ---------- matrices of kinds and modalities ----------

function showMatrices() {
  if (!some(data.mass) && !some(data.accuracy_without)) return;
  const loss = (kind, modality) => ({ value: lossOf(kind, modality) });
  const mass = (kind, modality) => ({ value: get(data.mass, modality.name, kind), tick: get(data.token_share, modality.name, kind) });
  byId("matrices").replaceChildren(
    matrixCard("Accuracy lost when it is taken away", "Percentage points. A full bar is 100 points. Outlined: the largest in its row.", { id: "loss", cellOf: loss, format: points }),
    matrixCard("Attention mass it received", "Share of all attention. A full bar is 100%. Tick: the even share, if every piece were read alike. Outlined: the largest in its row.",
      { id: "mass", cellOf: mass, format: (value) => percent(value, 0) }));
}

function matrixCard(title, caption, options) {
  return el("div", { class: "card" }, el("h3", {}, title), matrix({ title, ...options }), el("p", { class: "small" }, caption));
}

/** A row for each kind of question, a column for each modality. A cell is {value, interval, tick, scale}, all but the first optional. */
function matrix({ id, title, cellOf, format, beside = () => null }) {
  const head = el("tr", {}, el("td"), ...data.modalities.map((modality) => el("th", { scope: "col" }, named(modality))));
  const rows = data.datasets.map((kind) => {
    const values = data.modalities.map((modality) => cellOf(kind, modality).value);
    const top = Math.max(...values.filter(Number.isFinite));
    const cells = data.modalities.map((modality, k) => el("td", {}, matrixCell(kind, modality, cellOf(kind, modality), format, values[k] === top && top > 0.005)));
    return el("tr", {}, el("th", { scope: "row" }, plain(kind), beside(kind)), ...cells);
  });
  const table = el("table", { class: "matrix", id, "aria-label": title }, el("thead", {}, head), el("tbody", {}, ...rows));
  return el("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": title }, table);
}

function matrixCell(kind, modality, { value, ...rest }, format, largest) {
  const cell = el("div", { class: `cell${largest ? " largest" : ""}`, "data-at": `${kind}/${modality.name}`, ...tones(modality) }, el("b", {}, format(value)), bar(value, rest));
  const words = rest.interval ? `interval ${format(rest.interval[0])} to ${format(rest.interval[1])}` : null;
  if (words) fill(cell, { title: words }, [el("span", { class: "off-screen" }, words)]);
  cell.style.backgroundColor = tint(highOf(modality), value / (rest.scale ?? [0, 1])[1] || 0);
  cell.addEventListener("pointerenter", () => markTwins(cell.dataset.at));
  cell.addEventListener("pointerleave", () => markTwins(null));
  return cell;
}

/** Outlines one cell in all matrices, so that the eye finds the partner. */
function markTwins(at) {
  for (const cell of document.querySelectorAll(".cell")) cell.classList.toggle("twin", cell.dataset.at === at);
}
