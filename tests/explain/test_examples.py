"""Examples: rows taken out of batches and put together again are the rows that they were, with anything taken away or exchanged."""

import pytest
import torch
from builders import CLASSES, NAMES, compact_batch, presence_table, raw_entries, small_perceiver, whole_batch
from test_faithfulness import WIDTH, Vectors
from torch import nn

from perceiver.explain.attention.combination import partners
from perceiver.explain.examples import answers, gather, joined
from perceiver.explain.padding import grown, largest
from perceiver.explain.pieces import attendable, keeping, tokens_of
from perceiver.explain.subject import Subject
from perceiver.models import MeanPool
from perceiver.rest import at_rest
from perceiver.tasks import Classification

TABLE = presence_table([7, 2, 5, 4, 3])
TARGET = torch.tensor([0, 6, 2, 1, 5])


def subject() -> Subject:
    return Subject(Classification(small_perceiver(), CLASSES).eval())


@pytest.mark.parametrize("form", ["whole", "compact"])
@pytest.mark.parametrize("size", [2, 5])
def test_rows_put_together_again_answer_as_they_did(form, size):
    entries, asked = raw_entries(), subject()
    batch = (whole_batch(entries, TABLE, junk=float("nan")) if form == "whole" else compact_batch(entries, TABLE)) | {"target": TARGET}
    examples = gather(asked, [batch], 5, batch_size=size)["data"]
    with torch.no_grad():
        torch.testing.assert_close(answers(asked, examples), asked.scores(batch))
    assert examples.target.tolist() == TARGET.tolist()
    for name, column in zip(NAMES, TABLE.T, strict=True):
        assert examples.has(name).tolist() == column.tolist()


def test_with_some_modalities_and_no_other_a_row_answers_as_if_it_never_had_more():
    entries, asked = raw_entries(), subject()
    examples = gather(asked, [compact_batch(entries, TABLE) | {"target": TARGET}], 5)["data"]
    kept = TABLE & torch.tensor([False, True, True])
    with torch.no_grad():
        expected = asked.scores(compact_batch(entries, kept))
    torch.testing.assert_close(answers(asked, examples.only(("audio", "text"), NAMES)), expected)


def test_rows_with_nothing_at_all_are_answered_alike_and_finite():
    asked = subject()
    examples = gather(asked, [compact_batch(raw_entries(), TABLE) | {"target": TARGET}], 5, batch_size=2)["data"]
    found = answers(asked, examples.only((), NAMES))
    assert found.isfinite().all()
    torch.testing.assert_close(found, found[:1].expand_as(found))


def test_an_exchanged_modality_is_the_other_rows_and_nothing_else_changes():
    entries, asked = raw_entries(), subject()
    examples = gather(asked, [whole_batch(entries, presence_table([7] * 5)) | {"target": TARGET}], 5)["data"]
    partner = [3, 0, 4, 1, 2]
    mixed = dict(entries)
    mixed["audio"], mixed["audio_length"] = entries["audio"][partner], entries["audio_length"][partner]
    with torch.no_grad():
        expected = asked.scores(whole_batch(mixed, presence_table([7] * 5)))
    torch.testing.assert_close(answers(asked, examples.exchanged("audio", partner)), expected)


def test_each_row_that_has_a_modality_gives_it_once_and_gets_another():
    examples = gather(subject(), [compact_batch(raw_entries(), TABLE) | {"target": TARGET}], 5)["data"]
    partner = partners(examples, "audio")
    have = examples.has("audio").nonzero().flatten().tolist()
    assert partner is not None and sorted(partner[row] for row in have) == have and all(partner[row] != row for row in have)
    assert partners(examples.first(1), "audio") is None


def test_masks_come_along_and_grow_with_the_batch():
    asked = subject()
    pictures = torch.rand(2, 2, 6, 15)
    mask = torch.rand(2, 6, 15) > 0.4
    batch = {"image": pictures, "image_mask": mask, "target": TARGET[:2]}
    examples = gather(asked, [batch], 2)["data"]
    with torch.no_grad():
        torch.testing.assert_close(answers(asked, examples), asked.scores(batch))


def test_rows_with_masks_of_other_sizes_are_padded_behind_the_mask():
    """Two rows are narrow and two are wide; one more has nothing."""
    asked = Subject(Classification(MeanPool({"pieces": Vectors(), "other": Vectors()}, 13, 19, CLASSES), CLASSES).eval())
    batches = [
        {"pieces": torch.randn(2, size, WIDTH), "pieces_mask": torch.rand(2, size) < 0.7, "other": torch.randn(2, 3, WIDTH), "target": TARGET[:2]}
        for size in (5, 11)
    ]
    batches[0]["pieces_mask"][:, 0] = batches[1]["pieces_mask"][:, 0] = True
    examples = gather(asked, batches, 4)["data"]
    joint, count = next(examples.batches())
    assert count == 4 and joint["pieces"].shape == (4, 11, WIDTH) and joint["pieces_mask"].shape == (4, 11) and "pieces_length" not in joint
    assert not joint["pieces_mask"][:2, 5:].any() and not joint["pieces"][:2, 5:].any()
    with torch.no_grad():
        torch.testing.assert_close(answers(asked, examples), torch.cat([asked.scores(batch) for batch in batches]))
        found = answers(asked, examples.only(("other",), ("pieces", "other")))
    assert found.isfinite().all()
    empty = [{"target": TARGET[0]}, *examples.rows]
    batch = joined(empty, examples.entries, examples.ragged)
    assert batch["pieces"].shape == (4, 11, WIDTH) and batch["pieces_present"].tolist() == [False] + [True] * 4


def test_the_widest_rows_make_a_batch_as_wide_as_any():
    asked = subject()
    examples = gather(asked, [compact_batch(raw_entries(), TABLE) | {"target": TARGET}], 5, batch_size=2)["data"]
    widest = next(examples.widest().batches())[0]
    for batch, _ in examples.batches():
        for name in NAMES:
            assert name not in batch or all(a >= b for a, b in zip(widest[name].shape[1:], batch[name].shape[1:], strict=True))
    assert len(examples.widest()) <= len(examples)


def test_what_is_grown_has_zeros_behind_it_along_each_axis():
    values = torch.arange(1, 7).view(2, 3)
    found = grown(values, (3, 5))
    assert found.sum() == values.sum() and torch.equal(found[:2, :3], values) and largest([values, found.T]) == [5, 3]


def test_rows_are_drawn_from_all_that_come_by_and_those_that_do_not_count_are_left_out():
    asked = subject()
    batches = []
    for number in range(6):
        rows = whole_batch(raw_entries(), presence_table([7] * 5)) | {"target": torch.full((5,), number)}
        rows["target_mask"] = torch.tensor([True, True, False, True, True])
        batches.append(rows)
    found = gather(asked, batches, 12)["data"]
    assert len(found) == 12 and len(set(found.target.tolist())) > 3
    assert len(gather(asked, batches, 100)["data"]) == 24


def test_an_endless_loader_is_left_when_enough_has_come_by():
    def endless():
        while True:
            yield whole_batch(raw_entries(), presence_table([7] * 5)) | {"target": TARGET}

    assert len(gather(subject(), endless(), 2)["data"]) == 2


def test_a_loader_without_a_row_that_counts_and_an_unknown_dataset_are_refused():
    asked = subject()
    with pytest.raises(ValueError, match="no row that counts"):
        gather(asked, [], 5)
    batch = compact_batch(raw_entries(), TABLE) | {"target": TARGET, "dataset": torch.full((5,), 3)}
    with pytest.raises(ValueError, match="dataset 3 of a row: the model knows 1"):
        gather(asked, [batch], 5)


def test_a_token_that_may_not_be_attended_is_as_good_as_one_behind_the_mask():
    asked = subject()
    batch = whole_batch(raw_entries(), presence_table([7] * 5))
    segments, size = tokens_of(asked, batch)
    keep = {name: mask & (torch.rand(mask.shape) < 0.7) for name, mask in attendable(segments, size).items()}
    keep["text"][:] = False
    with torch.no_grad():
        with keeping(asked, keep):
            found = asked.scores(batch)
            narrowed, _ = asked.model.inputs(batch)
        assert {name: tokens.attendable(size).tolist() for name, tokens in narrowed.items()} == {name: mask.tolist() for name, mask in keep.items()}
        other = dict(batch, text=batch["text"].flip(1))  # what is hidden may be anything
        with keeping(asked, keep):
            torch.testing.assert_close(asked.scores(other), found, rtol=0, atol=0)


def test_a_model_without_inputs_or_without_scores_is_refused():
    with pytest.raises(ValueError, match="Linear has none"):
        Subject(nn.Linear(2, 3))
    with pytest.raises(ValueError, match="gives dict, and a report needs scores of classes"):
        Subject(small_perceiver(), scores=lambda batch: {"image": torch.zeros(5, 7)}).scores({})


def test_a_model_at_rest_is_afterwards_as_it_was_part_by_part():
    model = small_perceiver().train()
    model.head.eval()
    with at_rest(model):
        assert not any(part.training for part in model.modules())
    assert model.encoder.training and not model.head.training


def test_passes_are_counted_by_rows():
    asked = subject()
    batch = compact_batch(raw_entries(), TABLE)
    with asked.priced(5) as price, torch.no_grad():
        asked.scores(batch)
        asked.scores(batch)
        assert price().passes == 2
    assert (price() + price()).passes == 4
