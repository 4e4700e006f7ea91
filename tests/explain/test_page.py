"""The report page: the file holds the payload, and the page in a browser shows it, to everyone."""

import base64
import io
import json
import math
import random
import re
import shutil
import wave
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import combinations, product
from pathlib import Path
from typing import Any

import pytest

from perceiver.explain.page import write_page

HOSTILE = "a</script><b>7"
LAYERS = ["encoder.cross.0", "encoder.cross.1"]
KINDS = ["written", "spoken", "same"]
NAMES = ["image", "audio", "text"]
HEADS = 3
ABSENT = 3  # the sample without a picture
FIRST, SECOND = ('#layers [data-layer="encoder.cross.0"]', '#layers [data-layer="encoder.cross.1"]')
REQUIRED = {"title", "subtitle", "modalities", "layers", "datasets", "accuracy", "samples", "remarks"}
FLAGS = (
    "--headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run "
    "--disable-background-networking --disable-component-update --disable-sync"
)

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


def packed(values: Iterable[int]) -> str:
    return base64.b64encode(bytes(values)).decode()


def silence(samples: int = 4_001) -> str:
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(8_000)
        sound.writeframes(bytes(2 * samples))
    return f"data:audio/wav;base64,{packed(file.getvalue())}"


def measure(name: str, value: float | None, **changes: Any) -> dict[str, Any]:
    plain = {"n": 4_000, "interval": None, "reference": {}, "verdict": "ok", "reason": "It is enough.", "seconds": 2.5, "passes": 8}
    return {"name": name, "value": value, "of": {}} | plain | changes


def make_diagnoses() -> list[dict[str, Any]]:
    """One of each verdict; a group of measures that share all but the value, one that shares nothing, one that is long, one that is none."""
    shared = [measure("entropy", 0.25 * k, of={"layer": LAYERS[0], "head": k}, reference={"uniform": 1.0}) for k in (1, 2, 3)]
    own = [
        measure("comprehensiveness", 0.31, n=255, interval=[0.28, 0.34], reference={"random": 0.03}, reason="Above random.", passes=12),
        measure(
            "comprehensiveness", -0.125, n=256, interval=[-0.2, 0.01], reference={"random": 0.04}, verdict="warning", reason="Not above.", seconds=3.5
        ),
    ]
    lift = [measure("lift", 1 + k / 8, of={"dataset": kind, "modality": name}) for k, (kind, name) in enumerate(product(KINDS, NAMES))]
    none = [measure("completeness", None, n=0, verdict="not applicable", reason="Bytes have no line between them.", seconds=0, passes=0)]
    kinds = [("focus", "Narrow focus", "ok", shared + lift), ("faithfulness", "Lack of comprehensiveness", "warning", own + none)]
    kinds += [("cost", "Cost", "not applicable", [])]
    return [
        {"key": key, "title": title, "verdict": verdict, "sentence": f"A sentence on {key}.", "measures": measures}
        for key, title, verdict, measures in kinds
    ]


def make_payload() -> dict[str, Any]:
    """Seven samples over three kinds of question, with sizes that no two axes share."""
    draw = random.Random(5)

    def grid(rows: int, columns: int, low: float = 0.0) -> list[list[float]]:
        return [[round(draw.uniform(low, 1), 4) for _ in range(columns)] for _ in range(rows)]

    def scores() -> dict[str, float]:
        return {kind: round(draw.random(), 3) for kind in KINDS}

    def line(count: int, low: float = 0.0) -> list[float]:
        return [round(draw.uniform(low, 1), 4) for _ in range(count)]

    samples = []
    for k in range(7):
        characters = list(HOSTILE if k == 1 else "which digit?")
        inputs = {
            "image": {"rows": 11, "columns": 7, "channels": 1, "bytes": packed(draw.randbytes(11 * 7))},
            "audio": {"seconds": 0.5, "rows": 17, "columns": 13, "bytes": packed(draw.randbytes(17 * 13)), "wav": silence()},
            "text": {"characters": characters},
        }
        here = [name for name in NAMES if k != ABSENT or name != "image"]
        maps = [{"image": grid(3, 2), "audio": grid(5, 1), "text": line(len(characters))} for _ in range(HEADS * len(LAYERS))]
        attention = {layer: {name: [each[name] for each in maps[HEADS * i : HEADS * (i + 1)]] for name in here} for i, layer in enumerate(LAYERS)}
        explained = {"image": grid(3, 2, -1), "audio": grid(5, 1, -1), "text": line(len(characters), -1)}
        gone = [set_of for size in range(1, len(here)) for set_of in combinations(here, size)]
        samples.append(
            {
                "dataset": KINDS[k % 3],
                "expected": f"answer {k}",
                "answer": f"answer {k}" if k != 2 else "mistake",
                "probability": 0.9,
                "top": [[f"answer {k}", 0.9], ["other", 0.1]],
                "without": {"+".join(names): {"answer": f"no {'+'.join(names)} {k}", "probability": 0.25} for names in gone},
                "inputs": {name: inputs[name] for name in here},
                "attention": attention,
                "mass": {layer: {"image": 0.2, "audio": 0.3, "text": 0.4, "registers": 0.1} for layer in LAYERS},
                "explanations": {"gradient": {name: explained[name] for name in here}},
            }
        )
    worth = {kind: {name: {"value": round(draw.uniform(-0.1, 0.6), 3)} for name in NAMES} for kind in KINDS}
    for each in (cell for row in worth.values() for cell in row.values()):
        each["interval"] = [round(each["value"] - 0.03, 3), round(each["value"] + 0.02, 3)]
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
        "asked": "Which digit is it?",
        "belief": {"verdict": "warning", "sentence": "Believe which modality was read, not which pixel."},
        "worth": worth,
        "diagnoses": make_diagnoses(),
        "explanations": [
            {"name": "gradient", "label": "Gradient", "shown": True, "sentence": "Better than random order."},
            {"name": "rollout", "label": "Rollout", "shown": False, "sentence": "No better than random order: 0.04 against 0.03."},
        ],
        "ladder": {"sentence": "All had one budget.", "rows": [{"name": "majority", "parameters": 0, "accuracy": scores()}]},
        "cost": {"sentence": "It took a minute.", "columns": ["part", "seconds"], "rows": [["Shapley values", "34.1"], ["shuffles", "5.9"]]},
    }


PAYLOAD = make_payload()
SHORT = {key: PAYLOAD[key] for key in REQUIRED | {"accuracy_without", "mass", "token_share", "baselines"}}


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
        "attention": {"cross": {"points": [[0.5, 0.3, 0.2]]}},
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
        "samples": [sample],
        "remarks": [],
    }


def clip(text: str = "rain") -> dict[str, Any]:
    """A payload with the other views: five frames of which two grids tell, a waveform of seven stretches, and a text."""
    draw = random.Random(3)
    frames = {"frames": 5, "rows": 3, "columns": 2, "channels": 3, "bytes": packed(draw.randbytes(5 * 3 * 2 * 3))}
    stretches = {"seconds": 0.5, "low": [-k / 7 for k in range(7)], "high": [k / 7 for k in range(7)], "wav": silence()}
    weights = {"film": [[[0.1], [0.2], [0.4]], [[0.1], [0.1], [0.3]]], "noise": [0.5, 0.1, 0.2], "words": [draw.random() for _ in text]}
    sample = tokens_only({})["samples"][0] | {
        "inputs": {"film": frames, "noise": stretches, "words": {"characters": list(text)}},
        "attention": {"cross": {name: [each] for name, each in weights.items()}},
        "mass": {"cross": {"film": 0.5, "noise": 0.3, "words": 0.2}},
    }
    views = {"film": "video", "noise": "wave", "words": "text"}
    modalities = [{"name": name, "view": view} for name, view in views.items()]
    return tokens_only({}) | {"modalities": modalities, "accuracy_without": {}, "samples": [sample]}


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

    def open(self, width: int = 1280, scheme: str = "light", height: int = 900) -> None:
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False})
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

    def count(self, selector: str) -> int:
        return int(self.js("return document.querySelectorAll(arguments[0]).length", selector))

    def shown(self, selector: str) -> bool:
        return bool(self.js("return document.querySelector(arguments[0]).checkVisibility({ visibilityProperty: true })", selector))

    def drawing(self, modality: str) -> str:
        """All pixels of the map of a modality."""
        return str(self.js("return document.querySelector(`[data-modality=${arguments[0]}] canvas`).toDataURL()", modality))

    def drawings(self) -> list[str]:
        """All pixels of all maps of a sample."""
        return list(self.js("return [...document.querySelectorAll('#inputs canvas')].map((each) => each.toDataURL())"))

    def tints(self) -> list[str]:
        return list(self.js("return [...document.querySelectorAll('.bytes span')].map((each) => getComputedStyle(each).backgroundColor)"))

    def marks(self) -> tuple[list[str], list[str]]:
        """All that the highlighter changes."""
        return self.drawings(), self.tints()

    def bottom(self, selector: str) -> float:
        return float(self.js("return document.querySelector(arguments[0]).getBoundingClientRect().bottom", selector))

    def open_all(self) -> None:
        self.js("for (const each of document.querySelectorAll('details')) each.open = true")

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
def show(driver: Any, tmp_path: Path) -> Callable[..., Page]:
    """Opens the page of another payload."""

    def opened(payload: dict[str, Any], **how: Any) -> Page:
        write_page(payload, tmp_path / "page.html")
        page = Page(driver, tmp_path / "page.html")
        page.open(**how)
        return page

    return opened


@pytest.fixture
def page(driver: Any, file: Path) -> Iterator[Page]:
    """The page as opened on a desk; the test fails if the browser logged an error meanwhile."""
    page = Page(driver, file)
    page.errors()
    page.open()
    yield page
    assert page.errors() == []


# ---------- first screen ----------


@pytest.mark.parametrize(("width", "height"), [(1280, 900), (390, 844)])
def test_the_first_screen_holds_the_question_the_worth_and_the_belief(width: int, height: int, show: Callable[..., Page]) -> None:
    asked = "Given a picture of a handwritten digit, a recording of a spoken one, and a question in text: which of 21 answers is right?"
    sentence = "Attention gives more to the modality that is worth more in 13 of 14 comparisons. Two of five maps are better than chance."
    other = show(
        PAYLOAD
        | {
            "title": "A written digit, a spoken digit, and a question",
            "asked": asked,
            "belief": {"verdict": "ok", "sentence": f"{sentence} Believe it."},
        }
        | {"subtitle": "PerceiverIO with 334,165 parameters, trained 4,500 steps in 230 s; 512 rows of each kind, 2026-11-26"}
        | {"datasets": [*KINDS, "sum"], "worth": PAYLOAD["worth"] | {"sum": PAYLOAD["worth"][KINDS[0]]}},
        width=width,
        height=height,
    )
    for selector in ("h1", "#lead", "#worth-table", "#belief .badge", "#belief .sentence"):
        assert other.shown(selector) and other.bottom(selector) <= height, selector
    assert other.text("#lead") == asked and sentence in other.text("#belief .sentence")


def test_the_worth_is_told_in_points_with_a_whisker_over_its_interval(page: Page) -> None:
    cells = [PAYLOAD["worth"][kind][name] for kind in KINDS for name in NAMES]
    told = [int(text.replace("\u2212", "-")) for text in page.texts("#worth-table b")]
    assert told == pytest.approx([100 * cell["value"] for cell in cells], abs=0.51) and min(told) < 0
    ends = [end for cell in cells for end in cell["interval"]]
    low, high = min(ends), math.ceil(10 * max(ends)) / 10
    whiskers = page.js("return [...document.querySelectorAll('#worth-table .whisker')].map((each) => [each.style.left, each.style.width])")
    expected = [(100 * (a - low) / (high - low), 100 * (b - a) / (high - low)) for a, b in (cell["interval"] for cell in cells)]
    assert [tuple(float(text.removesuffix("%")) for text in pair) for pair in whiskers] == [pytest.approx(pair, abs=1e-3) for pair in expected]


def test_without_shapley_values_the_worth_is_what_removal_costs(show: Callable[..., Page]) -> None:
    other = show({key: value for key, value in PAYLOAD.items() if key != "worth"})
    assert other.texts("#worth-table b") == other.texts("#loss b") and "lost when it is taken away" in other.text("#worth")


def test_where_neither_is_known_the_accuracy_stands_alone(show: Callable[..., Page]) -> None:
    other = show({key: PAYLOAD[key] for key in REQUIRED})
    assert other.texts("#worth li") == [f"{kind}{100 * PAYLOAD['accuracy'][kind]:.1f}%" for kind in KINDS]


@pytest.mark.parametrize(
    ("verdict", "words"), [("ok", "\u2713yes"), ("warning", "!no"), ("not applicable", "\u2013cannot be said"), ("perhaps", "?perhaps")]
)
def test_belief_has_a_sign_and_words_for_every_verdict(verdict: str, words: str, show: Callable[..., Page]) -> None:
    other = show(PAYLOAD | {"belief": {"verdict": verdict, "sentence": "So."}})
    assert other.text("#belief .badge") == words


def test_without_what_was_asked_the_head_says_whether_every_sample_had_every_modality(show: Callable[..., Page]) -> None:
    assert "or whichever of them there was" in show(SHORT).text("#lead")
    complete = [sample for sample in PAYLOAD["samples"] if len(sample["inputs"]) == len(PAYLOAD["modalities"])]
    assert complete and "all at once" in show(SHORT | {"samples": complete}).text("#lead")


def test_a_short_report_says_its_remarks_first_and_which_command_makes_the_whole_one(page: Page, show: Callable[..., Page]) -> None:
    assert page.count("#short") == 0 and page.count("#belief #remarks") == 0
    other = show(SHORT)
    assert "perceiver explain RUN_DIR" in other.text("#short") and other.texts("#belief #remarks li") == PAYLOAD["remarks"]
    assert other.bottom("#short") < 900
    assert [other.shown(f"#{part}") for part in ("samples", "attention", "diagnoses", "ladder", "cost")] == [True, True, False, False, False]


# ---------- numbers ----------


def test_the_table_holds_every_accuracy(page: Page) -> None:
    rows = [PAYLOAD["accuracy"], *PAYLOAD["accuracy_without"].values(), *PAYLOAD["baselines"].values()]
    assert page.texts("#results td") == [f"{100 * row[kind]:.1f}%" for row in rows for kind in KINDS]


def test_the_matrices_hold_the_loss_and_the_mass_of_every_kind_and_modality(page: Page) -> None:
    loss = [round(100 * (PAYLOAD["accuracy"][kind] - PAYLOAD["accuracy_without"][name][kind])) for kind in KINDS for name in NAMES]
    assert [int(text.replace("\u2212", "-")) for text in page.texts("#loss b")] == pytest.approx(loss, abs=1)
    assert any(value < 0 for value in loss)
    mass = [100 * PAYLOAD["mass"][name][kind] for kind in KINDS for name in NAMES]
    assert [int(text.removesuffix("%")) for text in page.texts("#mass b")] == pytest.approx(mass, abs=0.51)
    ticks = page.js("return [...document.querySelectorAll('#mass .tick')].map((each) => each.style.left)")
    assert ticks == ["20%", "30%", "50%"] * len(KINDS)


def test_the_ladder_ends_with_the_model_itself_and_a_control_that_stands_on_it_stands_nowhere_else(show: Callable[..., Page]) -> None:
    rungs = [{"name": name, "parameters": 1_234, "accuracy": scores} for name, scores in PAYLOAD["baselines"].items()]
    other = show(PAYLOAD | {"ladder": {"sentence": "So.", "rows": rungs}})
    assert other.texts("#ladder tbody th") == ["mean pool", "full model"] and "1,234" in other.texts("#ladder td")
    accuracy = [f"{100 * scores[kind]:.1f}%" for scores in (*PAYLOAD["baselines"].values(), PAYLOAD["accuracy"]) for kind in KINDS]
    assert [text for text in other.texts("#ladder td") if "%" in text] == accuracy
    assert not [title for title in other.texts("#results th") if "mean pool" in title]


def test_the_model_is_not_added_to_a_ladder_that_it_stands_on(show: Callable[..., Page]) -> None:
    rungs = [{"name": name, "parameters": 5, "accuracy": PAYLOAD["accuracy"]} for name in ("full model", "transformer")]
    other = show(PAYLOAD | {"ladder": {"sentence": "So.", "rows": rungs}})
    assert other.texts("#ladder tbody th") == ["full model", "transformer"] and other.texts("#ladder tr.full th") == ["full model"]


def test_the_cost_is_a_table(page: Page) -> None:
    assert page.texts("#cost thead th") == PAYLOAD["cost"]["columns"] and page.texts("#cost tbody tr") == ["Shapley values34.1", "shuffles5.9"]


# ---------- diagnoses ----------


def test_every_diagnosis_says_its_verdict_in_words_and_its_sentence_on_the_page_and_links_to_it_from_the_first_screen(page: Page) -> None:
    assert page.texts(".diagnosis > .badge") == ["\u2713ok", "!warning", "\u2013not applicable"]
    assert page.texts(".diagnosis .sentence") == [each["sentence"] for each in PAYLOAD["diagnoses"]]
    assert page.texts(".checks a") == ["\u2713Narrow focus: ok", "!Lack of comprehensiveness: warning", "\u2013Cost: not applicable"]
    assert page.js("return [...document.querySelectorAll('.checks a')].every((each) => document.querySelector(each.hash))")
    assert page.bottom(".checks") <= 900


def test_measures_are_folded_away_until_a_key_opens_them(page: Page) -> None:
    assert not page.shown("#diagnosis-faithfulness .measures")
    page.js("document.querySelector('#diagnosis-faithfulness summary').focus()")
    page.press("ENTER")
    assert page.shown("#diagnosis-faithfulness .measures")


def test_a_measure_tells_value_interval_references_rows_verdict_reason_and_cost(page: Page) -> None:
    heads, rows = (page.texts(f"#diagnosis-faithfulness .measure:first-of-type {part}") for part in ("thead th", "tbody tr > *"))
    assert heads == ["of", "value", "interval", "compared with", "n", "cost", "verdict"]
    assert rows[:8] == ["everything", "0.310", "0.280 to 0.340", "", "random 0.030", "255", "2.50 s, 12 passes", "\u2713okAbove random."]
    assert rows[8:] == [
        "everything", "\u22120.125", "\u22120.200 to 0.010", "", "random 0.040", "256", "3.50 s, 8 passes", "!warningNot above."
    ]  # fmt: skip


def test_the_range_of_a_measure_spans_the_interval_and_marks_value_and_reference(page: Page) -> None:
    places = page.js(
        "const row = document.querySelector('#diagnosis-faithfulness .range');"
        "return [...row.children].map((each) => [each.className, parseFloat(each.style.left), parseFloat(each.style.width)])"
    )
    low, high = -0.2, 0.34  # least and greatest number of the group
    where = [100 * (value - low) / (high - low) for value in (0.03, 0.28, 0.31)]
    assert [name for name, *_ in places] == ["reference", "span", "dot"] and [left for _, left, _ in places] == pytest.approx(where, abs=1e-3)
    assert places[1][2] == pytest.approx(100 * 0.06 / (high - low), abs=1e-3)


def test_what_all_measures_of_a_name_share_is_said_once(page: Page) -> None:
    assert page.text("#diagnosis-focus .facts") == "It is enough. Compared with uniform 1. n = 4,000. Cost: 2.50 s, 8 passes, each."
    assert page.texts("#diagnosis-focus .measure:first-of-type thead th") == ["of", "value", "interval", "verdict"]
    assert page.texts("#diagnosis-focus .measure:first-of-type tbody th") == [f"{LAYERS[0]}, head {k}" for k in (1, 2, 3)]


def test_a_long_list_of_measures_is_folded_once_more_under_its_spread(page: Page) -> None:
    assert page.texts("#diagnosis-focus details details summary") == ["9 values, 1 to 2: 9 ok"]
    assert page.texts("#diagnosis-focus details details tbody th") == [f"{kind}, {name}" for kind in KINDS for name in NAMES]


def test_a_measure_that_does_not_apply_has_a_dash_and_its_reason(page: Page) -> None:
    assert page.texts("#diagnosis-faithfulness .measure:last-child td.number") == ["\u2013"]
    assert page.text("#diagnosis-faithfulness .measure:last-child .facts") == "Bytes have no line between them. n = 0."
    assert page.text("#diagnosis-faithfulness .measure:last-child .badge") == "\u2013not applicable"


# ---------- samples ----------


def test_every_sample_has_a_button_that_says_what_it_is(page: Page) -> None:
    labels = page.js("return [...document.querySelectorAll('#strip button')].map((each) => each.getAttribute('aria-label'))")
    expected = [f"Sample {k + 1}: {s['dataset']}, answered {s['answer']}, expected {s['expected']}" for k, s in enumerate(PAYLOAD["samples"])]
    assert labels == expected


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


def test_every_control_of_a_sample_is_reached_by_tab_and_worked_by_the_space_bar_and_keeps_the_focus(page: Page) -> None:
    page.js("document.querySelector('#next').focus()")
    reached = []
    for _ in range(12):
        page.press("TAB")
        reached.append(page.js("const { id, dataset } = document.activeElement; return id || Object.values(dataset)[0]"))
    assert reached[:9] == [*LAYERS, "mean", "0", "1", "2", "overlay", "gradient", "rollout"]
    for selector in ("[data-head='1']", "#overlay", "[data-explanation=gradient]", "[data-take=audio]"):
        page.js("document.querySelector(arguments[0]).focus()", selector)
        before = page.js("return document.activeElement.getAttribute('aria-pressed')")
        page.press("SPACE")
        after = page.js("return [document.activeElement.matches(arguments[0]), document.activeElement.getAttribute('aria-pressed')]", selector)
        assert after == [True, {"true": "false", "false": "true"}[before]], selector


def test_the_filter_leaves_the_samples_of_one_kind(page: Page) -> None:
    page.click('[data-kind="spoken"]')
    assert page.js("return [...document.querySelectorAll('#strip button')].map((each) => Number(each.dataset.sample))") == [1, 4]
    assert page.text("#answer") == "answer 1"
    page.press("ARROW_RIGHT")
    assert page.text("#answer") == "answer 4"


def test_the_layer_selector_changes_every_map_and_goes_back(page: Page) -> None:
    last = page.marks()
    page.click(FIRST)
    first = page.marks()
    assert all(a != b for a, b in zip([*last[0], last[1]], [*first[0], first[1]], strict=True))
    page.click(SECOND)
    assert page.marks() == last


def average(heads: Sequence[Any]) -> Any:
    return [average(parts) for parts in zip(*heads, strict=True)] if isinstance(heads[0], list) else sum(heads) / len(heads)


@pytest.mark.parametrize("head", [None, 0, 2])
def test_a_map_is_strongest_where_the_weight_is_largest_and_the_legend_tells_it(head: int | None, page: Page) -> None:
    heads = PAYLOAD["samples"][0]["attention"][LAYERS[1]]
    weights = {name: average(each) if head is None else each[head] for name, each in heads.items()}
    if head is not None:
        page.click(f'[data-head="{head}"]')
    largest = max(weights["text"])
    tints = [sum(int(part) for part in re.findall(r"\d+", tint)) for tint in page.tints()]
    assert tints.index(min(tints)) == weights["text"].index(largest)
    assert f"{100 * largest:.2f}% at most" in page.text('[data-modality="text"] .legend')
    pieces = 3 * 2 + 5 * 1 + len(weights["text"])
    assert f"{largest * pieces:.1f} \u00d7 the even share" in page.text('[data-modality="text"] .legend')


def test_the_head_selector_changes_every_map_and_the_shares_and_goes_back(page: Page) -> None:
    first, share = page.marks(), page.text('[data-modality="text"] .mass')
    page.click('[data-head="1"]')
    second = page.marks()
    assert all(a != b for a, b in zip([*first[0], first[1]], [*second[0], second[1]], strict=True))
    assert page.text('[data-modality="text"] .mass') != share == "40% of attention" and "head 2 of 3" in page.text("#said")
    page.click('[data-head="mean"]')
    assert page.marks() == first and "mean of its 3 heads" in page.text("#said")


def test_a_layer_of_one_head_offers_none_to_choose(show: Callable[..., Page]) -> None:
    assert not show(clip()).shown("#heads")


def test_an_explanation_marks_what_speaks_for_and_hatches_what_speaks_against(page: Page) -> None:
    before = page.marks()
    page.click("[data-explanation=gradient]")
    drawings, tints = page.marks()
    assert all(a != b for a, b in zip([*before[0], before[1]], [*drawings, tints], strict=True))
    weights = PAYLOAD["samples"][0]["explanations"]["gradient"]["text"]
    hatched = page.js("return [...document.querySelectorAll('.bytes span')].map((each) => getComputedStyle(each).backgroundImage !== 'none')")
    assert hatched == [weight < 0 for weight in weights] and any(hatched) and not all(hatched)
    assert "for" in page.text('[data-modality="image"] .legend') and "against" in page.text('[data-modality="image"] .legend')
    assert page.text("#said") == "Gradient: Better than random order." and not page.shown("#heads")


def test_a_picture_is_hatched_against_the_answer_only(page: Page) -> None:
    page.click("[data-explanation=gradient]")
    colours = page.js(
        "const canvas = document.querySelector('[data-modality=image] canvas'), zoom = canvas.width / 7, seen = [];"
        "for (let y = 0; y < 11; y++) for (let x = 0; x < 7; x++) {"
        "  const block = canvas.getContext('2d').getImageData(x * zoom, y * zoom, zoom, zoom).data, found = new Set();"
        "  for (let k = 0; k < block.length; k += 4) found.add(block.slice(k, k + 3).join());"
        "  seen.push(found.size); }"
        "return seen"
    )
    weights = PAYLOAD["samples"][0]["explanations"]["gradient"]["image"]
    assert colours == [1 + (weights[y * 3 // 11][x * 2 // 7] < 0) for y in range(11) for x in range(7)]


def test_an_explanation_that_is_no_better_than_random_says_so_in_place_of_its_marks(page: Page) -> None:
    page.click("[data-explanation=rollout]")
    assert page.text("#said") == "!not shownRollout: No better than random order: 0.04 against 0.03."
    assert page.texts("#inputs .legend") == ["not shown: no better than random"] * len(NAMES)
    refused = page.marks()
    page.click(SECOND)
    page.click("#overlay")
    assert refused == page.marks()


def test_weights_of_an_explanation_that_may_not_be_shown_are_not_shown_even_if_they_are_there(show: Callable[..., Page]) -> None:
    first = PAYLOAD["samples"][0]
    other = show(PAYLOAD | {"samples": [first | {"explanations": {"rollout": first["explanations"]["gradient"]}}]})
    other.click("#overlay")
    plain = other.drawings()
    other.click("#overlay")
    other.click("[data-explanation=rollout]")
    assert other.drawings() == plain


def test_a_sample_that_a_shown_explanation_leaves_out_says_so(show: Callable[..., Page]) -> None:
    other = show(PAYLOAD | {"samples": [PAYLOAD["samples"][0] | {"explanations": {}}]})
    other.click("[data-explanation=gradient]")
    assert other.text("#said").startswith("!not shownGradient: not proved better than random order")
    gradient = PAYLOAD["explanations"][0] | {"reasons": {KINDS[0]: "0.04 against 0.03"}}
    other = show(PAYLOAD | {"samples": [PAYLOAD["samples"][0] | {"explanations": {}}], "explanations": [gradient]})
    other.click("[data-explanation=gradient]")
    assert other.text("#said") == "!not shownGradient: 0.04 against 0.03"


def test_the_highlighter_switches_off_and_leaves_the_picture_itself(page: Page) -> None:
    page.click("#overlay")
    pixels = page.js(
        "const canvas = document.querySelector('[data-modality=image] canvas');"
        "return [...canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data].filter((_, k) => k % 4 === 0)"
    )
    paper, ink = (page.js("return palette[arguments[0]][0]", name) for name in ("paper", "ink"))
    values = base64.b64decode(PAYLOAD["samples"][0]["inputs"]["image"]["bytes"])
    assert pixels == pytest.approx([paper + (ink - paper) * value / 255 for value in values], abs=0.51)
    assert set(page.tints()) == {"rgba(0, 0, 0, 0)"}


def test_time_runs_to_the_right_and_pitch_upwards(page: Page) -> None:
    page.click("#overlay")
    size, pixels = page.js(
        "const canvas = document.querySelector('[data-modality=audio] canvas'), context = canvas.getContext('2d');"
        "return [[canvas.width, canvas.height], [...context.getImageData(0, 0, canvas.width, canvas.height).data].filter((_, k) => k % 4 === 0)]"
    )
    paper, ink = (page.js("return palette[arguments[0]][0]", name) for name in ("paper", "ink"))
    values = base64.b64decode(PAYLOAD["samples"][0]["inputs"]["audio"]["bytes"])
    expected = [paper + (ink - paper) * (values[moment * 13 + band] / 255) ** 2 for band in reversed(range(13)) for moment in range(17)]
    assert size == [17, 13] and pixels == pytest.approx(expected, abs=0.51)


# ---------- what is taken away ----------


@pytest.mark.parametrize("name", NAMES)
def test_taking_a_modality_away_shows_the_answer_without_it_and_giving_it_back_the_first(name: str, page: Page) -> None:
    page.click(f'[data-take="{name}"]')
    assert (page.text("#answer"), page.texts(".odds li > span:last-child")) == (f"no {name} 0", ["25.0%"])
    assert page.js("return [...document.querySelectorAll('.taken')].map((each) => each.dataset.modality)") == [name]
    page.click(f'[data-take="{name}"]')
    assert page.text("#answer") == "answer 0"


@pytest.mark.parametrize(("one", "two"), [("image", "text"), ("text", "image"), ("audio", "image")])
def test_two_can_be_taken_away_in_any_order_and_the_last_one_stays(one: str, two: str, page: Page) -> None:
    page.click(f'[data-take="{one}"]')
    page.click(f'[data-take="{two}"]')
    (last,) = set(NAMES) - {one, two}
    names = [name for name in NAMES if name != last]
    assert page.text("#answer") == f"no {'+'.join(names)} 0" and page.text("#reply .label") == f"Without {' and '.join(names)}"
    assert page.js("return document.querySelector(arguments[0]).disabled", f"[data-take={last}]")
    assert page.text(f"[data-take={last}]") == f"{last} is all that is left"
    page.click(f'[data-take="{one}"]')
    assert page.text("#answer") == f"no {two} 0"


def test_another_sample_has_everything_again(page: Page) -> None:
    page.click('[data-take="image"]')
    page.press("ARROW_RIGHT")
    assert page.text("#answer") == "answer 1" and page.count(".taken") == 0


def test_where_only_single_removals_were_computed_no_second_one_is_offered(show: Callable[..., Page]) -> None:
    first = PAYLOAD["samples"][0]
    other = show(PAYLOAD | {"samples": [first | {"without": {name: first["without"][name] for name in NAMES}}]})
    other.click("[data-take=audio]")
    assert other.texts("#takes button") == ["image cannot go as well", "take away audio", "text cannot go as well"]


def test_an_absent_modality_is_called_absent_and_cannot_be_taken_away(page: Page) -> None:
    page.click(f'[data-sample="{ABSENT}"]')
    assert "absent" in page.text('[data-modality="image"]')
    assert page.js("return document.querySelector('[data-take=image]').disabled")
    assert page.count("[data-modality=image] canvas") == 0
    page.click("[data-take=audio]")
    assert page.text("[data-take=text]") == "text is all that is left"


def test_a_modality_that_is_all_that_a_sample_has_is_called_so_and_cannot_be_taken_away(show: Callable[..., Page]) -> None:
    first = PAYLOAD["samples"][0]
    other = show(PAYLOAD | {"samples": [first | {"inputs": {"image": first["inputs"]["image"]}, "without": {}}]})
    assert other.text("[data-take=image]") == "image is all it has" and other.js("return document.querySelector('[data-take=image]').disabled")


# ---------- every layer ----------


def test_the_bars_of_a_layer_hold_the_mass_of_all_that_it_read_registers_included(page: Page) -> None:
    rows = page.texts(f'#every [data-layer="{LAYERS[0]}"] .masses li')
    assert rows == ["image20.0%", "audio30.0%", "text40.0%", "registers10.0%"]
    assert page.count("#every .chosen") == 1 and page.js("return document.querySelector('#every .chosen').dataset.layer") == LAYERS[1]


def test_weights_of_what_is_no_modality_count_as_pieces_and_are_not_drawn(show: Callable[..., Page]) -> None:
    first = PAYLOAD["samples"][0]
    attention = {layer: maps | {"registers": [[0.1, 0.2]] * HEADS} for layer, maps in first["attention"].items()}
    other = show(PAYLOAD | {"samples": [first | {"attention": attention}]})
    pieces = 3 * 2 + 5 * 1 + len(first["inputs"]["text"]["characters"]) + 2
    ticks = other.js("return [...document.querySelectorAll('#every .card:first-child .tick')].map((each) => parseFloat(each.style.left))")
    assert ticks == pytest.approx([100 * n / pieces for n in (6, 5, pieces - 13, 2)], abs=1e-3)
    assert other.count("#inputs > .input") == len(NAMES)


# ---------- other views ----------


def test_a_film_shows_every_frame_under_the_weights_of_its_stretch(show: Callable[..., Page]) -> None:
    other = show(clip())
    marked = other.js(
        "return [...document.querySelectorAll('[data-modality=film] canvas')].map((each) => [...each.getContext('2d').getImageData(0, 0, 2, 3).data])"
    )
    other.click("#overlay")
    plain = other.js(
        "return [...document.querySelectorAll('[data-modality=film] canvas')].map((each) => [...each.getContext('2d').getImageData(0, 0, 2, 3).data])"
    )
    sample = clip()["samples"][0]
    frames, grids = base64.b64decode(sample["inputs"]["film"]["bytes"]), sample["attention"]["cross"]["film"][0]
    assert [[v for k, v in enumerate(frame) if k % 4 < 3] for frame in plain] == [list(frames[18 * k : 18 * (k + 1)]) for k in range(5)]
    high = other.js("return palette.high[0]")
    weights = [[grids[k * 2 // 5][y][0] / 0.4 for y in range(3) for _ in range(2)] for k in range(5)]
    expected = [
        [value + (high[c] - value) * 0.6 * weights[k][pixel] for pixel in range(6) for c, value in enumerate(frames[18 * k + 3 * pixel :][:3])]
        for k in range(5)
    ]
    assert [[v for k, v in enumerate(frame) if k % 4 < 3] for frame in marked] == [pytest.approx(frame, abs=0.51) for frame in expected]


def test_a_wave_is_ink_between_its_least_and_greatest_samples_and_can_be_played(show: Callable[..., Page]) -> None:
    other = show(clip())
    marked = other.drawing("noise")
    other.click("#overlay")
    assert other.drawing("noise") != marked
    size, pixels = other.js(
        "const canvas = document.querySelector('[data-modality=noise] canvas'), context = canvas.getContext('2d');"
        "return [[canvas.width, canvas.height], [...context.getImageData(0, 0, canvas.width, canvas.height).data].filter((_, k) => k % 4 === 0)]"
    )
    paper = other.js("return palette.paper[0]")
    heights = [sum(abs(pixels[7 * y + x] - paper) > 9 for y in range(97)) for x in range(7)]
    assert size == [7, 97] and heights == [1 + 2 * round(48 * k / 7) for k in range(7)]
    assert other.js("return document.querySelector('[data-modality=noise] audio').src").startswith("data:audio/wav")


def test_a_sound_plays_and_its_playhead_moves(page: Page) -> None:
    page.press("ARROW_RIGHT")  # a browser lets no page make noise before it is touched
    seen = page.driver.execute_async_script(
        "const done = arguments[0], player = document.querySelector('audio'), head = document.querySelector('.playhead');"
        "const before = getComputedStyle(head).visibility, tell = () => done([before, head.style.visibility, parseFloat(head.style.left)]);"
        "player.addEventListener('timeupdate', () => { if (player.currentTime > 0 && !player.ended) requestAnimationFrame(tell); });"
        "player.loop = true; player.play().catch((error) => done([error.name]));"
    )
    page.js("document.querySelector('audio').pause()")
    assert seen[:2] == ["hidden", "visible"] and 0 < seen[2] <= 100


@pytest.mark.parametrize(("labels", "words"), [({"labels": ["p0", "p1", "p2"]}, ["p0", "p1", "p2"]), ({}, ["1", "2", "3"])])
def test_other_names_and_views_are_shown_too(labels: dict[str, list[str]], words: list[str], show: Callable[..., Page]) -> None:
    other = show(tokens_only(labels))
    assert (other.text("#answer"), other.texts(".cells span"), other.texts("#results td")) == ("yes", words, ["75.0%", "50.0%"])


def test_a_long_text_gets_a_box_of_its_own_that_keys_can_scroll(show: Callable[..., Page]) -> None:
    other = show(clip("the rain in Spain " * 60))
    box = other.js("const box = document.querySelector('.bytes'); return [box.scrollHeight > box.clientHeight, box.tabIndex, box.clientHeight < 400]")
    assert box == [True, 0, True]


# ---------- the whole page ----------


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
