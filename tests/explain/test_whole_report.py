"""The whole report: it changes nothing, holds together, and says what does not apply where little was given."""

import json
import math

import pytest
import torch
from builders import (
    CLASSES,
    DIM,
    NAMES,
    compact_batch,
    presence_table,
    raw_entries,
    small_encoder,
    small_late_fusion,
    small_mean_pool,
    small_perceiver,
    three_adapters,
    whole_batch,
)
from toy_datasets import toy_mixture

from perceiver import Decoder, MultitaskPerceiver
from perceiver.explain import Diagnosis, Measure, Report, report
from perceiver.explain.belief import belief
from perceiver.explain.beyond import Rung, diagnose, ladder
from perceiver.explain.faithfulness.diagnosis import Trial
from perceiver.explain.faithfulness.explanations import Explanation
from perceiver.explain.figures import draw
from perceiver.explain.findings import rounded
from perceiver.explain.measure import bootstrap, not_applicable, worst
from perceiver.explain.modalities.shapley import VALUE
from perceiver.tasks import Classification, Multitask

KEYS = ["combination", "focus", "simplification", "view", "prediction", "faithfulness", "beyond", "cost"]
ROWS = 12


def loader(rows: int = ROWS, table: torch.Tensor | None = None, **more: torch.Tensor) -> list[dict[str, torch.Tensor]]:
    """Batches of five rows at most."""
    table = presence_table([7, 7, 7, 5, 3]) if table is None else table
    made = []
    for start in range(0, rows, 5):
        size = min(5, rows - start)
        batch = compact_batch({key: value[:size] for key, value in raw_entries().items()}, table[:size])
        made.append(batch | {"target": torch.randint(CLASSES, (size,))} | {key: value[:size] for key, value in more.items()})
    return made


@pytest.fixture(scope="module")
def task() -> Classification:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Classification(small_perceiver(), CLASSES).train()


@pytest.fixture(scope="module")
def found(task) -> Report:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return report(task, loader(), validation=loader(), samples=4, rows=ROWS)


def test_a_report_leaves_outputs_weights_modes_and_random_numbers_as_they_were(task):
    batch = compact_batch(raw_entries(), presence_table([7, 2, 5, 4, 3]))
    weights = {name: p.clone() for name, p in task.named_parameters()}
    with torch.no_grad():
        before = task.eval()(batch)
    task.train()
    rows = loader(6)
    state = torch.get_rng_state()
    report(task, rows, rows=6, samples=2)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(part.training for part in task.modules())
    with torch.no_grad():
        assert torch.equal(task.eval()(batch), before)
    task.train()
    assert all(torch.equal(p, weights[name]) and p.grad is None for name, p in task.named_parameters())
    assert not any(module._forward_hooks for module in task.modules())


def test_every_diagnosis_is_there_and_every_measure_says_what_it_must(found):
    assert [diagnosis.key for diagnosis in found.diagnoses] == KEYS
    for measure in found.measures:
        assert measure.verdict in ("ok", "warning", "not applicable") and measure.reason
        assert (measure.value is None) == (measure.verdict == "not applicable")
        if measure.interval is not None:
            assert measure.interval[0] <= measure.interval[1] and measure.n >= 10
        assert all(isinstance(value, float) for value in measure.reference.values())
    for diagnosis in found.diagnoses:
        for measure in diagnosis.measures:
            if measure.value is not None and diagnosis.key not in ("beyond", "cost"):  # results of a run, and closed forms, are there already
                assert measure.price.passes > 0, measure
                assert measure.reference or "1 key" in measure.reason, measure
    for diagnosis in found.diagnoses:
        assert diagnosis.sentence and diagnosis.measures


def test_shapley_values_sum_to_the_gain_and_masses_to_one(found):
    worth = [measure for measure in found.measures if measure.name == VALUE]
    assert {measure.of["modality"] for measure in worth} == set(NAMES)
    gain = worth[0].reference["with everything"] - worth[0].reference["with nothing"]
    assert sum(measure.value for measure in worth) == pytest.approx(gain, abs=1e-9)
    for layer in ("encoder.cross.0", "encoder.cross.1"):
        mass = [m.value for m in found.measures if m.name == "mass" and m.of["layer"] == layer]
        assert len(mass) == 3 and sum(mass) == pytest.approx(1, abs=1e-5)


def test_the_files_hold_all_of_it_and_no_number_that_json_lacks(found, tmp_path):
    found.write(tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["report.html", "report.json", "summary.txt"]
    data = json.loads((tmp_path / "report.json").read_text(), parse_constant=pytest.fail)
    assert [one["key"] for one in data["diagnoses"]] == KEYS and set(data["attention"]["data"]["encoder.cross.0"]) == set(NAMES)
    assert len(data["attention"]["data"]["encoder.cross.0"]["image"][0]) == 3  # a number a latent
    text = (tmp_path / "summary.txt").read_text()
    assert all(diagnosis.title in text for diagnosis in found.diagnoses)
    assert "may the picture of attention be believed?" in text.lower()


def test_figures_are_drawn_of_what_there_is_and_the_same_report_gives_the_same_file(found, tmp_path):
    once, again = (draw(found, tmp_path / name) for name in ("once", "again"))
    assert {file.stem for file in once} == {"worth", "mass", "faithfulness", "rank"}
    for a, b in zip(once, again, strict=True):
        assert a.read_bytes() == b.read_bytes() and a.stat().st_size > 2000


def test_the_samples_have_every_set_taken_away_every_head_and_only_explanations_that_passed(found):
    assert len(found.samples) == 4
    shown = {one["name"] for one in found.explanations if one["shown"]}
    for sample in found.samples:
        here = set(sample["inputs"])
        assert set(sample["explanations"]) <= shown
        singles = {name for name in sample["without"] if "+" not in name}
        assert singles == here and all(set(names.split("+")) < here for names in sample["without"])
        for layer, mass in sample["mass"].items():
            assert sum(mass.values()) == pytest.approx(1, abs=1e-3) and set(sample["attention"][layer]) == here


@pytest.mark.slow
def test_a_mixture_is_reported_dataset_by_dataset():
    data = toy_mixture(eval_batch_size=5)
    task = Multitask(MultitaskPerceiver(three_adapters(), small_encoder(), Decoder(13, DIM)), data.tasks).eval()
    found = report(task, data.test_dataloader(), rows=10, samples=2, classes=data.classes)
    assert set(found.rows) == set(task.datasets)
    without = [measure for measure in found.measures if measure.of.get("dataset") == "texts" and measure.name == "comprehensiveness"]
    assert [measure.verdict for measure in without] == ["not applicable"]
    assert all("no classes" in m.reason for m in found.measures if m.of.get("dataset") == "texts" and m.name == "sink rate" and m.value is None)


ODD = {
    "one modality": lambda: (Classification(small_perceiver(), CLASSES), loader(table=presence_table([1] * 5))),
    "no labels": lambda: (
        Classification(small_perceiver(), CLASSES),
        [{key: value for key, value in batch.items() if key != "target"} for batch in loader()],
    ),
    "one class": lambda: (
        Classification(small_perceiver(), CLASSES),
        [batch | {"target": torch.full_like(batch["target"], 3)} for batch in loader()],
    ),
    "no attention": lambda: (Classification(small_mean_pool(), CLASSES), loader()),
    "a bare model": lambda: (small_perceiver(), loader()),
    "a class never seen": lambda: (
        Classification(small_perceiver(), CLASSES),
        [batch | {"target": torch.full_like(batch["target"], CLASSES)} for batch in loader()],
    ),
    "rows without a label": lambda: (
        Classification(small_perceiver(), CLASSES),
        [batch | {"target": torch.full_like(batch["target"], -1)} for batch in loader()],
    ),
}
SAID = {
    "one modality": "one modality that the model reads",
    "no labels": "without labels nothing is right or wrong",
    "one class": "never asked for here",
    "no attention": "no attention",
    "a bare model": "accuracy",
    "a class never seen": "row of class 7, and the model knows 0 to 6",
    "rows without a label": "row of class -1, and the model knows 0 to 6",
}


@pytest.mark.slow
@pytest.mark.parametrize("odd", ODD)
def test_where_little_is_given_the_report_is_made_and_says_what_does_not_apply(odd, tmp_path):
    model, rows = ODD[odd]()
    found = report(model, rows, validation=rows, rows=ROWS, samples=2)
    found.write(tmp_path)
    assert [diagnosis.key for diagnosis in found.diagnoses] == KEYS
    if odd == "a bare model":
        assert [m for m in found.measures if m.name == "accuracy" and m.value is not None and m.interval is not None]
        assert set(found.accuracy) == {"data"}
    else:
        assert any(SAID[odd] in measure.reason for measure in found.measures), {measure.reason for measure in found.measures}
    for measure in found.measures:
        assert measure.value is None or math.isfinite(measure.value), measure
    strange = odd in ("a class never seen", "rows without a label", "no labels")
    assert not strange or {sample["expected"] for sample in found.samples} == {"unknown"}
    assert not strange or not found.accuracy


def test_of_one_row_a_report_is_made_and_nothing_is_claimed(tmp_path):
    found = report(Classification(small_perceiver(), CLASSES), loader(1), rows=ROWS, samples=1)
    found.write(tmp_path)
    assert [diagnosis.key for diagnosis in found.diagnoses] == KEYS
    assert all(measure.value is None or math.isfinite(measure.value) for measure in found.measures)
    for diagnosis in found.diagnoses:
        for measure in diagnosis.measures:
            if diagnosis.key not in ("beyond", "cost"):
                assert measure.interval is None and measure.verdict != "warning", measure
        assert diagnosis.verdict != "warning" or diagnosis.key == "cost", diagnosis.sentence
    for key in ("combination", "focus", "view", "faithfulness"):
        assert "too few" in found.diagnosis(key).sentence, found.diagnosis(key).sentence
    assert found.belief.verdict == "not applicable"
    assert not any(one["shown"] for one in found.explanations)


@pytest.mark.slow
def test_rows_of_all_kinds_together_have_a_temperature_and_count_once():
    task = Classification(small_perceiver(), CLASSES, datasets=("a", "b"))
    rows = [batch | {"dataset": torch.arange(len(batch["target"])) % 2} for batch in loader(30)]
    found = report(task, rows, validation=rows, rows=ROWS, samples=2)
    heat = {m.of["dataset"]: m for m in found.measures if m.name == "temperature"}
    assert set(heat) == {"all kinds", "a", "b"} and all(measure.value is not None for measure in heat.values())
    (efficiency,) = [m for m in found.measures if m.name == "accuracy for each billion operations"]
    (operations,) = [m for m in found.measures if m.name == "operations forward"]
    mean = (found.accuracy["a"] + found.accuracy["b"]) / 2
    assert efficiency.value == pytest.approx(mean / (operations.value / 1e9), rel=1e-3)


def test_what_cannot_be_reported_is_refused_at_once():
    with pytest.raises(ValueError, match="LateFusion has none"):
        report(Classification(small_late_fusion(), CLASSES), loader())
    with pytest.raises(ValueError, match="no row that counts"):
        report(Classification(small_perceiver(), CLASSES), [])
    with pytest.raises(ValueError, match="rows=0"):
        report(Classification(small_perceiver(), CLASSES), loader(), rows=0)
    nothing = whole_batch(raw_entries(), presence_table([0] * 5)) | {"target": torch.zeros(5, dtype=torch.long)}
    with pytest.raises(ValueError, match="no row that counts"):
        report(Classification(small_perceiver(), CLASSES), [nothing])


def worth(dataset: str, name: str, value: float, mass: float, even: float = 0.5) -> list[Measure]:
    of = {"dataset": dataset, "modality": name}
    return [
        Measure(VALUE, value, 100, (value - 0.05, value + 0.05), {}, "ok", "", of),
        Measure("mass", mass, 100, None, {"uniform": even}, "ok", "", of | {"layer": "read"}),
    ]


def test_a_picture_that_goes_with_worth_may_be_believed_and_one_that_does_not_may_not():
    passed, failed = ({"x": Trial(Explanation("x", "X", lambda *_: {}), {"a": reason})} for reason in ("", "no better"))
    right = [*worth("a", "image", 0.6, 0.6), *worth("a", "audio", 0.1, 0.1), *worth("a", "text", 0.3, 0.3)]
    wrong = [*worth("a", "image", 0.6, 0.3), *worth("a", "audio", 0.1, 0.6), *worth("a", "text", 0.3, 0.1)]
    assert belief(right, passed)[0] == "ok"
    assert belief(right, failed)[0] == "warning"
    found = belief(wrong, passed)
    assert found.verdict == "warning" and "image is worth 60 points and gets 30 % of the attention" in found.sentence
    same = [*worth("a", "image", 0.33, 0.7), *worth("a", "audio", 0.3, 0.3)]
    assert belief(same, {})[0] == "not applicable"


def test_attention_is_compared_for_its_share_of_the_pieces():
    """The picture gets most of the attention since it has most of the pieces; for its share it gets least, as it is worth least."""
    passed = {"x": Trial(Explanation("x", "X", lambda *_: {}), {"a": ""})}
    measures = [*worth("a", "image", 0.1, 0.6, 0.9), *worth("a", "audio", 0.3, 0.2, 0.07), *worth("a", "text", 0.5, 0.2, 0.03)]
    found = belief(measures, passed)
    assert found.verdict == "ok" and (found.agreements, found.comparisons) == (3, 3)
    assert found.sentence.startswith("For its share of the pieces, attention gives more to the modality that is worth more in 3 of 3")


def test_one_or_two_comparisons_are_too_few_to_believe_or_not():
    passed = {"x": Trial(Explanation("x", "X", lambda *_: {}), {"a": ""})}
    one = [*worth("a", "image", 0.6, 0.7), *worth("a", "audio", 0.1, 0.3)]
    found = belief(one, passed)
    assert found.verdict == "not applicable" and "1 comparison is too few, and it takes 3" in found.sentence and found.comparisons == 1
    assert "2 comparisons are too few" in belief([*one, *worth("b", "image", 0.6, 0.7), *worth("b", "audio", 0.1, 0.3)], passed).sentence


def test_an_explanation_that_could_not_be_tested_is_counted_neither_way():
    measures = [*worth("a", "image", 0.6, 0.6), *worth("a", "audio", 0.1, 0.1), *worth("a", "text", 0.3, 0.3)]
    untold = {"x": Trial(Explanation("x", "X", lambda *_: {}), {"a": "4 rows are too few"}, {"a"})}
    assert "ways to mark" not in belief(measures, untold).sentence


def test_a_ladder_says_where_attention_buys_nothing():
    results = {
        "test/accuracy/a": 0.97,
        "test/accuracy/b": 0.52,
        "test/baseline_mean_pool/a": 0.61,
        "test/baseline_mean_pool/b": 0.51,
        "test/baseline_transformer/a": 0.98,
        "test/baseline_transformer/b": 0.5,
        "attends/transformer": 1.0,
        "parameters/transformer": 17.0,
    }
    rungs = ladder(results, ("a", "b"))
    assert [rung.name for rung in rungs] == ["mean_pool", "transformer", "full model"]
    found = diagnose(rungs, {"a": 1000, "b": 1000})
    assert found.verdict == "ok" and "36 for a" in found.sentence and "buys nothing for b" in found.sentence
    of_all = {m.of["dataset"]: m for m in found.measures if m.of["ladder"] == "of all"}
    assert of_all["a"].of["best"] == "transformer" and of_all["a"].verdict == "warning"
    worse = diagnose([Rung("mean_pool", {"a": 0.9}), Rung("full model", {"a": 0.9}, 3, True)], {"a": 50})
    assert worse.verdict == "warning" and "buys nothing for a" in worse.sentence
    assert diagnose([], {}).verdict == "not applicable"
    assert "of one seed" in found.sentence and all("of one seed" in measure.reason for measure in found.measures)


def test_without_the_number_of_rows_the_ladder_says_nothing_of_what_attention_buys():
    rungs = [Rung("mean_pool", {"a": 0.31, "b": 0.31}), Rung("full model", {"a": 0.97, "b": 0.97}, 3, True)]
    none = diagnose(rungs, {})
    assert none.verdict == "not applicable" and "nothing" not in none.sentence and "rows were tested is not known" in none.sentence
    assert all(measure.value is None and "test/rows/" in measure.reason for measure in none.measures)
    some = diagnose(rungs, {"a": 700})
    assert some.verdict == "ok" and "66 for a" in some.sentence and "for b" not in some.sentence


def test_an_interval_holds_the_mean_and_narrows_with_more_rows():
    values = torch.rand(1000)
    few, many = bootstrap(values[:50]), bootstrap(values)
    assert few is not None and many is not None and many[1] - many[0] < few[1] - few[0]
    assert many[0] < float(values.mean()) < many[1]
    assert bootstrap(values[:9]) is None
    assert bootstrap(values, torch.median) is not None


def test_the_worst_verdict_counts_and_what_does_not_apply_is_never_zero():
    assert worst(["ok", "not applicable"]) == "ok" and worst(["ok", "warning"]) == "warning" and worst([]) == "not applicable"
    assert not_applicable("x", "why").value is None
    data = Diagnosis("k", "T", "ok", "s", (Measure("m", 1.0, 3),)).as_dict()
    assert data["measures"][0]["passes"] == 0.0 and data["measures"][0]["of"] == {}


def test_numbers_for_json_have_six_digits_and_what_is_none_is_none():
    assert rounded({"a": [1 / 3, math.nan, math.inf, 7], "b": (1.0,)}) == {"a": [0.333333, None, None, 7], "b": [1.0]}
