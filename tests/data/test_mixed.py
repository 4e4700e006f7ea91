"""The datamodule of a mixture: whole batches, nothing lost, bad samples counted, lost workers named."""

import os
import signal
from functools import partial

import lightning as L
import numpy as np
import pytest
import torch
from toy_datasets import AddNoise, ToyImages, ToyRows, ToySounds, make_image, toy_mixture

from perceiver.data.augment import Augment, JitterSound, Missing, MovePicture
from perceiver.data.mixture.batches import EvalBatches, Member, TrainBatches
from perceiver.data.mixture.datamodule import MixedDataModule, Stream
from perceiver.data.mixture.loader import MixtureLoader, Steps, WorkerLost
from perceiver.data.mixture.order import Mixture


def same(a: dict, b: dict) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def test_a_batch_holds_rows_of_one_dataset_with_presence_targets_and_its_number():
    for batch in toy_mixture().train_dataloader():
        (number,) = batch["dataset"].unique().tolist()
        name = ("image", "audio", "text")[number]
        assert {key for key in ("image", "audio", "text") if key in batch} == {name}
        assert [bool(batch[f"{key}_present"].all()) for key in ("image", "audio", "text")] == [key == name for key in ("image", "audio", "text")]
        assert batch["target_mask"].all() and len(batch["target"]) == 6
        assert ("text_target" in batch) == (name == "text")


def test_rows_of_several_datasets_mix_in_one_batch_when_asked():
    batches = list(toy_mixture(rows_per_dataset=1).train_dataloader())
    assert all(len(batch["dataset"].unique()) > 1 for batch in batches)
    for batch in batches:
        for number, name in enumerate(("image", "audio", "text")):
            assert torch.equal(batch[f"{name}_present"], batch["dataset"] == number)
            assert len(batch.get(name, [])) == int((batch["dataset"] == number).sum())


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_change_nothing_random_or_not(workers):
    alone, together = toy_mixture().train_dataloader(), toy_mixture(num_workers=workers).train_dataloader()
    assert all(same(a, b) for a, b in zip(alone, together, strict=True))
    together.close()


def test_a_random_row_differs_between_passes_and_seeds_alone():
    member = Member("images", "train", ToyRows(3, make_image), [AddNoise()])
    probabilities = {"images": 1.0}

    def batch(step: int, seed: int = 5) -> dict:
        mixture = Mixture({"images": 3}, probabilities, batch_size=3, rows_per_dataset=3, seed=seed)
        found = TrainBatches([member], ["image"], [], mixture)[step]
        order = found["image"].sum((1, 2, 3)).argsort()
        return {key: value[order] for key, value in found.items()}

    assert same(batch(0), batch(0))
    assert not same(batch(0), batch(1)) and not same(batch(0), batch(0, seed=7))


def test_an_epoch_has_the_steps_that_it_was_given_and_goes_on_from_wherever_training_stands():
    done = 0
    steps = Steps(lambda: done, 7)
    assert list(steps) == list(range(7)) and len(steps) == 7
    done = 10
    assert list(steps) == [10, 11, 12, 13]
    done = 14
    assert list(steps) == list(range(14, 21))


@pytest.mark.parametrize("world_size", [1, 2, 3, 5])
def test_in_evaluation_each_row_of_each_dataset_counts_once_on_all_ranks_together(world_size):
    data = toy_mixture()
    counted, lengths = [], set()
    for rank in range(world_size):
        batches = EvalBatches(data.members("val"), data.entries, data.ragged, 13, rank=rank, world_size=world_size)
        lengths.add(len(batches))
        for item in range(len(batches)):
            counted += [pair for pair, counts in zip(batches.contents(item), batches[item]["target_mask"].tolist(), strict=True) if counts]
    assert sorted(counted) == [(number, row) for number, size in enumerate((41, 53, 29)) for row in range(size)]
    assert len(lengths) == 1


def test_evaluation_takes_turns_so_that_its_first_batches_show_all_datasets():
    first = [batch["dataset"][0].item() for batch in toy_mixture().val_dataloader()][:3]
    assert first == [0, 1, 2]


def broken(*bad: int, budget: float = 0.1) -> MixedDataModule:
    datasets = {"images": Stream(ToyImages(bad=bad))}
    return MixedDataModule(datasets, batch_size=41, steps_per_epoch=2, num_workers=0, seed=5, eval_batch_size=41, bad_samples=budget)


def test_a_sample_that_cannot_be_read_is_logged_with_its_id_and_replaced_by_the_next_that_can(caplog):
    data = broken(7, 8, 40)
    data.setup("validate")
    batch = data.on_before_batch_transfer(next(iter(data.train_dataloader())), 0)
    numbers = (batch["image"][:, 0, 0, 0] * 1000).round().int().tolist()
    assert sorted(numbers) == sorted([n for n in range(41) if n not in (7, 8, 40)] + [9, 9, 0])
    told = sorted(record.getMessage() for record in caplog.records)
    assert [message.split(" ")[0] for message in told] == ["images/row-40", "images/row-7", "images/row-8"]
    assert all("it is broken" in message for message in told)
    assert "bad_samples" not in batch and same(batch, data.on_before_batch_transfer(data.train_dataloader().batches[0], 0))
    assert len(caplog.records) == 3  # each is told once


def test_in_evaluation_a_replaced_row_counts_for_nothing():
    data = broken(7, 40)
    batch = data.on_before_batch_transfer(next(iter(data.val_dataloader())), 0)
    assert (~batch["target_mask"]).nonzero().flatten().tolist() == [7, 40]


def test_more_bad_samples_than_the_budget_stop_the_run_with_the_list():
    data = broken(7, 8, 40, 3, 4)
    with pytest.raises(ValueError, match=r"5 of 41 rows of dataset 'images' in the train split .* bad_samples=0.1 .*row-7 \(it is broken\)"):
        data.on_before_batch_transfer(next(iter(data.train_dataloader())), 0)


def test_bad_samples_are_remembered_when_a_run_is_resumed(caplog):
    data, resumed = broken(7), broken(7)
    data.on_before_batch_transfer(next(iter(data.train_dataloader())), 0)
    resumed.load_state_dict(data.state_dict())
    caplog.clear()
    resumed.on_before_batch_transfer(next(iter(resumed.train_dataloader())), 0)
    assert not caplog.records


def test_a_dataset_in_which_nothing_can_be_read_is_refused_at_once():
    with pytest.raises(ValueError, match="100 samples in a row of dataset 'images' cannot be decoded, the last one row-"):
        next(iter(MixedDataModule({"images": Stream(ToyImages(101, bad=range(101)))}, num_workers=0, seed=0).train_dataloader()))


def killed(index: int, draw: np.random.Generator) -> dict:
    os.kill(os.getpid(), signal.SIGKILL)


def hung(index: int, draw: np.random.Generator) -> dict:
    while True:
        signal.pause()


@pytest.mark.parametrize(("fate", "said"), [(killed, "exited unexpectedly|killed"), (hung, "timed out")])
def test_a_worker_that_is_killed_or_hangs_is_an_error_that_names_the_rows_and_leaves_nothing_behind(fate, said):
    batches = EvalBatches([Member("images", "train", ToyRows(5, fate))], ["image"], [], 2)
    loader = MixtureLoader(batches, range(len(batches)), num_workers=1, timeout=2.0)
    with pytest.raises(WorkerLost, match=rf"(?i)({said}).*batch 0 .* rows images/row-0, images/row-1"):
        list(loader)
    assert not any(worker.join(20) or worker.is_alive() for worker in loader.loader._iterator._workers)


def test_an_error_in_a_worker_is_that_error_and_not_a_lost_worker():
    def wrong(index: int, draw: np.random.Generator) -> dict:
        raise ValueError("the table is wrong")

    batches = EvalBatches([Member("images", "train", ToyRows(5, wrong))], ["image"], [], 2)
    with pytest.raises(ValueError, match="the table is wrong"):
        list(MixtureLoader(batches, range(len(batches)), num_workers=1, timeout=20.0))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"batch_size": 0}, "batch_size=0"),
        ({"steps_per_epoch": 0}, "steps_per_epoch=0"),
        ({"bad_samples": 1.0}, "bad_samples=1.0"),
        ({"timeout": 0.0}, "timeout=0.0"),
        ({"num_workers": -1}, "num_workers=-1"),
    ],
)
def test_wrong_numbers_are_refused_by_name(options, said):
    with pytest.raises(ValueError, match=said):
        toy_mixture(**options)


def test_a_stream_adds_settings_to_the_task_of_its_source():
    data = MixedDataModule({"images": Stream(ToyImages(), settings={"label_smoothing": 0.1}), "sounds": Stream(ToySounds())})
    assert data.tasks["images"] == {"task": "classification", "num_classes": 3, "label_smoothing": 0.1}
    assert data.tasks["sounds"] == {"task": "classification", "num_classes": 5}


def test_no_dataset_and_an_empty_one_are_refused():
    with pytest.raises(ValueError, match="at least one"):
        MixedDataModule({})
    with pytest.raises(ValueError, match="dataset 'images' has no rows in its train split"):
        MixedDataModule({"images": Stream(ToyImages(0))}).setup("fit")


def test_an_entry_must_vary_in_length_everywhere_or_nowhere():
    class Stiff(ToySounds):
        ragged = ()

    with pytest.raises(ValueError, match="'audio' varies in length in some datasets, but not in 'stiff'"):
        _ = MixedDataModule({"sounds": Stream(ToySounds()), "stiff": Stream(Stiff())}).ragged


@pytest.mark.filterwarnings("ignore:.*treespec, LeafSpec.*", "ignore:.*does not have many workers.*")
def test_predicting_uses_the_test_rows_once_each():
    class Count(L.LightningModule):
        def predict_step(self, batch, batch_idx):
            return len(batch["dataset"])

    trainer = L.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False)
    assert sum(trainer.predict(Count(), toy_mixture())) == 41 + 53 + 29


@pytest.mark.parametrize(
    "augment", [MovePicture(strength=0.1), JitterSound(max_samples=60), Missing(["image", "audio"], 0.5)], ids=lambda a: type(a).__name__
)
def test_an_augmentation_follows_from_the_generator_and_leaves_its_row_alone(augment: Augment):
    row = {"image": torch.rand(2, 6, 15), "audio": torch.rand(1, 50), "target": 3}
    before = {key: value.clone() if isinstance(value, torch.Tensor) else value for key, value in row.items()}
    draw = partial(np.random.default_rng, 7)
    once, again, other = augment(row, draw()), augment(row, draw()), augment(row, np.random.default_rng(8))
    assert same_rows(once, again) and same_rows(row, before)
    assert not same_rows(once, other)
    assert augment({"text": torch.arange(5), "target": 3}, draw()).keys() == {"text", "target"}


def same_rows(a: dict, b: dict) -> bool:
    return a.keys() == b.keys() and all(torch.equal(torch.as_tensor(a[key]), torch.as_tensor(b[key])) for key in a)


def test_missing_never_takes_all_that_a_row_has_and_takes_each_equally_often():
    missing, row = Missing(["image", "audio"], 0.3), {"image": torch.zeros(1), "audio": torch.zeros(1), "target": 3}
    left = [frozenset(missing(row, np.random.default_rng(i))) - {"target"} for i in range(2_000)]
    assert {"image", "audio"} >= set().union(*left) and frozenset() not in left
    # Both stay with probability 0.49, one goes with 0.42, and of the 0.09 in which both would go one stays.
    assert left.count(frozenset({"image", "audio"})) / 2_000 == pytest.approx(0.49, abs=0.05)
    assert left.count(frozenset({"image"})) / 2_000 == pytest.approx(0.255, abs=0.05)
