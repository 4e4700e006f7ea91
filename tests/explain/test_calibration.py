"""Calibration: known answers, what comes in ties or in order, and what is said of it."""

import math
from dataclasses import replace
from itertools import permutations

import pytest
import torch
from builders import bounded, without_shape_checks
from hand_made import a_world, examples, rows_of, subject, vote, xor, xor_world
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torchmetrics.functional.classification import multiclass_calibration_error

from perceiver.explain.calibration import aurc, brier, calibration_error, confidence, diagnose_predictions, fit_temperature, risk_coverage, scaled
from perceiver.explain.calibration.error import equal_mass, equal_width, error_by_chance
from perceiver.explain.calibration.measures import ACCURACY, ADAPTIVE, AURC, BRIER, ECE, NLL, TEMPERATURE, measures, temperature_measure
from perceiver.explain.measure import Measure, Price
from perceiver.explain.modalities.coalitions import coalitions
from perceiver.explain.right import right

OF = {"dataset": "toy"}


def calibrated(rows: int, classes: int = 5, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Answers, and labels drawn from just these probabilities."""
    generator = torch.Generator().manual_seed(seed)
    answers = (2 * torch.randn(rows, classes, generator=generator)).log_softmax(-1)
    return answers, torch.multinomial(answers.exp(), 1, generator=generator)[:, 0]


def told(answers: Tensor, target: Tensor, **options: float) -> dict[str, Measure]:
    return {m.name: m for m in measures(answers, target, of=OF, **options)}


def ece(answers: Tensor, target: Tensor) -> float:
    sure, hits = confidence(answers), (answers.argmax(-1) == target).double()
    return float(calibration_error(sure, hits, equal_width(sure)))


def test_the_error_agrees_with_torchmetrics_where_nothing_is_certain():
    answers, target = calibrated(311)
    theirs = multiclass_calibration_error(answers.exp(), target, num_classes=5, n_bins=15, norm="l1")
    assert ece(answers, target) == pytest.approx(float(theirs), abs=1e-6) and ece(answers, target) > 0.01


def test_a_certain_answer_shares_the_last_bin_with_a_nearly_certain_one():
    """0.99 that is wrong and 1 that is right are half right together, and 0.995 sure. Apart they would be off by 0.505."""
    answers = torch.tensor([[1.0, 0.0], [0.99, 0.01]]).log()
    assert ece(answers, torch.tensor([0, 1])) == pytest.approx(0.495)
    assert equal_width(torch.tensor([0.0, 1 / 15 - 1e-6, 1 / 15 + 1e-6, 0.2, 1.0], dtype=torch.double)).tolist() == [0, 0, 1, 2, 14]


def test_bins_of_equal_mass_hold_equally_many_rows_but_no_tie_is_torn():
    sure = torch.rand(15 * 7, dtype=torch.double)
    assert torch.bincount(equal_mass(sure)).tolist() == [7] * 15
    same = torch.full((31,), 0.7, dtype=torch.double)
    assert len(equal_mass(same).unique()) == 1


def test_in_which_order_rows_come_makes_no_difference():
    """A model that always says 0.6 and is right in three of five rows is calibrated, though its rows come sorted by label."""
    answers = torch.tensor([[0.6, 0.4]]).log().expand(100, 2)
    found = told(answers, torch.tensor([0] * 60 + [1] * 40))
    assert found[ECE].value == pytest.approx(0, abs=1e-6) == found[ADAPTIVE].value
    assert found[AURC].value == pytest.approx(0.4) and found[AURC].verdict == "warning"


@pytest.mark.parametrize("into", [equal_width, equal_mass])
def test_calibrated_answers_have_an_error_that_chance_would_give(into):
    """In about 19 of 20 data sets it is in the interval of 95 %."""
    inside, datasets = 0, 60
    for seed in range(datasets):
        answers, target = calibrated(1000, seed=seed)
        sure, hits = confidence(answers), right(answers, target)
        low, high = torch.quantile(error_by_chance(sure, into(sure)), torch.tensor([0.025, 0.975], dtype=torch.double))
        inside += int(low <= calibration_error(sure, hits, into(sure)) <= high)
    assert 0.85 * datasets < inside <= datasets


def test_a_calibrated_model_is_said_to_be():
    found = told(*calibrated(1000))
    for name in (ECE, ADAPTIVE):
        assert found[name].verdict == "ok" and "calibrated model would show by chance" in found[name].reason and found[name].value > 0
        assert found[name].interval[0] <= found[name].value <= found[name].interval[1]


@pytest.mark.parametrize("rows", [11, 101, pytest.param(1009, marks=pytest.mark.slow)])
def test_the_interval_of_an_error_holds_it_and_begins_at_zero_at_the_least(rows):
    """Resampling makes absolute values larger: the plain percentiles of a calibrated model lie above its error as often as not."""
    for seed in range(16):
        found = told(*calibrated(rows, seed=seed))
        for name in (ECE, ADAPTIVE):
            low, high = found[name].interval
            assert 0 <= low <= found[name].value <= high and low < high


def test_chance_gives_a_larger_error_to_fewer_rows():
    found = [error_by_chance(sure := confidence(calibrated(rows)[0]), equal_width(sure)).median() for rows in (50, 500, 5000)]
    assert found[0] > 2 * found[1] > 4 * found[2] > 0


def test_the_chance_error_is_that_of_labels_drawn_from_the_answers():
    answers, _ = calibrated(200)
    drawn = [ece(answers, torch.multinomial(answers.exp(), 1)[:, 0]) for _ in range(300)]
    mine = error_by_chance(confidence(answers), equal_width(confidence(answers)))
    assert sum(drawn) / 300 == pytest.approx(float(mine.mean()), rel=0.05)


def test_scores_three_times_too_large_have_temperature_three():
    answers, target = calibrated(20000)
    assert fit_temperature((3 * answers).log_softmax(-1), target) == pytest.approx(3, abs=0.05)
    assert fit_temperature(answers, target) == pytest.approx(1, abs=0.02)


def test_the_temperature_has_the_least_nll():
    answers, target = calibrated(200)
    best = fit_temperature(2 * answers, target)

    def nll(temperature: float) -> float:
        return float(torch.nn.functional.nll_loss(scaled(2 * answers, temperature), target))

    assert nll(best) < min(nll(best * 1.02), nll(best / 1.02))


def test_temperature_mends_what_it_is_fitted_for_and_leaves_accuracy():
    answers, target = calibrated(2000)
    hot = (3 * answers).log_softmax(-1)
    found = told(hot, target, temperature=fit_temperature(hot[:1000], target[:1000]))
    assert found[ECE].verdict == "warning" and "surer than it is right" in found[ECE].reason
    for name in (ECE, ADAPTIVE, NLL, BRIER):
        assert found[name].reference["after temperature"] < found[name].value
    assert found[ECE].reference["after temperature"] < found[ECE].reference["calibrated, 97.5 %"]
    assert "after temperature" not in found[ACCURACY].reference and "after temperature" not in told(hot, target)[ECE].reference


def test_answers_that_are_not_sure_enough_are_said_to_be():
    answers, target = calibrated(1000)
    found = told(scaled(answers, 4.0).float(), target)
    assert found[ECE].verdict == "warning" and "less sure than it is right" in found[ECE].reason


def test_an_error_that_many_rows_prove_and_that_is_small_is_no_warning():
    """Sure of 90 %, right in 88.5 %."""
    found = told(torch.tensor([[0.9, 0.1]]).log().expand(5000, 2), (torch.arange(5000) >= 4425).long())[ECE]
    assert found.value == pytest.approx(0.015, abs=1e-6) and found.value > found.reference["calibrated, 97.5 %"]
    assert found.verdict == "ok" and "too little to matter" in found.reason


def test_brier_and_nll_by_hand():
    answers = torch.tensor([[0.5, 0.3, 0.2], [0.1, 0.1, 0.8]]).log()
    target = torch.tensor([0, 1])
    torch.testing.assert_close(brier(answers, target), torch.tensor([0.25 + 0.09 + 0.04, 0.01 + 0.81 + 0.64], dtype=torch.double), atol=1e-6, rtol=0)
    found = told(answers, target)
    assert found[NLL].value == pytest.approx(-(math.log(0.5) + math.log(0.1)) / 2)
    assert found[NLL].reference == pytest.approx({"chance": math.log(3), "class shares": math.log(2)})
    assert found[BRIER].reference == pytest.approx({"chance": 2 / 3, "class shares": 0.5})


def test_accuracy_nll_and_ece_stand_together():
    found = told(*calibrated(100))
    assert list(found) == [ACCURACY, NLL, ECE, ADAPTIVE, BRIER, AURC]
    for name in (ECE, ADAPTIVE):
        assert found[name].reference["accuracy"] == found[ACCURACY].value and found[name].reference["NLL"] == found[NLL].value
    assert all(m.n == 100 and m.interval[0] <= m.value <= m.interval[1] for m in found.values())
    assert {"chance", "majority", "shuffled label"} == set(found[ACCURACY].reference)


def test_a_model_that_forgets_all_is_calibrated_and_caught_by_the_others():
    shares = torch.tensor([0.5, 0.3, 0.2])
    target = torch.tensor([0] * 50 + [1] * 30 + [2] * 20)
    found = told(shares.log().expand(100, 3), target)
    assert found[ECE].value == pytest.approx(0, abs=1e-6) and found[ECE].verdict == "ok"
    assert [found[name].verdict for name in (ACCURACY, NLL, BRIER, AURC)] == ["warning"] * 4
    assert "not distinguishable from always naming the commonest class" in found[ACCURACY].reason


def test_risk_by_coverage_by_hand():
    sure = torch.tensor([0.6, 0.9, 0.8, 0.7])
    hits = torch.tensor([0.0, 1.0, 0.0, 1.0])
    torch.testing.assert_close(risk_coverage(sure, hits), torch.tensor([0, 1 / 2, 1 / 3, 1 / 2], dtype=torch.double))
    assert aurc(sure, hits) == pytest.approx((0 + 1 / 2 + 1 / 3 + 1 / 2) / 4)


@bounded
@given(st.lists(st.tuples(st.integers(1, 3), st.booleans()), min_size=1, max_size=6))
def test_ties_have_the_mean_area_of_all_their_orders(rows: list[tuple[int, bool]]):
    sure, hits = torch.tensor([float(a) for a, _ in rows]), torch.tensor([float(b) for _, b in rows])
    areas = []
    for order in permutations(range(len(rows))):
        if all(sure[a] >= sure[b] for a, b in zip(order, order[1:], strict=False)):
            errors = 1 - hits[list(order)].double()
            areas.append((errors.cumsum(0) / torch.arange(1, len(rows) + 1)).mean())
    torch.testing.assert_close(aurc(sure, hits), torch.stack(areas).mean())


def test_confidence_that_tells_right_from_wrong_lowers_the_area():
    found = told(*calibrated(500))
    assert found[AURC].reference["best order"] < found[AURC].value < found[AURC].reference["random order"] and found[AURC].verdict == "ok"


def test_a_few_wrong_answers_are_too_few_to_say_whether_the_model_is_less_sure_of_them():
    target = torch.zeros(200, dtype=torch.long)
    answers = torch.tensor([[0.9, 0.1]]).repeat(200, 1)
    answers[:3] = torch.tensor([0.4, 0.6])
    found = told(answers.log(), target)
    assert found[AURC].verdict == "ok" and "3 of the answers are wrong, too few to say" in found[AURC].reason


def test_where_all_is_right_all_figures_are_there():
    target = torch.arange(21) % 3
    answers = torch.nn.functional.one_hot(target, 3).float().mul(9).log_softmax(-1)
    found = told(answers, target)
    assert found[ACCURACY].value == 1 and found[AURC].value == 0 and found[ECE].value < 0.01
    assert {m.verdict for m in found.values()} == {"ok"} and "no answer is wrong" in found[AURC].reason
    limit = temperature_measure((answers, target), OF)
    assert limit.value == pytest.approx(0.05, rel=0.01) and "at the limit" in limit.reason


def test_a_class_of_no_probability_spoils_no_figure():
    answers = torch.tensor([[0.0, -math.inf], [-math.inf, 0.0]]).repeat(10, 1)
    found = told(answers, torch.tensor([0, 1]).repeat(10))
    assert found[NLL].value == 0 and found[ECE].value == 0
    answers, target = calibrated(200)
    with_impossible = torch.cat([2 * answers, torch.full((200, 1), -math.inf)], 1).log_softmax(-1)
    assert fit_temperature(with_impossible, target) == pytest.approx(fit_temperature(2 * answers, target), rel=1e-4)


def test_a_class_that_is_never_seen_is_mentioned():
    answers, target = calibrated(100)
    kept = target != 4
    found = told(answers[kept], target[kept])
    assert "1 of 5 classes are never asked for" in found[ACCURACY].reason and found[ACCURACY].reference["chance"] == 0.2


def test_one_class_one_row_and_no_row():
    answers, _ = calibrated(30)
    found = told(answers, torch.zeros(30, dtype=torch.long))
    assert "all rows are of one class" in found[ACCURACY].reason and "all rows are of one class" in found[NLL].reason
    one = told(answers[:1], torch.tensor([0]))
    assert all(m.interval is None and "1 row is too few" in m.reason and m.verdict == "ok" for m in one.values())
    none = told(answers[:0], torch.zeros(0, dtype=torch.long))
    assert {m.verdict for m in none.values()} == {"not applicable"}
    with pytest.raises(ValueError, match="there are none"):
        fit_temperature(answers[:0], torch.zeros(0, dtype=torch.long))


def test_a_temperature_needs_a_validation_set():
    assert temperature_measure(None, OF).verdict == "not applicable"
    answers, target = calibrated(400)
    found = temperature_measure(((3 * answers).log_softmax(-1), target), OF)
    assert found.interval[0] < found.value < found.interval[1] and found.interval[0] > 1 and "too sure" in found.reason and found.n == 400
    cold = temperature_measure((scaled(answers, 3.0), target), OF)
    assert cold.value < 0.6 and "not sure enough" in cold.reason
    assert "may stay as they are" in temperature_measure((answers, target), OF).reason
    assert "too few" in temperature_measure((answers[:5], target[:5]), OF).reason


@pytest.mark.parametrize("label", [-1, 5])
def test_validation_rows_of_no_class_that_the_model_knows_are_left_aside(label):
    answers, target = calibrated(400)
    strange = torch.cat([target, torch.full((3,), label)])
    found = temperature_measure((torch.cat([answers, answers[:3]]), strange), OF)
    plain = temperature_measure((answers, target), OF)
    assert found.value == plain.value and found.n == 400
    assert found.reason == f"{plain.reason}; 3 of 403 validation rows have no class that the model knows (0 to 4), and are left aside"
    none = temperature_measure((answers[:3], strange[-3:]), OF)
    assert none.verdict == "not applicable" and "3 of 3 validation rows have no class" in none.reason


def test_figures_have_the_price_of_the_answers_that_they_are_made_of():
    asked, some = a_world()
    found = coalitions(asked, some)
    said = diagnose_predictions({"toy": found}, {"toy": (found.full, found.target)}, price=Price(7.0, 0.5))
    assert {m.price for m in said.measures if m.name != TEMPERATURE} == {found.price} and found.price.passes >= 4
    assert {m.price for m in said.measures if m.name == TEMPERATURE} == {Price(7.0, 0.5)}


def test_predictions_are_judged_as_they_are_and_told_for_each_set():
    """With `a` alone the model is sure of the wrong class in half of the rows; that is told, and is no fault of the answers to whole rows."""

    def rash(said: dict[str, Tensor]) -> Tensor:
        known = said["b"].amax(1, keepdim=True) > 0.5
        return torch.where(known, xor(said), 4 * said["a"])

    found = coalitions(subject("ab", rash), xor_world()[1])
    said = diagnose_predictions({"toy": found})
    assert said.key == "prediction" and said.title == "Inaccurate predictions" and said.verdict == "ok"
    assert said.sentence.startswith("In toy, 100 % of 44 answers are right (50 % for always the commonest class), and the model is 100 % sure")
    assert "With a and nothing else it is 98 % sure and 50 % right." in said.sentence
    by_set = {m.of.get("modality"): m for m in said.measures if m.name == ECE}
    assert set(by_set) == {None, "a", "b"} and by_set["a"].verdict == "warning"
    assert [m for m in said.measures if m.name == TEMPERATURE][0].verdict == "not applicable"


def test_a_validation_set_gives_every_figure_after_the_temperature():
    asked, some = a_world()
    found = coalitions(asked, some)
    said = diagnose_predictions({"toy": found}, {"toy": (found.full, found.target)})
    with_after = [m for m in said.measures if "after temperature" in m.reference]
    assert {m.name for m in with_after} == {NLL, ECE, ADAPTIVE, BRIER, AURC} and {m.of.get("modality") for m in with_after} == {None, "a", "b"}


def test_rows_that_come_with_other_modalities_are_told_apart():
    asked, some = a_world()
    rows = [row if place % 4 else {key: value for key, value in row.items() if key != "b"} for place, row in enumerate(some.rows)]
    said = diagnose_predictions({"toy": coalitions(asked, examples(rows, "ab"))})
    counts = {m.of.get("modality"): m.n for m in said.measures if m.name == ACCURACY}
    assert counts == {None: 44, "a": 44, "b": 33, "a+b": 33}
    names = "abcdefg"
    many = rows_of([(bit,) * 7 for bit in (0, 1)] * 10, names, lambda *said: said[0])
    many = [row if place % 5 else {"a": row["a"], "target": row["target"]} for place, row in enumerate(many)]
    said = diagnose_predictions({"toy": coalitions(subject(names, vote), examples(many, names))})
    assert {m.of.get("modality"): m.n for m in said.measures if m.name == ACCURACY} == {None: 20, "a": 4, "a+b+c+d+e+f+g": 16}


def test_what_has_no_labels_is_not_applicable():
    asked, some = a_world()
    bare = replace(some, rows=tuple({key: value for key, value in row.items() if key != "target"} for row in some.rows))
    said = diagnose_predictions({"toy": coalitions(asked, bare)})
    assert said.verdict == "not applicable" and "no `target`" in said.sentence and {m.value for m in said.measures} == {None}


def test_one_modality_has_its_predictions_judged_all_the_same():
    found = coalitions(subject("ab", vote), examples(rows_of([(0,), (1,)] * 7, "a", lambda a: a), "ab"))
    said = diagnose_predictions({"toy": found})
    assert said.verdict == "ok" and {m.of.get("modality") for m in said.measures} == {None}


def test_few_rows_are_said_to_be_few():
    asked, some = a_world()
    with without_shape_checks():
        said = diagnose_predictions({"toy": coalitions(asked, some.first(3))})
    assert "3 rows are too few" in said.sentence
