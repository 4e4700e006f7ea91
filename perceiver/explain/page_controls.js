// ---------- controls ----------

const explanationOf = (name) => (data.explanations ?? []).find((each) => each.name === name);

/** Whether the chosen explanation may not be shown: nowhere, or not for this sample's kind of question. */
const isRefused = (sample) => state.marks.kind === "explanation" && (!explanationOf(state.marks.name).shown || !get(sample, "explanations", state.marks.name));

function showControls() {
  const mark = (kind, name) => () => { state.marks = { kind, name }; paint(); };
  const label = (words) => el("span", { class: "label" }, words);
  byId("layers").replaceChildren(label("Attention"), ...data.layers.map((layer, k) =>
    el("button", { type: "button", "data-layer": layer, title: layer, "aria-label": `Layer ${k + 1}: ${layer}`, onclick: mark("layer", layer) }, `Layer ${k + 1}`)));
  const explanations = data.explanations ?? [];
  byId("explanations").replaceChildren(label("Explanation"), ...explanations.map(({ name, label: words, shown }) =>
    el("button", { type: "button", "data-explanation": name, class: shown ? null : "refused", onclick: mark("explanation", name) }, shown ? words : `${words} (not shown)`)));
  byId("explanations").hidden = !explanations.length;
  byId("takes").replaceChildren(...data.modalities.map(takeButton));
  byId("overlay").addEventListener("click", () => { state.overlay = !state.overlay; paint(); });
  byId("previous").addEventListener("click", () => move(-1));
  byId("next").addEventListener("click", () => move(1));
  byId("theme").addEventListener("click", () => setTheme(isDark() ? "light" : "dark"));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", repaint);
  document.addEventListener("keydown", onKey);
}

/** Which buttons are pressed, the heads of the chosen layer, and what the marks mean. */
function paintControls(sample) {
  const { kind, name } = state.marks, heads = kind === "layer" ? headsOf(sample, name) : 0;
  if (state.head >= heads) state.head = null;
  for (const button of byId("layers").querySelectorAll("button")) button.setAttribute("aria-pressed", String(kind === "layer" && button.dataset.layer === name));
  for (const button of byId("explanations").querySelectorAll("button")) button.setAttribute("aria-pressed", String(kind === "explanation" && button.dataset.explanation === name));
  byId("overlay").setAttribute("aria-pressed", String(state.overlay));
  paintHeads(heads);
  paintSaid(sample, heads);
}

/** The heads keep their place when an explanation is chosen, so that nothing jumps. */
function paintHeads(heads) {
  const group = byId("heads"), buttons = group.querySelectorAll("button");
  group.hidden = !data.layers.some((layer) => headsOf(data.samples[state.sample], layer) > 1);
  group.style.visibility = heads > 1 ? "visible" : "hidden";
  if (heads > 1 && buttons.length !== heads + 1) {
    const button = (head, title) => el("button", { type: "button", "data-head": head ?? "mean", "aria-label": head === null ? "Mean of the heads" : `Head ${head + 1}`, onclick: () => { state.head = head; paint(); } }, title);
    group.replaceChildren(el("span", { class: "label" }, "Head"), button(null, "mean"), ...Array.from({ length: heads }, (_, k) => button(k, String(k + 1))));
  }
  for (const button of group.querySelectorAll("button")) button.setAttribute("aria-pressed", String(button.dataset.head === String(state.head ?? "mean")));
}

/** One sentence on what the marks are; where an explanation may not be shown, it stands in place of the marks. A live region: written only when it changes. */
function paintSaid(sample, heads) {
  const { kind, name } = state.marks, said = byId("said"), words = kind === "layer" ? wordsOfLayer(name, heads) : wordsOfExplanation(name, sample);
  said.classList.toggle("refused", isRefused(sample));
  if (said.textContent !== words.map((word) => word.textContent).join("")) said.replaceChildren(...words);
}

function wordsOfLayer(name, heads) {
  const which = heads < 2 ? "" : state.head === null ? `, mean of its ${heads} heads` : `, head ${state.head + 1} of ${heads}`;
  return [el("span", {}, `Where layer ${data.layers.indexOf(name) + 1} (${name}) read${which}. The stronger the mark, the more attention a piece got from the latents.`)];
}

function wordsOfExplanation(name, sample) {
  const { label, shown, sentence, reasons } = explanationOf(name), refused = isRefused(sample);
  const why = get(reasons, sample.dataset) ?? (shown ? `not proved better than random order for questions of the kind \u201c${plain(sample.dataset)}\u201d` : sentence);
  const words = el("span", {}, el("b", {}, label), `: ${refused ? why : sentence}`);
  return refused ? [badge("warning", "not shown"), words] : [words];
}

const isDark = () => (document.documentElement.dataset.theme ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";

function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
  repaint();
}

/** Draws again what holds colours as numbers. */
function repaint() {
  byId("theme").textContent = isDark() ? "Light" : "Dark";
  byId("theme").setAttribute("aria-label", `Switch to ${isDark() ? "light" : "dark"} colours`);
  readPalette();
  showWorth();
  showMatrices();
  if (!data.samples.length) return;
  showDiagram();
  showStrip();
  paint();
}

/** Sections with nothing to show go, and with them the links to them. */
function hideEmpty() {
  byId("samples").hidden = !data.samples.length;
  byId("attention").hidden = !byId("matrices").children.length && !byId("attention").querySelector(".remarks");
  for (const link of document.querySelectorAll(".top nav a")) link.hidden = document.querySelector(link.hash).hidden;
}

readPalette();
showHead();
showBelief();
showDiagnoses();
showResults();
showLadder();
showCost();
showFilter();
showControls();
if (data.samples.length) showSample();
repaint();
hideEmpty();
