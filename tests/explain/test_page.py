"""The report page: the file holds the payload, and the page in a browser shows it, to everyone."""

import base64
import io
import json
import math
import random
import re
import shutil
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from perceiver.explain.page import write_page

HOSTILE = "a</script><b>7"
LAYERS = ["encoder.cross.0", "encoder.cross.1"]
KINDS = ["written", "spoken", "same"]
NAMES = ["image", "audio", "text"]
ABSENT = 3  # the sample without a picture
FLAGS = (
    "--headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run "
    "--disable-background-networking --disable-component-update --disable-sync"
)

# Every visible text node with the contrast of its colour to what lies behind it (WCAG 2.2, success criterion 1.4.3).
CONTRASTS = """
const parse = (text) => { const [r, g, b, a] = text.match(/[\\d.]+/g).map(Number); return [r, g, b, a === undefined ? 1 : a]; };
const over = (top, under) => [0, 1, 2].map((k) => top[k] * top[3] + under[k] * (1 - top[3]));
const linear = (v) => (v / 255 <= 0.04045 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4);
const light = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
const behind = (node) => over(parse(getComputedStyle(node).backgroundColor), node.parentElement ? behind(node.parentElement) : [255, 255, 255]);
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), found = [];
while (walker.nextNode()) {
  const node = walker.currentNode.parentElement, style = getComputedStyle(node), words = walker.currentNode.textContent.trim();
  if (!words || !node.checkVisibility({ visibilityProperty: true }) || node.closest(".off-screen, script")) continue;
  const ground = behind(node), ink = over(parse(node instanceof SVGElement ? style.fill : style.color), ground);
  const [low, high] = [light(ink), light(ground)].sort((a, b) => a - b);
  found.push([words, (high + 0.05) / (low + 0.05)]);
}
return found;
"""


def silence() -> str:
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(8_000)
        sound.writeframes(bytes(2 * 4_001))
    return "data:audio/wav;base64," + base64.b64encode(file.getvalue()).decode()


def make_payload() -> dict[str, Any]:
    """Seven samples over three kinds of question, with sizes that no two axes share."""
    draw = random.Random(5)

    def grid(rows: int, columns: int) -> list[list[float]]:
        return [[round(draw.random(), 4) for _ in range(columns)] for _ in range(rows)]

    def scores() -> dict[str, float]:
        return {kind: round(draw.random(), 3) for kind in KINDS}

    samples = []
    for k in range(7):
        characters = list(HOSTILE if k == 1 else "which digit?")
        inputs = {
            "image": {"rows": 11, "columns": 7, "pixels": grid(11, 7)},
            "audio": {"seconds": 0.5, "spectrogram": grid(17, 13), "wav": silence()},
            "text": {"characters": characters},
        }
        maps = {layer: {"image": grid(3, 2), "audio": grid(5, 1), "text": [draw.random() for _ in characters]} for layer in LAYERS}
        without = {name: {"answer": f"no {name} {k}", "probability": 0.25} for name in NAMES}
        if k == ABSENT:
            del inputs["image"], without["image"]
            for layer in LAYERS:
                del maps[layer]["image"]
        samples.append(
            {
                "dataset": KINDS[k % 3],
                "expected": f"answer {k}",
                "answer": f"answer {k}" if k != 2 else "mistake",
                "probability": 0.9,
                "top": [[f"answer {k}", 0.9], ["other", 0.1]],
                "without": without,
                "inputs": inputs,
                "attention": maps,
                "mass": {layer: {"image": 0.2, "audio": 0.3, "text": 0.5} for layer in LAYERS},
            }
        )
    return {
        "title": "A <b>title</b>",
        "subtitle": "one line \u00e9",
        "modalities": [{"name": "image", "view": "picture"}, {"name": "audio", "view": "sound"}, {"name": "text", "view": "text"}],
        "layers": LAYERS,
        "datasets": KINDS,
        "accuracy": scores(),
        "accuracy_without": {name: scores() for name in NAMES},
        "mass": {name: scores() for name in NAMES},
        "token_share": {"image": dict.fromkeys(KINDS, 0.2), "audio": dict.fromkeys(KINDS, 0.3), "text": dict.fromkeys(KINDS, 0.5)},
        "baselines": {"mean_pool": scores()},
        "remarks": ["They agree </script><b>."],
        "samples": samples,
    }


PAYLOAD = make_payload()


def tokens_only(labels: dict[str, list[str]]) -> dict[str, Any]:
    """A payload of another modality: tokens only, nothing to take away, no remark, no baseline."""
    modality = {"name": "points", "view": "tokens"}
    sample = {
        "dataset": "near",
        "expected": "yes",
        "answer": "yes",
        "probability": 0.75,
        "top": [["yes", 0.75]],
        "without": {},
        "inputs": {"points": labels},
        "attention": {"cross": {"points": [0.5, 0.3, 0.2]}},
        "mass": {"cross": {"points": 1.0}},
    }
    return {
        "title": "Points",
        "subtitle": "",
        "modalities": [modality],
        "layers": ["cross"],
        "datasets": ["near"],
        "accuracy": {"near": 0.75},
        "accuracy_without": {"points": {"near": 0.5}},
        "mass": {"points": {"near": 1.0}},
        "token_share": {"points": {"near": 1.0}},
        "baselines": {},
        "remarks": [],
        "samples": [sample],
    }


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


def test_the_page_names_no_address_to_load_from(tmp_path: Path) -> None:
    write_page(PAYLOAD, tmp_path / "page.html")
    addresses = set(re.findall(r"https?://[^\s\"')]+", (tmp_path / "page.html").read_text(encoding="utf-8")))
    assert addresses == {"http://www.w3.org/2000/svg"}  # the name of SVG elements, which nothing loads


class Page:
    """The page in a browser."""

    def __init__(self, driver: Any, path: Path) -> None:
        self.driver = driver
        self.address = path.as_uri()

    def open(self, width: int = 1280, scheme: str = "light") -> None:
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False})
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]})
        self.driver.get(self.address)

    def js(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(script, *arguments)

    def click(self, selector: str) -> None:
        self.js(
            "const found = document.querySelectorAll(arguments[0]); if (found.length !== 1) throw Error(found.length); found[0].click()", selector
        )

    def text(self, selector: str) -> str:
        return str(self.js("return document.querySelector(arguments[0]).textContent", selector))

    def texts(self, selector: str) -> list[str]:
        return list(self.js("return [...document.querySelectorAll(arguments[0])].map((each) => each.textContent)", selector))

    def drawing(self, modality: str) -> str:
        """All pixels of the map of a modality."""
        return str(self.js("return document.querySelector(`[data-modality=${arguments[0]}] canvas`).toDataURL()", modality))

    def tints(self) -> list[str]:
        return list(self.js("return [...document.querySelectorAll('.bytes span')].map((each) => getComputedStyle(each).backgroundColor)"))

    def press(self, key: str) -> None:
        from selenium.webdriver import ActionChains, Keys

        ActionChains(self.driver, duration=0).send_keys(getattr(Keys, key)).perform()

    def errors(self) -> list[str]:
        return [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] == "SEVERE"]


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    browser, service = shutil.which("chromium"), shutil.which("chromedriver")
    if browser is None or service is None:
        pytest.skip("chromium and chromedriver are not installed")
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for flag in (*FLAGS.split(), f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(service))
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "page.html"
    write_page(PAYLOAD, path)
    return path


@pytest.fixture
def page(driver: Any, file: Path) -> Iterator[Page]:
    """The page as opened on a desk; the test fails if the browser logged an error meanwhile."""
    page = Page(driver, file)
    page.errors()
    page.open()
    yield page
    assert page.errors() == []


def test_every_sample_has_a_button_that_says_what_it_is(page: Page) -> None:
    labels = page.js("return [...document.querySelectorAll('#strip button')].map((each) => each.getAttribute('aria-label'))")
    expected = [f"Sample {k + 1}: {s['dataset']}, answered {s['answer']}, expected {s['expected']}" for k, s in enumerate(PAYLOAD["samples"])]
    assert labels == expected


def test_the_table_holds_every_accuracy(page: Page) -> None:
    rows = [PAYLOAD["accuracy"], *PAYLOAD["accuracy_without"].values(), *PAYLOAD["baselines"].values()]
    assert page.texts("#results td") == [f"{100 * row[kind]:.1f}%" for row in rows for kind in KINDS]


def test_the_matrices_hold_the_loss_and_the_mass_of_every_kind_and_modality(page: Page) -> None:
    loss = [round(100 * (PAYLOAD["accuracy"][kind] - PAYLOAD["accuracy_without"][name][kind])) for kind in KINDS for name in NAMES]
    assert [int(text.replace("\u2212", "-")) for text in page.texts("#loss b")] == pytest.approx(loss, abs=1)
    assert any(value < 0 for value in loss)
    mass = [100 * PAYLOAD["mass"][name][kind] for kind in KINDS for name in NAMES]
    assert [int(text.removesuffix("%")) for text in page.texts("#mass b")] == pytest.approx(mass, abs=0.51)
    ticks = page.js("return [...document.querySelectorAll('#mass u')].map((each) => each.style.left)")
    assert ticks == ["20%", "30%", "50%"] * len(KINDS)


def test_a_click_on_a_sample_shows_its_answer(page: Page) -> None:
    assert (page.text("#answer"), page.text("#expected")) == ("answer 0", "expected answer 0")
    page.click('[data-sample="2"]')
    assert (page.text("#answer"), page.text("#expected"), page.text(".chip")) == ("mistake", "expected answer 2", "\u2717 wrong")
    assert page.js("return [...document.querySelectorAll('#strip [aria-pressed=true]')].map((each) => each.dataset.sample)") == ["2"]


def test_arrow_keys_move_and_turn_round_at_the_ends(page: Page) -> None:
    answers = []
    for key in ("ARROW_RIGHT", "ARROW_LEFT", "ARROW_LEFT"):
        page.press(key)
        answers.append(page.text("#answer"))
    assert answers == ["answer 1", "answer 0", "answer 6"]


def test_the_focus_follows_the_arrow_keys_within_the_samples(page: Page) -> None:
    page.js("document.querySelector('[data-sample=\"0\"]').focus()")
    page.press("ARROW_RIGHT")
    assert page.js("return document.activeElement.dataset.sample") == "1"


def test_the_filter_leaves_the_samples_of_one_kind(page: Page) -> None:
    page.click('[data-kind="spoken"]')
    assert page.js("return [...document.querySelectorAll('#strip button')].map((each) => Number(each.dataset.sample))") == [1, 4]
    assert page.text("#answer") == "answer 1"
    page.press("ARROW_RIGHT")
    assert page.text("#answer") == "answer 4"


def test_the_layer_selector_changes_every_map_and_goes_back(page: Page) -> None:
    first = (page.drawing("image"), page.drawing("audio"), page.tints())
    page.click('#layers [data-layer="encoder.cross.1"]')
    second = (page.drawing("image"), page.drawing("audio"), page.tints())
    assert all(a != b for a, b in zip(first, second, strict=True))
    page.click('#layers [data-layer="encoder.cross.0"]')
    assert (page.drawing("image"), page.drawing("audio"), page.tints()) == first


def test_a_map_is_darkest_where_the_weight_is_largest_and_the_legend_tells_it(page: Page) -> None:
    weights = PAYLOAD["samples"][0]["attention"][LAYERS[0]]
    largest = max(weights["text"])
    tints = [sum(int(part) for part in re.findall(r"\d+", tint)) for tint in page.tints()]
    assert tints.index(min(tints)) == weights["text"].index(largest)
    assert f"{100 * largest:.2f}% at most" in page.text('[data-modality="text"] .legend')
    everything = [*(w for row in weights["image"] for w in row), *(w for row in weights["audio"] for w in row), *weights["text"]]
    assert f"{largest * len(everything):.1f} \u00d7 the even share" in page.text('[data-modality="text"] .legend')


def test_the_highlighter_switches_off_and_leaves_the_picture_itself(page: Page) -> None:
    page.click("#overlay")
    pixels = page.js(
        "const canvas = document.querySelector('[data-modality=image] canvas');"
        "return [...canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data].filter((_, k) => k % 4 === 0)"
    )
    paper, ink = (page.js("return palette[arguments[0]][0]", name) for name in ("paper", "ink"))
    values = [value for row in PAYLOAD["samples"][0]["inputs"]["image"]["pixels"] for value in row]
    assert pixels == pytest.approx([paper + (ink - paper) * value for value in values], abs=0.51)
    assert set(page.tints()) == {"rgba(0, 0, 0, 0)"}


@pytest.mark.parametrize("name", NAMES)
def test_taking_a_modality_away_shows_the_answer_without_it_and_giving_it_back_the_first(name: str, page: Page) -> None:
    page.click(f'[data-take="{name}"]')
    assert (page.text("#answer"), page.texts(".odds span:last-child")) == (f"no {name} 0", ["25.0%"])
    assert page.js("return [...document.querySelectorAll('.taken')].map((each) => each.dataset.modality)") == [name]
    page.click(f'[data-take="{name}"]')
    assert page.text("#answer") == "answer 0"


def test_an_absent_modality_is_called_absent_and_cannot_be_taken_away(page: Page) -> None:
    page.click(f'[data-sample="{ABSENT}"]')
    assert "absent" in page.text('[data-modality="image"]')
    assert page.js("return document.querySelector('[data-take=image]').disabled")
    assert page.js("return document.querySelectorAll('[data-modality=image] canvas').length") == 0


def test_a_modality_that_is_all_that_a_sample_has_is_called_so_and_cannot_be_taken_away(page: Page, tmp_path: Path) -> None:
    first = PAYLOAD["samples"][0]
    alone = {**first, "inputs": {"image": first["inputs"]["image"]}, "without": {}}
    write_page({**PAYLOAD, "samples": [alone]}, tmp_path / "page.html")
    other = Page(page.driver, tmp_path / "page.html")
    other.open()
    assert other.text("[data-take=image]") == "image is all it has" and other.js("return document.querySelector('[data-take=image]').disabled")


def test_markup_in_the_payload_is_shown_as_text(page: Page) -> None:
    page.click('[data-sample="1"]')
    assert page.texts(".bytes span") == list(HOSTILE)
    assert (page.text("h1"), page.texts("#remarks li")) == (PAYLOAD["title"], PAYLOAD["remarks"])


def test_the_page_loads_nothing(page: Page) -> None:
    names = page.js("return performance.getEntriesByType('resource').map((entry) => entry.name)")
    assert [name for name in names if not name.startswith("data:")] == []


@pytest.mark.parametrize("width", [360, 801, 1283, 1600])
def test_the_page_is_never_wider_than_the_window(width: int, page: Page) -> None:
    page.open(width)
    assert page.js("return [innerWidth, document.documentElement.scrollWidth <= innerWidth]") == [width, True]


def test_nothing_jumps_when_layer_or_highlighter_or_removal_change(page: Page) -> None:
    places = "return [...document.querySelectorAll('.input, #reply, #every, footer')].map((each) => each.getBoundingClientRect().toJSON())"
    before = page.js(places)
    for selector in ('#layers [data-layer="encoder.cross.1"]', "#overlay", "#overlay", '[data-take="image"]', '[data-take="text"]'):
        page.click(selector)
        assert page.js(places) == before, selector


@pytest.mark.parametrize("how", ["system", "button"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_can_be_read(scheme: str, how: str, page: Page) -> None:
    page.open(scheme=scheme if how == "system" else {"light": "dark", "dark": "light"}[scheme])
    if how == "button":
        page.click("#theme")
    brightness = sum(page.js("return getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)"))
    assert (brightness > 384) == (scheme == "light")
    for click in (None, f'[data-sample="{ABSENT}"]', '[data-take="text"]'):
        if click:
            page.click(click)
        found = page.js(CONTRASTS)
        assert len(found) > 100
        assert [(words, round(ratio, 2)) for words, ratio in found if ratio < 4.5] == []


@pytest.mark.parametrize(("labels", "words"), [({"labels": ["p0", "p1", "p2"]}, ["p0", "p1", "p2"]), ({}, ["1", "2", "3"])])
def test_other_names_and_views_are_shown_too(labels: dict[str, list[str]], words: list[str], page: Page, tmp_path: Path) -> None:
    write_page(tokens_only(labels), tmp_path / "page.html")
    other = Page(page.driver, tmp_path / "page.html")
    other.open()
    assert (other.text("#answer"), other.texts(".cells span"), other.texts("#results td")) == ("yes", words, ["75.0%", "50.0%"])


def test_the_head_says_whether_every_sample_had_every_modality(page: Page, tmp_path: Path) -> None:
    assert "or whichever of them there was" in page.js("return document.getElementById('lead').textContent")
    complete = [sample for sample in PAYLOAD["samples"] if len(sample["inputs"]) == len(PAYLOAD["modalities"])]
    write_page({**PAYLOAD, "samples": complete}, tmp_path / "page.html")
    other = Page(page.driver, tmp_path / "page.html")
    other.open()
    assert complete and "all at once" in other.js("return document.getElementById('lead').textContent")


def test_a_page_without_samples_hides_them(page: Page, tmp_path: Path) -> None:
    write_page({**PAYLOAD, "samples": []}, tmp_path / "page.html")
    other = Page(page.driver, tmp_path / "page.html")
    other.open()
    assert other.js("return document.getElementById('samples').hidden")
    assert other.text("h1") == PAYLOAD["title"]
