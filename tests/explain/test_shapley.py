"""What each modality is worth: known answers, properties, and worlds in which there is nothing to say."""

from dataclasses import replace
from itertools import combinations, permutations

import pytest
import torch
from builders import bounded
from hand_made import HandMade, a_world, both_world, examples, rows_of, subject, vote, xor, xor_world
from hypothesis import given
from hypothesis import strategies as st

from perceiver.explain.measure import Measure
from perceiver.explain.modalities import coalitions, diagnose_view
from perceiver.explain.modalities.perceptual import SCORE
from perceiver.explain.modalities.shapley import LIKELIHOOD, PAIR, SET, VALUE, interactions, measures, shapley
from perceiver.explain.right import right, right_when_shuffled, votes
from perceiver.explain.subject import Subject


def sets_of(names: str) -> list[frozenset[str]]:
    return [frozenset(some) for size in range(len(names) + 1) for some in combinations(names, size)]


def found_in(result: list[Measure], name: str, modality: str | None = None) -> Measure:
    (one,) = [m for m in result if m.name == name and (modality is None or m.of.get("modality") == modality)]
    return one


@bounded
@given(st.integers(1, 5), st.integers(0, 1000))
def test_values_sum_to_what_the_whole_is_better_than_nothing(players: int, seed: int):
    names = "abcde"[:players]
    generator = torch.Generator().manual_seed(seed)
    v = {some: torch.rand(7, generator=generator, dtype=torch.double) for some in sets_of(names)}
    torch.testing.assert_close(torch.stack(list(shapley(v).values())).sum(0), v[frozenset(names)] - v[frozenset()])


def test_a_player_that_adds_nothing_has_no_value_and_no_interaction():
    v = {some: torch.tensor(float("a" in some) + 3.0 * ({"a", "b"} <= some)) for some in sets_of("abc")}
    assert shapley(v)["c"] == 0
    assert interactions(v)[frozenset("ac")] == interactions(v)[frozenset("bc")] == 0
    assert interactions(v)[frozenset("ab")] == 3


def test_three_players_against_the_mean_over_all_orders():
    v = {some: torch.tensor(float(sum(map(ord, some)) ** 2 % 13)) for some in sets_of("abc")}
    orders = list(permutations("abc"))
    for player in "abc":
        gains = [v[frozenset(order[: order.index(player) + 1])] - v[frozenset(order[: order.index(player)])] for order in orders]
        torch.testing.assert_close(shapley(v)[player], torch.stack(gains).mean())


def test_a_set_without_a_value_is_named():
    v = {some: torch.tensor(1.0) for some in sets_of("ab") if some != frozenset("b")}
    with pytest.raises(ValueError, match=r"the set \['b'\] has no value, and all 4 sets of a and b"):
        shapley(v)
    with pytest.raises(ValueError, match="has no value"):
        interactions(v)


def test_a_tie_counts_its_share_and_shuffled_labels_give_what_all_orders_give_on_average():
    answers = torch.tensor([[0.5, 0.5, 0.0], [0.1, 0.2, 0.7]]).log()
    target = torch.tensor([1, 2])
    assert votes(answers).tolist() == votes(answers + torch.tensor([0.0, 1e-6, 0.0])).tolist() == [[0.5, 0.5, 0], [0, 0, 1]]
    assert right(answers, target).tolist() == [0.5, 1]
    swapped = right(answers, target.flip(0))
    torch.testing.assert_close(right_when_shuffled(answers, target).mean(), torch.stack([right(answers, target), swapped]).mean())


def test_exclusive_or_is_worth_a_quarter_each_and_needs_both():
    found = coalitions(*xor_world())
    result = measures(found)
    for name in "ab":
        value = found_in(result, VALUE, name)
        assert value.value == pytest.approx(0.25) and value.n == 44 and value.verdict == "ok"
        assert value.reference["with everything"] == 1 and value.reference["with nothing"] == 0.5 and value.reference["shuffled label"] == 0
        assert "25 points of the 50" in value.reason
        assert found_in(result, LIKELIHOOD, name).value > 0.3
    pair = found_in(result, PAIR)
    assert pair.value == pytest.approx(0.5) and "need one another" in pair.reason
    assert found_in(result, SET, "a").value == 0.5 and "with a it is not distinguishable" in found_in(result, SET, "a").reason
    assert found_in(result, SET, "a+b").value == 1 and "with a and b it is better" in found_in(result, SET, "a+b").reason


def test_a_modality_without_a_say_is_worth_nothing_and_is_told_from_a_useful_one():
    found = coalitions(*a_world())
    result = measures(found)
    assert found_in(result, VALUE, "a").value == pytest.approx(0.5)
    none = found_in(result, VALUE, "b")
    assert none.value == 0 and none.verdict == "warning" and "gets nothing from b, even alone" in none.reason
    assert "not distinguishable" in found_in(result, PAIR).reason


def test_what_a_model_trained_on_a_modality_alone_can_do_tells_greed_from_useless_data():
    found = coalitions(*a_world())
    greedy = found_in(measures(found, alone={"b": 0.9}), VALUE, "b")
    assert greedy.verdict == "warning" and greedy.reason.startswith("greedy learning: a model trained on b alone is right in 90 %")
    useless = found_in(measures(found, alone={"b": 0.55}), VALUE, "b")
    assert useless.verdict == "ok" and useless.reason.startswith("useless data")


def test_a_modality_that_the_model_could_answer_from_and_does_not_is_greedy_learning():
    """Alone, `b` is believed; beside `a` it makes as many answers wrong as it alone makes right."""
    rows = rows_of([(bit, bit) for bit in (0, 1)] * 20, "ab", lambda a, b: a)

    def spoilt(said: dict[str, torch.Tensor]) -> torch.Tensor:
        both = (said["a"].amax(1) > 0.5) & (said["b"].amax(1) > 0.5)
        return torch.where(both[:, None], 0.5, said["a"] + said["b"])

    value = found_in(measures(coalitions(subject("ab", spoilt), examples(rows, "ab"))), VALUE, "b")
    assert value.value == 0 and value.verdict == "warning" and value.reason.startswith("greedy learning: this model can answer from b alone")


def test_what_both_say_is_worth_a_quarter_each_and_said_to_be_the_same():
    result = measures(coalitions(*both_world()))
    assert [found_in(result, VALUE, name).value for name in "ab"] == [0.25, 0.25]
    assert found_in(result, PAIR).value == -0.5 and "say the same" in found_in(result, PAIR).reason


def test_a_modality_that_misleads_is_warned_of():
    def liar(said: dict[str, torch.Tensor]) -> torch.Tensor:
        return said["a"] - 2 * said["a"] * (said["b"].amax(1, keepdim=True) > 0.5)

    found = coalitions(subject("ab", liar), a_world()[1])
    value = found_in(measures(found), VALUE, "b")
    assert value.value < 0 and value.verdict == "warning" and "worse with b" in value.reason


def test_each_row_is_asked_once_for_each_set_that_it_has():
    """Rows that lack a modality answer a set with it as without it, and cost nothing."""
    asked, some = xor_world()
    rows = [{key: value for key, value in row.items() if key != "b" or place % 3} for place, row in enumerate(some.rows)]
    asked.learn_classes(next(iter(some.batches()))[0])
    asked.model.asked = 0
    found = coalitions(asked, examples(rows, "ab"))
    have = sum("b" in row for row in rows)
    spare = 1  # beside rows with nothing
    assert asked.model.asked == (44 + spare) + 44 + (have + 0) + have
    assert found.price.passes == pytest.approx(asked.model.asked / 44, abs=0.01)
    lack = ~found.present["b"]
    assert torch.equal(found.log_probabilities[frozenset("ab")][lack], found.log_probabilities[frozenset("a")][lack])
    assert torch.equal(found.log_probabilities[frozenset("b")][lack], found.log_probabilities[frozenset()][lack])
    value = shapley(found.values())
    assert (value["b"][lack] == 0).all() and (value["b"][~lack] != 0).any()


def test_rows_without_labels_or_classes_say_so():
    asked, some = xor_world()
    bare = replace(some, rows=tuple({key: value for key, value in row.items() if key != "target"} for row in some.rows))
    assert "no `target`" in coalitions(asked, bare).obstacle
    assert "no rows" in coalitions(asked, some.first(0)).obstacle
    wrong = replace(some, rows=(*some.rows, {**some.rows[0], "target": torch.tensor(5)}))
    assert "class 5" in coalitions(asked, wrong).obstacle and "0 to 1" in coalitions(asked, wrong).obstacle

    class Flow(HandMade):
        class_counts = {"toy": 0}

    other = coalitions(Subject(Flow("ab", xor), datasets=("toy",)), some)
    assert "toy has no classes" in other.obstacle
    for measure in measures(other):
        assert measure.value is None and measure.verdict == "not applicable" and measure.reason == other.obstacle


def test_one_modality_has_nobody_to_share_with_and_still_answers():
    asked = subject("ab", vote)
    found = coalitions(asked, examples(rows_of([(0,), (1,)] * 7, "a", lambda a: a), "ab"))
    assert "one modality that the model reads, a" in found.obstacle and found.full.shape == (14, 2)
    assert {measure.verdict for measure in measures(found)} == {"not applicable"}


def test_seven_modalities_are_too_many():
    names = "abcdefg"
    found = coalitions(subject(names, vote), examples(rows_of([(bit,) * 7 for bit in (0, 1)] * 5, names, lambda *said: said[0]), names))
    assert "7 modalities make 128 sets" in found.obstacle and list(found.log_probabilities) == [frozenset(names)]


def test_a_modality_that_is_itself_asked_for_stays_in_every_set():
    asked, some = both_world(model=vote, names="abc")
    rows = [{**row, "a_target": row["a"]} for row in some.rows]
    found = coalitions(asked, replace(some, rows=tuple(rows), entries=("a", "b", "c", "a_target")))
    assert found.players == ("b", "c") and found.kept == ("a",)
    assert right(found.log_probabilities[frozenset()], found.target).mean() == 1  # from `a`, which is still there
    last = measures(found)[-1]
    assert last.of["modality"] == "a" and last.verdict == "not applicable" and "content of a itself" in last.reason


def test_too_few_rows_have_a_value_and_no_interval():
    asked, some = xor_world()
    result = measures(coalitions(asked, some.first(1)))
    value = found_in(result, VALUE, "a")
    assert value.value is not None and value.interval is None and value.n == 1 and "1 row is too few" in value.reason


def test_a_class_that_is_never_seen_changes_nothing():
    def three(said: dict[str, torch.Tensor]) -> torch.Tensor:
        return torch.cat([xor(said), torch.full((len(said["a"]), 1), -9.0)], 1)

    result = measures(coalitions(subject("ab", three), xor_world()[1]))
    assert found_in(result, VALUE, "a").value == pytest.approx(0.25)
    assert found_in(result, SET, "a+b").reference["chance"] == pytest.approx(1 / 3)


def test_a_modality_that_helps_by_merely_being_there_is_not_said_to_tell_anything():
    """With anything at all the model says 1, which most rows are, and without, 0."""

    def presence(said: dict[str, torch.Tensor]) -> torch.Tensor:
        there = torch.stack(list(said.values())).amax((0, 2)) > 0.5
        return 4 * torch.stack([~there, there], 1).float()

    asked, some = subject("ab", presence), examples(rows_of([(0, 0), (1, 0), (0, 1)] * 31, "ab", lambda a, b: a | b), "ab")
    result = measures(coalitions(asked, some))
    for name in "ab":
        value = found_in(result, VALUE, name)
        assert value.value == pytest.approx(1 / 6) == value.reference["shuffled label"]
        assert value.verdict == "warning" and "only by being there" in value.reason
    view = diagnose_view(asked, {"toy": some})
    assert "a is worth 17 by merely being there of the 33 points" in view.sentence and "Yet" not in view.sentence
    assert found_in(list(view.measures), SCORE, "a").verdict == "warning"


def test_what_the_model_does_not_read_is_no_company_for_a_row_with_nothing():
    """A batch of rows without anything that the model reads is refused, whatever else they hold, so that one which has something must stand by."""
    rows = [row | {"depth": torch.ones(3)} for row in xor_world()[1].rows]
    found = coalitions(subject("ab", xor), examples(rows, ("a", "b", "depth")))
    assert found.log_probabilities[frozenset()].std(0).max() == 0 and found.players == ("a", "b")


def test_the_view_is_told_in_one_sentence():
    asked, some = a_world()
    view = diagnose_view(asked, {"toy": some})
    assert view.key == "view" and view.verdict == "warning"
    assert (
        view.sentence == "In toy, a is worth 50 of the 50 points that answers are better than with nothing given; b nothing that can be told from 0."
    )
    assert len({(m.name, m.of.get("modality")) for m in view.measures}) == len(view.measures)


def test_a_view_of_what_says_the_same_says_so():
    asked, some = both_world(model=vote, names="abc")
    view = diagnose_view(asked, {"toy": some})
    assert "Yet a, b and c of another row would serve as well: the others say the same, or all these rows need the same of it." in view.sentence


def test_a_view_of_one_modality_is_not_applicable():
    asked = subject("ab", vote)
    view = diagnose_view(asked, {"toy": examples(rows_of([(0,), (1,)] * 7, "a", lambda a: a), "ab")})
    assert view.verdict == "not applicable" and view.sentence.startswith("Not applicable: rows of toy have one modality")
