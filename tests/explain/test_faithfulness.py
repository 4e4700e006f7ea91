"""Explanations against random order: a planted token must be found, and a way that knows nothing must not pass."""

from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from perceiver import Adapter, CrossBlock, Decoder, Encoder, LearnedQueries, PerceiverIO, SelfBlock, Tokens
from perceiver.explain.examples import Examples, gather
from perceiver.explain.faithfulness import diagnosis
from perceiver.explain.faithfulness.diagnosis import Outcome, Trial, diagnose, kinds_for, permutation, why_not
from perceiver.explain.faithfulness.explanations import Explanation
from perceiver.explain.faithfulness.removal import FRACTIONS, Curves, area, ranks
from perceiver.explain.subject import Subject

PIECES, WIDTH, CLASSES, ROWS = 13, 11, 3, 60


class Vectors(Adapter):
    """A token a vector, without a place."""

    def __init__(self) -> None:
        super().__init__()
        self.feature_dim, self.position_dim = WIDTH, 0

    def forward(self, payload: torch.Tensor, mask: torch.Tensor | None = None) -> Tokens:
        return Tokens(payload, (payload.shape[1],), mask=mask)


def planted(rows: int, seed: int) -> dict[str, torch.Tensor]:
    """Noise, and in one piece of each row a mark and the class: nothing else tells it."""
    draw = torch.Generator().manual_seed(seed)
    pieces = 0.3 * torch.randn(rows, PIECES, WIDTH, generator=draw)
    place, target = torch.randint(PIECES, (rows,), generator=draw), torch.randint(CLASSES, (rows,), generator=draw)
    pieces[torch.arange(rows), place, 0] = 2.0
    pieces[torch.arange(rows), place, 1:4] = 2.0 * F.one_hot(target, CLASSES).float()
    return {"pieces": pieces, "target": target, "place": place}


@pytest.fixture(scope="module")
def subject() -> Subject:
    """A small Perceiver that has learned it."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        encoder = Encoder(
            3,
            16,
            12,
            cross_attend=(0, 1),
            self_attend=(0, 0),
            num_layers=1,
            cross_block=partial(CrossBlock, heads=2),
            self_block=partial(SelfBlock, heads=2),
        )
        model = PerceiverIO({"pieces": Vectors()}, encoder, LearnedQueries(1, 13), Decoder(13, 16), nn.Linear(13, CLASSES))
        optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
        for step in range(250):
            batch = planted(64, 1000 + step)
            if step % 2:  # pieces are taken away in the test, so they are in training
                batch["pieces_mask"] = torch.rand(64, PIECES) < 0.6
            loss = F.cross_entropy(model(batch)[:, 0], batch["target"])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    found = Subject(model.eval())
    found.learn_classes(planted(2, 0))
    return found


@pytest.fixture(scope="module")
def examples(subject: Subject) -> Examples:
    return gather(subject, [planted(ROWS, 7)], ROWS)["data"]


def test_the_planted_piece_is_found_by_each_explanation_that_is_shipped(subject, examples):
    kinds = kinds_for(subject, examples)
    assert [kind.name for kind in kinds] == ["attention 1", "attention 2", "rollout", "value norm", "gradient x attention", "integrated gradients"]
    random, found = diagnosis.tested(subject, examples, kinds)
    for kind in kinds:
        better = (found[kind.name].comprehensiveness > random.comprehensiveness).sum()
        assert int(better) >= 40, kind.name  # of 60 rows: p < 0.01 by the sign test, if it were chance
        assert why_not(found[kind.name].gain(random)) == "", kind.name
        batch, _ = next(examples.batches())
        relevance = kind.explain(subject, batch, subject.scores(batch).argmax(1))["pieces"]
        first = relevance.argmax(1) == torch.stack([row["place"] for row in examples.rows])
        assert float(first.float().mean()) > 0.4, kind.name  # 1 in 13 by chance


def test_marks_at_random_and_marks_of_the_least_relevant_do_not_pass(subject, examples):
    draw = torch.Generator().manual_seed(3)
    noise = Explanation("noise", "Noise", lambda s, batch, chosen: {"pieces": torch.rand(batch["pieces"].shape[:2], generator=draw)})
    least = Explanation("least", "Least", lambda s, batch, chosen: {"pieces": -batch["pieces"][..., 0]})
    best = Explanation("best", "Best", lambda s, batch, chosen: {"pieces": batch["pieces"][..., 0]})
    random, found = diagnosis.tested(subject, examples, [noise, least, best])
    assert "no better than pieces taken at random" in why_not(found["noise"].gain(random))
    assert "no better than pieces taken at random" in why_not(found["least"].gain(random))
    assert why_not(found["best"].gain(random)) == ""


def test_a_diagnosis_says_which_explanations_pass_and_leaves_out_none(subject, examples, monkeypatch):
    noise = Explanation("noise", "Noise", lambda s, batch, chosen: {"pieces": torch.zeros(batch["pieces"].shape[:2])})
    monkeypatch.setattr(diagnosis, "kinds_for", lambda s, e: [noise, kinds_for(s, e)[0]])
    found, trials = diagnose(subject, {"data": examples})
    assert found.verdict == "warning" and "Noise" in found.sentence
    assert trials["noise"].reasons["data"] and not trials["attention 1"].reasons["data"]
    names = {measure.name for measure in found.measures}
    assert names == {"comprehensiveness", "sufficiency", "deletion", "insertion", "attention permutation"}
    for measure in found.measures:
        assert measure.interval is not None and measure.interval[0] <= (measure.value or 0) <= measure.interval[1]
        assert measure.n == ROWS and measure.price.passes > 0


def test_attention_that_is_dealt_out_anew_moves_the_answers_of_a_model_that_needs_it(subject, examples):
    assert (permutation(subject, examples).value or 0) > 0.3


def test_too_few_rows_cannot_be_told_from_random_order(subject, examples):
    found, trials = diagnose(subject, {"data": examples.first(4)})
    assert all("4 rows are too few" in trial.reasons["data"] and not trial.failed and not trial.passed for trial in trials.values())
    assert found.verdict == "ok" and {(m.verdict, "4 rows are too few to say" in m.reason) for m in found.measures} == {("ok", True)}
    assert "Rows of data are too few to tell" in found.sentence and "random, and are not shown" not in found.sentence


def test_one_dataset_with_too_few_rows_spoils_nothing_of_another():
    trial = Trial(Explanation("a", "A", lambda *_: {}), {"x": "", "y": "3 rows are too few to tell it from random order"}, {"y"})
    said = diagnosis.sentence([trial])
    assert "better than chance does: A." in said and "Rows of y are too few" in said and "not for" not in said


def test_integrated_gradients_say_how_far_they_are_from_adding_up(subject, examples, monkeypatch):
    (kind,) = [kind for kind in kinds_for(subject, examples) if kind.name == "integrated gradients"]
    monkeypatch.setattr(diagnosis, "kinds_for", lambda s, e: [kind])
    exact, _ = diagnose(subject, {"data": examples})
    (error,) = [measure for measure in exact.measures if measure.name == "completeness error"]
    assert error.verdict == "ok" and error.value < 0.01 and error.interval is not None and error.n == ROWS and error.price.passes > 100
    twice = replace(kind, explain=lambda *asked: {name: 2 * part for name, part in kind.explain(*asked).items()})
    monkeypatch.setattr(diagnosis, "kinds_for", lambda s, e: [twice])
    (error,) = [measure for measure in diagnose(subject, {"data": examples})[0].measures if measure.name == "completeness error"]
    assert error.verdict == "warning" and error.value == pytest.approx(1, abs=0.02) and "not to be relied on" in error.reason


def test_a_dataset_without_classes_has_no_explanation_to_test(subject, examples, monkeypatch):
    monkeypatch.setattr(subject, "class_count", lambda dataset: 0)
    found, trials = diagnose(subject, {"data": examples})
    assert found.verdict == "not applicable" and not trials and "no classes" in found.measures[0].reason


def test_the_order_is_by_relevance_with_what_is_not_there_last():
    order = ranks(torch.tensor([[0.1, 0.9, 0.5, 7.0]]), torch.tensor([[True, True, True, False]]))
    assert order.tolist() == [[2, 0, 1, 3]]


def test_scores_of_curves_that_are_known():
    whole = torch.tensor([0.8])
    flat = Curves(whole, whole.expand(1, len(FRACTIONS)), torch.zeros(1, len(FRACTIONS)))
    assert float(flat.comprehensiveness) == pytest.approx(0) and float(flat.deletion) == pytest.approx(0.8)
    assert float(flat.sufficiency) == pytest.approx(0.8)
    assert float(area(torch.linspace(0, 1, len(FRACTIONS) + 1)[None] * 0 + 1)) == pytest.approx(1)
    line = torch.tensor([[0.0, *FRACTIONS]])
    assert float(area(line)) == pytest.approx(0.5)


def test_the_words_of_a_trial_name_each_explanation_once():
    trials = [Trial(Explanation(name, name.title(), lambda *_: {}), reasons) for name, reasons in (("a", {"x": ""}), ("b", {"x": "bad"}))]
    said = diagnosis.sentence(trials)
    assert said.count("A") == 1 and "not shown as explanations: B" in said
    assert diagnosis.sentence([]) == "No explanation could be tested."
    partly = Trial(Explanation("c", "C", lambda *_: {}), {"x": "", "y": "bad"})
    assert "C (not for y)" in diagnosis.sentence([partly])


def test_a_gain_is_the_difference_to_random_order():
    one, other = (Outcome(*(torch.full((2,), value) for value in values)) for values in ((0.5, 0.1, 0.2, 0.9), (0.2, 0.3, 0.4, 0.6)))
    torch.testing.assert_close(one.gain(other), torch.tensor([[0.3, 0.5], [0.3, 0.5]]))
