"""Samples of the report page in a browser: their strip, their maps, and the answer without what is taken away."""

import base64
import re
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from browser import Page
from page_payloads import ABSENT, FIRST, HEADS, KINDS, LAYERS, NAMES, PAYLOAD, SECOND, clip, tokens_only

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


@pytest.mark.parametrize("expected", ["unknown", None])
def test_a_sample_without_a_label_is_neither_right_nor_wrong(expected: str | None, show: Callable[..., Page]) -> None:
    first, *rest = PAYLOAD["samples"]
    page = show(PAYLOAD | {"samples": [first | {"expected": expected}, *rest]})
    assert page.text("#expected") == "no label" and page.count(".chip") == 0
    assert page.text('[data-sample="0"] .verdict') == "answer 0" and page.count('[data-sample="0"] :is(.good, .bad)') == 0
    assert (
        page.js("return document.querySelector('[data-sample=\"0\"]').getAttribute('aria-label')") == "Sample 1: written, answered answer 0, no label"
    )
    page.click('[data-take="image"]')
    assert page.text("#expected") == "no label" and page.count(".chip") == 0
    page.click('[data-sample="2"]')
    assert page.text(".chip") == "\u2717 wrong"


def test_unknown_is_a_label_where_it_is_one_of_the_answers(show: Callable[..., Page]) -> None:
    first, *rest = PAYLOAD["samples"]
    page = show(PAYLOAD | {"samples": [first | {"expected": "unknown", "top": [["answer 0", 0.9], ["unknown", 0.1]]}, *rest]})
    assert (page.text("#expected"), page.text(".chip")) == ("expected unknown", "\u2717 wrong")


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
