"""Interaction: a model that only adds up is found to be one, and one that combines is not."""

from dataclasses import replace
from itertools import product

import pytest
import torch
from hand_made import a_world, both_world, every_pair, examples, rows_of, subject, vote, xor, xor_world
from torch import Tensor, nn

from perceiver.explain import simplification
from perceiver.explain.measure import Measure
from perceiver.explain.modalities import interaction
from perceiver.explain.modalities.coalitions import coalitions
from perceiver.explain.modalities.interaction import GAP, LIKELIHOOD_GAP, additive, centred, measures, pairings, projection


def gaps(world, **options: int) -> dict[str, Measure]:
    asked, some = world
    return {m.name: m for m in measures(asked, some, coalitions(asked, some), **options)}


def random_rows(rows: int, names: str, width: int = 3) -> list[dict[str, Tensor]]:
    return [{name: torch.randn(width) for name in names} | {"target": torch.tensor(i % width)} for i in range(rows)]


@pytest.mark.parametrize("names", ["ab", "abc"])
@pytest.mark.parametrize("rows", [3, 29])
def test_an_additive_model_is_its_own_projection_whatever_was_drawn(names: str, rows: int):
    maps = {name: nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 3)) for name in names}

    def adds_up(said: dict[str, Tensor]) -> Tensor:
        return sum((maps[name](said[name]) for name in names), start=torch.zeros(()))

    asked, some = subject(names, adds_up, width=3), examples(random_rows(rows, names), names)
    whole = centred(coalitions(asked, some).full)
    assert (projection(asked, some, list(names), 20) - whole).abs().max() < 1e-5
    assert whole.abs().max() > 0.1


def test_two_modalities_in_all_pairings_are_the_published_formula():
    rows, network = 7, nn.Sequential(nn.Linear(6, 11), nn.Tanh(), nn.Linear(11, 3))

    def mixes(said: dict[str, Tensor]) -> Tensor:
        return network(torch.cat([said["a"], said["b"]], 1))

    some = random_rows(rows, "ab")
    f = torch.stack([torch.stack([mixes({"a": x["a"][None], "b": y["b"][None]})[0] for y in some]) for x in some]).detach()
    f = centred(f.log_softmax(-1))
    formula = f.mean(1) + f.mean(0) - f.mean((0, 1))
    asked, mine = subject("ab", mixes, width=3), examples(some, "ab")
    coalitions(asked, mine)
    found = projection(asked, mine, ["a", "b"], 10)
    torch.testing.assert_close(found, formula, atol=1e-5, rtol=0)
    assert (found - torch.stack([f[i, i] for i in range(rows)])).abs().max() > 1e-3


def test_three_modalities_in_all_pairings_are_the_formula_too():
    rows, modalities = 3, 3
    scores = torch.randn(rows, rows, rows, 5, dtype=torch.double)
    pairing = pairings(modalities, rows, 20)
    assert pairing.shape == (9, 3, 3)
    given = torch.stack([torch.stack([scores[tuple(places[:, i])] for i in range(rows)]) for places in pairing])
    means = [scores.mean([axis for axis in range(3) if axis != m]) for m in range(3)]
    torch.testing.assert_close(additive(given, pairing), sum(means) - 2 * scores.mean((0, 1, 2)))


def test_every_modality_of_every_row_occurs_equally_often():
    for modalities, rows, shuffles in product((2, 3, 5), (2, 13), (10, 17)):
        pairing = pairings(modalities, rows, shuffles)
        assert torch.equal(pairing[:, 0], torch.arange(rows).expand(len(pairing), -1))
        for places in pairing.flatten(0, 1):
            assert sorted(places.tolist()) == list(range(rows))
        assert len(pairing) == (rows ** (modalities - 1) if rows ** (modalities - 1) <= shuffles else shuffles)


def test_a_constant_for_each_row_is_no_interaction():
    scores = torch.randn(5, 7)
    torch.testing.assert_close(centred(scores), centred(scores + torch.randn(5, 1)), atol=1e-6, rtol=0)


def test_exclusive_or_falls_to_chance_when_it_may_only_add_up():
    found = gaps(xor_world(times=5), shuffles=20)
    assert found[GAP].reference["the model itself"] == 1 and found[GAP].reference["its additive projection"] == 0.5
    assert found[GAP].value == 0.5 and found[GAP].verdict == "ok" and "the model combines them" in found[GAP].reason
    assert found[LIKELIHOOD_GAP].value > 0.5
    assert found[GAP].price.passes == 20 and "20 rows are few" in found[GAP].reason


def test_drawn_pairings_find_it_too():
    found = gaps(xor_world(times=31))
    assert found[GAP].value == pytest.approx(0.5, abs=0.1) and found[GAP].n == 124 and found[GAP].price.passes == 20


@pytest.mark.parametrize("world", [a_world(times=31), both_world(times=31, model=vote, names="abc")])
def test_what_needs_no_interaction_only_adds_up(world):
    found = gaps(world)
    assert found[GAP].value == 0 and found[GAP].verdict == "warning" and "only adds up what each modality says" in found[GAP].reason


def test_interactions_that_make_answers_worse_are_said_to():
    """How much class 1 is ahead: -20 for (0, 0), -4 for (1, 1), 8 for the others. Added up, that is -10 for (0, 0) and 6 for (1, 1)."""

    def spoils(said: dict[str, Tensor]) -> Tensor:
        a, b = said["a"].argmax(1), said["b"].argmax(1)
        ahead = torch.where(a != b, 8.0, torch.where(a == 1, -4.0, -20.0))
        return torch.stack([torch.zeros_like(ahead), ahead], 1)

    rows = rows_of([(bit, bit) for bit in (0, 1)] * 10, "ab", lambda a, b: a)
    found = gaps((subject("ab", spoils), examples(rows, "ab")))
    assert found[GAP].value == -0.5 and found[GAP].verdict == "warning" and "had better only be added up" in found[GAP].reason


def test_where_one_modality_decides_only_gaps_that_hold_zero_are_no_fault(monkeypatch):
    """Below zero, interactions make answers worse, whatever decides."""

    def gap(name: str, low: float, high: float, verdict: str) -> Measure:
        return Measure(name, (low + high) / 2, 44, (low, high), {}, verdict, "so it is", {"dataset": "toy"})

    asked, some = a_world()
    found = coalitions(asked, some)
    made = [gap("worse", -0.3, -0.1, "warning"), gap("none", -0.1, 0.1, "warning"), gap("more", 0.1, 0.3, "ok")]
    monkeypatch.setattr(interaction, "measures", lambda *_: made)
    worse, none, more = simplification._gaps(asked, some, found)
    assert (worse, more) == (made[0], made[2])
    assert none.verdict == "ok" and "a alone tells these rows apart" in none.reason
    assert "interactions make answers worse" in simplification._sentence([], [replace(worse, name=GAP)])


def test_at_most_so_many_rows_are_paired_and_only_those_alike():
    rows = rows_of(every_pair(9), "ab", lambda a, b: a ^ b)
    rows = [row if place % 4 else {key: value for key, value in row.items() if key != "b"} for place, row in enumerate(rows)]
    asked, some = subject("ab", xor), examples(rows, "ab")
    assert gaps((asked, some))[GAP].n == 27
    assert gaps((asked, some), rows=17)[GAP].n == 17


def test_where_nothing_can_be_paired_the_reason_stands():
    asked, some = xor_world()
    assert "no other to be paired with" in gaps((asked, some.first(1)))[GAP].reason
    assert "too few" in gaps((asked, some.first(5)))[GAP].reason
    apart = [{key: value for key, value in row.items() if key != "ab"[place % 2]} for place, row in enumerate(some.rows)]
    assert "no row has two modalities" in gaps((asked, examples(apart, "ab")))[GAP].reason
    alone = [{key: value for key, value in row.items() if key != "b"} for row in some.rows]
    assert "one modality" in gaps((asked, examples(alone, "ab")))[GAP].reason
    own = [{**row, "a_target": row["a"]} for row in some.rows]
    assert "its own content is asked" in gaps((asked, examples(own, ("a", "b", "a_target"))))[GAP].reason
    with pytest.raises(ValueError, match="shuffles=9"):
        gaps((asked, some), shuffles=9)
