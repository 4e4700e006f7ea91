"""The first screen of the report page, its numbers and its diagnoses, in a browser."""

import math
from collections.abc import Callable

import pytest
from browser import Page
from page_payloads import KINDS, LAYERS, NAMES, PAYLOAD, REQUIRED, SHORT

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


def test_the_cost_is_tables_each_under_its_title(page: Page) -> None:
    parts, modalities = PAYLOAD["cost"]["tables"]
    assert page.texts("#cost h4") == ["Parts", "Modalities"]
    assert page.texts("#cost table:first-of-type thead th")[:2] == parts["columns"]
    assert page.texts("#cost tbody tr")[:2] == ["Shapley values34.1", "shuffles5.9"]
    assert page.texts("#cost .scroll:last-child thead th") == [title for title in modalities["columns"] if title]
    assert page.texts("#cost .scroll:last-child tbody tr") == ["".join(row) for row in modalities["rows"]]


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
