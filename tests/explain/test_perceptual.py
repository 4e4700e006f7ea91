"""Perceptual score: what is lost when rows exchange a modality."""

from dataclasses import replace

import pytest
import torch
from hand_made import a_world, both_world, examples, first_of_two, of_a, rows_of, subject, vote, xor_world

from perceiver.explain.measure import Measure
from perceiver.explain.modalities.coalitions import coalitions
from perceiver.explain.modalities.perceptual import OF_MODEL, OF_TASK, SCORE, exchanges, measures


def scores(world, **options: int) -> dict[tuple[str, str], Measure]:
    asked, some = world
    return {(m.name, m.of.get("modality", "")): m for m in measures(asked, some, coalitions(asked, some), **options)}


def test_each_row_gets_the_modality_of_another_and_keeps_the_rest():
    some = examples([{"a": torch.tensor([float(i), 0.0]), "b": torch.tensor([float(i), 1.0]), "target": torch.tensor(i)} for i in range(13)], "ab")
    found = exchanges(some, "a", 7)
    assert len(found) == 7
    for mine in found:
        given = [int(row["a"][0]) for row in mine.rows]
        assert sorted(given) == list(range(13)) and all(i != got for i, got in enumerate(given))
        assert [int(row["b"][0]) for row in mine.rows] == [int(row["target"]) for row in mine.rows] == list(range(13))
    assert len({tuple(int(row["a"][0]) for row in mine.rows) for mine in found}) == 7


def test_what_the_answer_rests_on_is_half_of_all_above_chance():
    """Another row's bit is the same in half of the rows, so all that is above chance is lost."""
    found = scores(a_world(times=31), permutations=20)
    assert found[SCORE, "a"].value == pytest.approx(0.5, abs=0.03) and found[SCORE, "a"].verdict == "ok"
    assert found[OF_MODEL, "a"].value == pytest.approx(0.5, abs=0.03) and found[OF_TASK, "a"].value == pytest.approx(1, abs=0.06)
    low, high = found[SCORE, "a"].interval
    assert 0.4 < low < found[SCORE, "a"].value < high < 0.6
    assert found[SCORE, "a"].price.passes == 20
    assert found[SCORE, "a"].reference["shuffled label"] == pytest.approx(0, abs=1e-9)


def test_relative_scores_are_shares_of_the_accuracy_and_of_what_is_above_the_commonest_class():
    found = scores((subject("ab", of_a), examples(rows_of([(0, 0), (0, 1), (0, 1), (1, 0)] * 8, "ab", lambda a, b: a), "ab")))
    lost = found[SCORE, "a"].value
    assert lost > 0.2 and found[SCORE, "a"].reference["majority"] == 0.75
    assert found[OF_MODEL, "a"].value == pytest.approx(lost) and found[OF_TASK, "a"].value == pytest.approx(lost / 0.25)


def test_what_says_nothing_costs_nothing_and_is_warned_of():
    found = scores(a_world())
    assert found[SCORE, "b"].value == 0 and found[SCORE, "b"].verdict == "warning" and "serves as well" in found[SCORE, "b"].reason


def test_both_halves_of_an_exclusive_or_cost_all():
    found = scores(xor_world(times=31), permutations=20)
    for name in "ab":
        assert found[SCORE, name].value == pytest.approx(0.5, abs=0.03)


def test_three_that_say_the_same_score_nothing_and_are_worth_something():
    """The pitfall: the other two outvote the one that was exchanged. The verdict says so."""
    found = scores(both_world(model=vote, names="abc"))
    for name in "abc":
        one = found[SCORE, name]
        assert one.value == 0 and one.verdict == "ok" and "worth 17 points as a Shapley value: the others say the same" in one.reason


def test_of_two_that_say_the_same_the_one_that_is_believed_has_the_score():
    """Two cannot both score nothing: where they differ, at most one can be followed."""
    found = scores(both_world(model=first_of_two), permutations=20)
    assert found[SCORE, "a"].value > 0.45 and found[SCORE, "b"].value == 0
    assert "the others say the same" in found[SCORE, "b"].reason


def test_only_rows_that_have_the_modality_exchange_it():
    asked, some = a_world(times=31)
    rows = [row if place % 3 else {key: value for key, value in row.items() if key != "a"} for place, row in enumerate(some.rows)]
    some = examples(rows, "ab")
    found = {(m.name, m.of["modality"]): m for m in measures(asked, some, coalitions(asked, some))}
    one = found[SCORE, "a"]
    assert one.n == sum("a" in row for row in rows) and one.reference["accuracy"] == 1 and one.value > 0.4


def test_labels_that_come_in_order_make_no_difference():
    asked, some = a_world(times=31)
    ordered = replace(some, rows=tuple(sorted(some.rows, key=lambda row: int(row["target"]))))
    assert scores((asked, ordered), permutations=20)[SCORE, "a"].value == pytest.approx(0.5, abs=0.03)


def test_a_modality_that_one_row_has_cannot_be_exchanged():
    rows = rows_of([(0, 0), (1, 1)] * 6, "ab", lambda a, b: a)
    rows = [row if place == 0 else {key: value for key, value in row.items() if key != "b"} for place, row in enumerate(rows)]
    found = scores((subject("ab", vote), examples(rows, "ab")))
    assert found[SCORE, "b"].verdict == "not applicable" and "only one row has b" in found[SCORE, "b"].reason
    assert found[SCORE, "a"].value > 0


def test_where_there_is_nothing_to_lose_or_win_relative_scores_say_so():
    def wrong(said: dict[str, torch.Tensor]) -> torch.Tensor:
        return -vote(said)

    never = scores(both_world(model=wrong))
    assert never[OF_MODEL, "a"].verdict == "not applicable" and "no answer is right" in never[OF_MODEL, "a"].reason
    one_class = scores((subject("ab", vote), examples(rows_of([(0, 0)] * 13, "ab", lambda a, b: 0), "ab")))
    assert one_class[OF_TASK, "a"].verdict == "not applicable" and "all rows are of one class" in one_class[OF_TASK, "a"].reason


def test_few_rows_have_no_interval_and_few_permutations_are_refused():
    asked, some = xor_world()
    assert "too few" in scores((asked, some.first(4)))[SCORE, "a"].reason
    with pytest.raises(ValueError, match="permutations=4"):
        scores((asked, some), permutations=4)


def test_one_modality_is_not_applicable():
    found = scores((subject("ab", vote), examples(rows_of([(0,), (1,)] * 7, "a", lambda a: a), "ab")))
    assert {m.verdict for m in found.values()} == {"not applicable"} and {name for name, _ in found} == {SCORE, OF_MODEL, OF_TASK}
