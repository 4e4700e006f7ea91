// ---------- diagnoses ----------

function showDiagnoses() {
  const diagnoses = data.diagnoses ?? [];
  byId("diagnoses").hidden = !diagnoses.length;
  byId("diagnosis-list").replaceChildren(...diagnoses.map(diagnosisCard));
}

function diagnosisCard(diagnosis) {
  const measures = diagnosis.measures ?? [];
  const groups = [...Map.groupBy(measures, (measure) => measure.name).entries()];
  return el("article", { class: "card diagnosis", id: `diagnosis-${diagnosis.key}` },
    badge(diagnosis.verdict), el("h3", {}, plain(diagnosis.title)),
    el("p", { class: "sentence" }, diagnosis.sentence),
    measures.length ? el("details", {}, el("summary", {}, several(measures.length, "measure")), ...groups.map(([name, group]) => measureGroup(name, group))) : null);
}

const LONG = 8; // more rows than this are folded away

/** All measures of one name. What they have in common stands once, above them; a long list is folded away. */
function measureGroup(name, group) {
  const common = (textOf) => (new Set(group.map(textOf)).size === 1 ? textOf(group[0]) : "");
  const facts = [common(reasonOf), common(comparedOf) && `Compared with ${common(comparedOf)}.`, common(rowsOf) && `n = ${common(rowsOf)}.`, common(costOf) && `Cost: ${common(costOf)}${group.length > 1 ? ", each" : ""}.`];
  const title = [el("h4", {}, plain(name)), el("p", { class: "small facts" }, facts.filter(Boolean).join(" "))];
  const differs = (textOf) => new Set(group.map(textOf)).size > 1;
  const table = measureTable(group, { reason: differs(reasonOf), compared: differs(comparedOf), rows: differs(rowsOf), cost: differs(costOf) });
  if (group.length <= LONG) return el("div", { class: "measure" }, ...title, table);
  return el("div", { class: "measure" }, ...title, el("details", {}, el("summary", {}, `${group.length} values, ${spreadOf(group)}: ${tally(group)}`), table));
}

const reasonOf = (measure) => measure.reason ?? "";
const rowsOf = (measure) => (Number.isFinite(measure.n) ? number(measure.n) : "");
const comparedOf = (measure) => Object.entries(measure.reference ?? {}).map(([name, value]) => `${plain(name)} ${number(value)}`).join(", ");
const intervalOf = (measure) => (measure.interval ? `${number(measure.interval[0])} to ${number(measure.interval[1])}` : "");
const costOf = (measure) => [measure.seconds ? `${number(measure.seconds)} s` : "", measure.passes ? several(measure.passes, "pass", "passes") : ""].filter(Boolean).join(", ");
const tally = (group) => [...Map.groupBy(group, (measure) => measure.verdict).entries()].map(([verdict, each]) => `${each.length} ${verdict}`).join(", ");

function spreadOf(group) {
  const values = group.map((measure) => measure.value).filter(Number.isFinite);
  return values.length ? `${number(Math.min(...values))} to ${number(Math.max(...values))}` : "none of them a number";
}

function measureTable(group, shown) {
  const ends = group.flatMap((measure) => [measure.value, ...(measure.interval ?? []), ...Object.values(measure.reference ?? {})]).filter(Number.isFinite);
  const scale = [Math.min(...ends), Math.max(...ends)], drawn = scale[1] > scale[0];
  const columns = [
    ["of", "of", (measure) => ofWhat(measure.of)],
    ["number", "value", (measure) => number(measure.value)],
    ["interval", "interval", intervalOf],
    ...(drawn ? [["ranges", null, (measure) => (Number.isFinite(measure.value) ? range(measure, scale) : "")]] : []),
    ...(shown.compared ? [["compared", "compared with", comparedOf]] : []),
    ...(shown.rows ? [["rows", "n", rowsOf]] : []),
    ...(shown.cost ? [["cost", "cost", costOf]] : []),
    ["judged", "verdict", (measure) => el("span", {}, badge(measure.verdict), shown.reason ? reasonOf(measure) : "")]];
  const head = columns.map(([name, label]) => (label ? el("th", { class: name, scope: "col" }, label) : el("td", { class: name })));
  const cell = (measure, [name, label, contentOf]) => el(name === "of" ? "th" : "td", { class: name, scope: name === "of" ? "row" : null, "data-label": name === "of" ? null : label }, contentOf(measure) || null);
  return el("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": plain(group[0].name) },
    el("table", { class: "measures" }, el("thead", {}, el("tr", {}, ...head)), el("tbody", {}, ...group.map((measure) => el("tr", {}, ...columns.map((column) => cell(measure, column)))))));
}

/** Of what something was measured: a modality in its colour, everything else in words. */
function ofWhat(of) {
  const words = Object.entries(of ?? {}).flatMap(([key, value]) => {
    const modality = key === "modality" && data.modalities.find((each) => each.name === value);
    return [", ", modality ? named(modality) : el("span", { title: plain(key) }, typeof value === "number" ? `${plain(key)} ${value}` : plain(String(value)))];
  });
  return words.length ? el("span", {}, ...words.slice(1)) : "everything";
}

/** Value, interval and references on one line that all measures of a table share. */
function range(measure, [low, high]) {
  const place = (value) => (100 * (value - low)) / (high - low);
  const [from, to] = measure.interval ?? [measure.value, measure.value];
  return el("span", { class: "range", "aria-hidden": "true" },
    ...Object.entries(measure.reference ?? {}).filter(([, value]) => Number.isFinite(value)).map(([name, value]) => el("span", { class: "reference", title: plain(name), style: `left: ${place(value)}%` })),
    el("span", { class: "span", style: `left: ${place(from)}%; width: ${place(to) - place(from)}%` }), el("span", { class: "dot", style: `left: ${place(measure.value)}%` }));
}

// ---------- tables ----------

function showResults() {
  const row = (title, scores, name) => el("tr", { class: name }, el("th", { scope: "row" }, title), ...data.datasets.map((kind) => el("td", {}, percent(get(scores, kind)))));
  const without = data.modalities.filter((modality) => get(data.accuracy_without, modality.name))
    .map((modality, k) => row(el("span", {}, "without ", named(modality)), data.accuracy_without[modality.name], k ? null : "start"));
  const climbed = (get(data.ladder, "rows") ?? []).map((each) => each.name);
  const controls = Object.entries(data.baselines ?? {}).filter(([name]) => !climbed.includes(name)).map(([name, scores], k) => row(`control: ${plain(name)}`, scores, k ? null : "start"));
  byId("results").replaceChildren(
    el("thead", {}, el("tr", {}, el("th", { scope: "col" }, "Model"), ...data.datasets.map((kind) => el("th", { scope: "col" }, plain(kind))))),
    el("tbody", {}, row(FULL, data.accuracy, "full"), ...without, ...controls));
}

const FULL = "full model";

/** Simpler models, worst first, and the model itself, at the end if it has no place among them. */
function showLadder() {
  const card = byId("ladder"), rungs = get(data.ladder, "rows") ?? [];
  card.hidden = !rungs.length;
  if (card.hidden) return;
  const itself = rungs.some((rung) => rung.name === FULL) ? [] : [{ name: FULL, accuracy: data.accuracy }];
  const row = ({ name, parameters, accuracy }) => el("tr", { class: name === FULL ? "full" : null }, el("th", { scope: "row" }, plain(name)), el("td", {}, Number.isFinite(parameters) ? number(parameters) : ""),
    ...data.datasets.map((kind) => el("td", {}, percent(get(accuracy, kind)), bar(get(accuracy, kind)))));
  const head = ["Model", "parameters", ...data.datasets.map(plain)].map((title) => el("th", { scope: "col" }, title));
  const table = el("table", { class: "results" }, el("thead", {}, el("tr", {}, ...head)),
    el("tbody", {}, ...[...rungs, ...itself].map(row)));
  card.append(el("h3", {}, "Simpler models on the same budget"), el("p", { class: "small" }, data.ladder.sentence), el("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Simpler models" }, table));
}

function showCost() {
  const card = byId("cost");
  card.hidden = !some(data.cost);
  if (card.hidden) return;
  card.append(el("h3", {}, "Cost"), el("p", { class: "small" }, data.cost.sentence), ...(data.cost.tables ?? []).flatMap(costTable));
}

/** A title, and a table of strings under it. */
function costTable({ title, columns, rows }) {
  const head = columns.map((each) => (each ? el("th", { scope: "col" }, each) : el("td")));
  const table = el("table", { class: "results" }, el("thead", {}, el("tr", {}, ...head)),
    el("tbody", {}, ...rows.map(([name, ...values]) => el("tr", {}, el("th", { scope: "row" }, name), ...values.map((value) => el("td", {}, value))))));
  return [el("h4", {}, title), el("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": title }, table)];
}
