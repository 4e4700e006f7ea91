"""The report page as a file, and as a whole: it holds the payload, loads nothing, and everyone can read it."""

import json
import math
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from browser import Page
from page_payloads import ABSENT, FIRST, HOSTILE, LAYERS, NAMES, PAYLOAD, REQUIRED, SECOND, SHORT, clip, measure, packed, silence

import perceiver.explain.page as page_module
from perceiver.explain.page import write_page

# Every visible text node with the contrast of its colour to what lies behind it (WCAG 2.2, success criterion 1.4.3), hatching included.
CONTRASTS = """
const parse = (text) => { const [r, g, b, a] = text.match(/[\\d.]+/g).map(Number); return [r, g, b, a === undefined ? 1 : a]; };
const over = (top, under) => [0, 1, 2].map((k) => top[k] * top[3] + under[k] * (1 - top[3]));
const linear = (v) => (v / 255 <= 0.04045 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4);
const light = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
const behind = (node) => over(parse(getComputedStyle(node).backgroundColor), node.parentElement ? behind(node.parentElement) : [255, 255, 255]);
const ratio = (a, b) => { const [low, high] = [light(a), light(b)].sort((x, y) => x - y); return (high + 0.05) / (low + 0.05); };
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), found = [];
while (walker.nextNode()) {
  const node = walker.currentNode.parentElement, style = getComputedStyle(node), words = walker.currentNode.textContent.trim();
  if (!words || !node.checkVisibility({ visibilityProperty: true }) || node.closest(".off-screen, script")) continue;
  const ground = behind(node), ink = over(parse(node instanceof SVGElement ? style.fill : style.color), ground);
  const hatch = node.classList.contains("against") ? parse(node.style.getPropertyValue("--hatch")) : null;
  found.push([words, Math.min(ratio(ink, ground), hatch ? ratio(ink, hatch) : 21)]);
}
return found;
"""


def payload_of(path: Path) -> Any:
    """What a browser would read: everything up to the first end of a script."""
    found = re.search(r'<script type="application/json" id="payload">(.*?)</script', path.read_text(encoding="utf-8"), re.DOTALL)
    assert found
    return json.loads(found[1])


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_payload_with_a_number_that_json_lacks_is_refused_and_no_file_is_written(bad: float, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Out of range float values"):
        write_page({**PAYLOAD, "accuracy": {"written": bad}}, tmp_path / "page.html")
    assert not (tmp_path / "page.html").exists()


def test_the_payload_comes_back_from_the_file(tmp_path: Path) -> None:
    write_page(PAYLOAD, tmp_path / "page.html")
    assert payload_of(tmp_path / "page.html") == PAYLOAD


def test_the_placeholder_in_the_payload_stays_what_it_is(tmp_path: Path) -> None:
    write_page({"title": "__PAYLOAD__"}, tmp_path / "page.html")
    assert payload_of(tmp_path / "page.html") == {"title": "__PAYLOAD__"}


def test_the_style_and_the_script_are_in_the_file(tmp_path: Path) -> None:
    write_page({"title": "__STYLE__ __SCRIPT__"}, tmp_path / "page.html")
    written = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert payload_of(tmp_path / "page.html") == {"title": "__STYLE__ __SCRIPT__"} and written.count("__STYLE__") == written.count("__SCRIPT__") == 1
    folder = Path(page_module.__file__).parent
    for part in (*page_module.STYLE, *page_module.SCRIPT):
        assert (folder / part).read_text(encoding="utf-8").strip() in written
    assert {file.name for kind in ("css", "js") for file in folder.glob(f"*.{kind}")} == {*page_module.STYLE, *page_module.SCRIPT}


def test_the_page_names_no_address_to_load_from(tmp_path: Path) -> None:
    write_page(PAYLOAD, tmp_path / "page.html")
    addresses = set(re.findall(r"https?://[^\s\"')]+", (tmp_path / "page.html").read_text(encoding="utf-8")))
    assert addresses == {"http://www.w3.org/2000/svg"}  # the name of SVG elements, which nothing loads


@pytest.mark.parametrize("key", sorted(set(PAYLOAD) - REQUIRED))
def test_any_other_key_may_be_missing(key: str, page: Page, show: Callable[..., Page]) -> None:
    other = show({name: value for name, value in PAYLOAD.items() if name != key})
    assert other.text("#answer") == "answer 0" and other.errors() == [] and other.count("#short") == 0


def test_a_sample_may_have_no_more_than_its_question_and_answer(show: Callable[..., Page]) -> None:
    bare = {key: PAYLOAD["samples"][0][key] for key in ("dataset", "expected", "answer", "probability")}
    other = show({key: PAYLOAD[key] for key in REQUIRED} | {"samples": [bare | {"without": {}, "inputs": {}}]})
    assert other.text("#answer") == "answer 0" and other.errors() == []
    assert other.texts("#every li > span:last-child") == ["\u2013"] * len(NAMES) * len(LAYERS)


def test_keys_that_the_page_does_not_know_change_nothing(page: Page, show: Callable[..., Page]) -> None:
    before = page.js("return document.body.innerText")
    diagnoses = [each | {"colour": "blue"} for each in PAYLOAD["diagnoses"]]
    other = show(PAYLOAD | {"unknown": {"a": 1}, "diagnoses": diagnoses, "samples": [sample | {"unknown": 1} for sample in PAYLOAD["samples"]]})
    assert other.js("return document.body.innerText") == before


def test_links_lead_only_to_what_is_there(page: Page, show: Callable[..., Page]) -> None:
    links = "return [...document.querySelectorAll('.top nav a')].filter((each) => each.checkVisibility()).map((each) => each.hash)"
    assert page.js(links) == ["#samples", "#diagnoses", "#attention", "#reading", "#numbers"]
    assert show({key: PAYLOAD[key] for key in REQUIRED} | {"samples": [], "remarks": []}).js(links) == ["#reading", "#numbers"]


def test_markup_in_the_payload_is_shown_as_text(page: Page, show: Callable[..., Page]) -> None:
    page.click('[data-sample="1"]')
    assert page.texts(".bytes span") == list(HOSTILE)
    assert (page.text("h1"), page.texts("#remarks li")) == (PAYLOAD["title"], PAYLOAD["remarks"])
    bad = "<img src=x onerror=alert(1)></script><b>"
    measures = [measure(bad, value, of={bad: bad}, reference={bad: value}, reason=bad, verdict=bad) for value in (1.0, 2.0)]
    other = show(
        PAYLOAD
        | {"title": bad, "subtitle": bad, "asked": bad, "remarks": [bad], "belief": {"verdict": bad, "sentence": bad}}
        | {"diagnoses": [{"key": bad, "title": bad, "verdict": bad, "sentence": bad, "measures": measures}]}
        | {"explanations": [{"name": "gradient", "label": bad, "shown": False, "sentence": bad}]}
        | {"ladder": {"sentence": bad, "rows": [{"name": bad, "parameters": 5, "accuracy": PAYLOAD["accuracy"]}]}}
        | {"cost": {"sentence": bad, "columns": [bad], "rows": [[bad]]}, "baselines": {bad: PAYLOAD["accuracy"]}}
    )
    other.click("[data-explanation=gradient]")
    assert other.js("return [document.querySelectorAll('script').length, document.querySelectorAll('img, [onerror]').length]") == [2, 0]
    places = "h1, #lead, #subtitle, #remarks li, #belief .sentence, .diagnosis h3, .diagnosis .sentence, .measure h4, .measures tbody th"
    places += ", #cost tbody th, #ladder tbody tr:first-child th, #said b"
    assert set(other.texts(places)) == {bad}


def test_the_page_loads_nothing(page: Page) -> None:
    names = page.js("return performance.getEntriesByType('resource').map((entry) => entry.name)")
    assert [name for name in names if not name.startswith("data:")] == []


@pytest.mark.parametrize("payload", [PAYLOAD, SHORT, clip("rain " * 99)], ids=["whole", "short", "clip"])
@pytest.mark.parametrize("width", [360, 390, 801, 1283, 1600])
def test_the_page_is_never_wider_than_the_window(width: int, payload: dict[str, Any], page: Page, show: Callable[..., Page]) -> None:
    other = show(payload, width=width)
    other.open_all()
    assert other.js("return [innerWidth, document.documentElement.scrollWidth <= innerWidth]") == [width, True]
    cut = other.js(
        "const cards = [...document.querySelectorAll('.card, .card *')].filter((each) => !each.closest('.scroll, .strip, .off-screen'));"
        "return cards.filter((each) => each.getBoundingClientRect().right > each.closest('.card').getBoundingClientRect().right + 0.5).length"
    )
    assert cut == 0


def test_nothing_jumps_when_layer_or_head_or_explanation_or_highlighter_or_removal_change(page: Page) -> None:
    places = "return [...document.querySelectorAll('.input, #takes, #every, footer')].map((each) => each.getBoundingClientRect().toJSON())"
    before = page.js(places)
    marks = (FIRST, '[data-head="1"]', "[data-explanation=gradient]", "[data-explanation=rollout]", SECOND)
    for selector in (*marks, "#overlay", "#overlay", '[data-take="image"]', '[data-take="text"]'):
        page.click(selector)
        assert page.js(places) == before, selector


@pytest.mark.parametrize("how", ["system", "button"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_can_be_read(scheme: str, how: str, page: Page) -> None:
    page.open(scheme=scheme if how == "system" else {"light": "dark", "dark": "light"}[scheme])
    if how == "button":
        page.click("#theme")
    page.open_all()
    brightness = sum(page.js("return getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)"))
    assert (brightness > 384) == (scheme == "light")
    for click in (None, "[data-explanation=gradient]", "[data-explanation=rollout]", f'[data-sample="{ABSENT}"]', '[data-take="text"]'):
        if click:
            page.click(click)
        found = page.js(CONTRASTS)
        assert len(found) > 200
        assert [(words, round(ratio, 2)) for words, ratio in found if ratio < 4.5] == []


def test_a_page_without_samples_hides_them(show: Callable[..., Page]) -> None:
    other = show(PAYLOAD | {"samples": []})
    assert not other.shown("#samples") and other.text("h1") == PAYLOAD["title"] and other.errors() == []


def test_a_page_of_twenty_four_samples_as_large_as_the_quickstart_has_is_below_five_megabytes(tmp_path: Path) -> None:
    draw = random.Random(7)
    moments, bands, heads, longest = 160, 80, 4, 64  # of 1.6 s of sound

    def weights(*shape: int) -> Any:
        return [weights(*shape[1:]) for _ in range(shape[0])] if shape else round(draw.uniform(-1, 1), 4)

    shapes = {"image": (4, 4), "audio": (moments, 1), "text": (longest,)}
    inputs = {
        "image": {"rows": 8, "columns": 8, "channels": 1, "bytes": packed(draw.randbytes(64))},
        "audio": {"seconds": 1.6, "rows": moments, "columns": bands, "bytes": packed(draw.randbytes(moments * bands)), "wav": silence(12_800)},
        "text": {"characters": ["\\x00"] * longest},
    }
    samples = [
        sample
        | {"inputs": inputs, "attention": {layer: {name: weights(heads, *shape) for name, shape in shapes.items()} for layer in LAYERS}}
        | {"explanations": {name: {key: weights(*shape) for key, shape in shapes.items()} for name in ("one", "two", "three")}}
        for sample in (PAYLOAD["samples"][k % 3] for k in range(24))
    ]
    write_page(PAYLOAD | {"samples": samples}, tmp_path / "page.html")
    assert 1_500_000 < (tmp_path / "page.html").stat().st_size < 5_000_000
