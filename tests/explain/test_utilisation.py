"""Conditional utilisation: what is lost when a modality says of each row what it says of all."""

import pytest
import torch
from builders import CLASSES, compact_batch, presence_table, raw_entries, small_perceiver
from hand_made import HandMade, a_world, both_world, examples, first_of_two, rows_of, subject, vote, xor_world
from torch import Tensor

from perceiver.explain.examples import gather
from perceiver.explain.measure import Measure
from perceiver.explain.modalities.coalitions import coalitions
from perceiver.explain.modalities.utilisation import IMBALANCE, RATE, MeanFeatures, mean_features, measures, without_news
from perceiver.explain.pieces import tokens_of
from perceiver.explain.subject import Subject
from perceiver.tokens import Tokens


def rates(world) -> dict[tuple[str, str], Measure]:
    asked, some = world
    return {(m.name, m.of.get("modality", "")): m for m in measures(asked, some, coalitions(asked, some))}


def test_features_are_averaged_place_by_place_over_what_may_be_attended():
    found = MeanFeatures()
    first, second = torch.randn(3, 5, 2), torch.randn(7, 2, 2)
    mask = torch.tensor([[True, True, True, False, False], [True, False, False, False, False], [True, True, True, True, False]])
    first[~mask] = float("nan")  # what may not be attended must not count
    found.add(Tokens(first, (5,), mask=mask))
    found.add(Tokens(second, (2,)))
    instead = found.instead(Tokens(first, (5,), mask=mask))
    expected = torch.cat([first[:, 0], second[:, 0]]).mean(0)
    torch.testing.assert_close(instead.features[1, 0], expected)
    torch.testing.assert_close(instead.features[0, 3], first[2, 3])
    assert instead.features[:, 4].abs().max() == 0 and torch.equal(instead.mask, mask)
    assert found.instead(Tokens(second, (2,))).features.shape == (7, 2, 2)


def test_a_modality_that_all_hangs_on_is_used_by_half():
    """At the mean of a bit the model is as wise as without it: half of its answers are right."""
    found = rates(a_world())
    assert found[RATE, "a"].value == pytest.approx(0.5) and found[RATE, "a"].verdict == "ok"
    assert found[RATE, "a"].reference["at the mean"] == 0.5 and found[RATE, "a"].price.passes == 1
    assert (
        found[RATE, "b"].value == 0 and found[RATE, "b"].verdict == "warning" and "mean of b over all rows serves as well" in found[RATE, "b"].reason
    )


def test_leaning_on_one_of_two_is_an_imbalance():
    lean = rates(a_world())[IMBALANCE, "a+b"]
    assert lean.value == pytest.approx(0.5) and lean.verdict == "warning" and lean.reason == "the model leans on a alone"
    asked, some = a_world()
    other = examples([{**row, "a": row["b"], "b": row["a"]} for row in some.rows], "ab")
    turned = rates((subject("ab", lambda said: said["b"]), other))[IMBALANCE, "a+b"]
    assert turned.value == pytest.approx(-0.5) and turned.reason == "the model leans on b alone"


def test_an_exclusive_or_uses_both_alike():
    found = rates(xor_world())
    assert found[RATE, "a"].value == pytest.approx(0.5) == found[RATE, "b"].value
    assert found[IMBALANCE, "a+b"].value == 0 and "does not lean" in found[IMBALANCE, "a+b"].reason


def test_what_others_repeat_is_not_used_beyond_them():
    found = rates(both_world(model=first_of_two))
    assert found[RATE, "a"].value == found[RATE, "b"].value == 0
    assert (IMBALANCE, "a+b") in found and (IMBALANCE, "a+b+c") not in rates(both_world(model=vote, names="abc"))


def test_only_rows_that_have_the_modality_count():
    asked, some = a_world()
    rows = [row if place % 4 else {key: value for key, value in row.items() if key != "a"} for place, row in enumerate(some.rows)]
    found = rates((asked, examples(rows, "ab")))
    assert found[RATE, "a"].n == 33 and found[RATE, "a"].reference["accuracy"] == 1
    assert found[IMBALANCE, "a+b"].n == 33


def test_a_model_that_reads_elsewhere_says_so():
    class Elsewhere(HandMade):
        def forward(self, batch: dict[str, Tensor]) -> Tensor:
            size = len(batch.get("a_present", batch["target"]))
            self.asked += size
            return torch.zeros(size, 2)

    found = rates((Subject(Elsewhere("ab", vote), datasets=("toy",)), a_world()[1]))
    assert found[RATE, "a"].verdict == "not applicable" and "does not read its tokens from `inputs`" in found[RATE, "a"].reason


def test_where_nothing_is_right_there_is_nothing_to_lose():
    def wrong(said: dict[str, Tensor]) -> Tensor:
        return -vote(said)

    found = rates(both_world(model=wrong))
    assert found[RATE, "a"].verdict == found[IMBALANCE, "a+b"].verdict == "not applicable"
    asked, some = a_world()
    assert "too few" in rates((asked, some.first(3)))[RATE, "a"].reason
    apart = [{key: value for key, value in row.items() if key != "ab"[place % 2]} for place, row in enumerate(some.rows)]
    assert "no row has both a and b" in rates((asked, examples(apart, "ab")))[IMBALANCE, "a+b"].reason
    alone = examples(rows_of([(0,), (1,)] * 7, "a", lambda a: a), "ab")
    assert {m.verdict for m in rates((asked, alone)).values()} == {"not applicable"}


def test_a_real_model_with_rows_that_lack_things_gives_one_answer_for_all_pictures():
    """With every modality at its mean, rows with the same presence and lengths cannot be told apart; with the model's own tokens they can."""
    model = small_perceiver().eval()
    batch = compact_batch(raw_entries(), presence_table([7, 3, 5, 1, 7])) | {"target": torch.arange(5) % CLASSES}
    asked = Subject(model)
    some = gather(asked, [batch], 5)["data"]
    mine = some.some([i for i in range(5) if "image" in some.rows[i]])
    mean = mean_features(asked, mine, "image")
    one = next(iter(mine.only({"image"}, asked.modalities).batches()))[0]
    with without_news(asked, "image", mean) as read, torch.no_grad():
        told = asked.scores(one)
    assert read == [len(mine)]
    torch.testing.assert_close(told, told[:1].expand_as(told))
    assert asked.scores(one).std(0).max() > 1e-4
    assert torch.equal(tokens_of(asked, one)[0]["image"].features, model.inputs(one)[0]["image"].features)  # nothing is left behind
