"""Training on several datasets at once: which there are, how much of each, and what became of samples that cannot be read."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import lightning as L
import torch

from perceiver.data.augment import Augment
from perceiver.data.mixture.batches import Batches, EvalBatches, Member, TrainBatches, without_report
from perceiver.data.mixture.loader import MixtureLoader, Steps, shortened, steps_done
from perceiver.data.mixture.order import Mixture, shares
from perceiver.data.rows import Rows
from perceiver.data.source import SPLITS, Source, Split

log = logging.getLogger(__name__)


@dataclass
class Stream:
    """One dataset of a mixture.

    Args:
        source: where its rows come from.
        weight: its share of the training rows, relative to the others'.
        augment: what is done to its training rows, one after another.
        settings: of its task, beside those that the source gives: `{label_smoothing: 0.1}`.
    """

    source: Source
    weight: float = 1.0
    augment: Sequence[Augment] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)


class MixedDataModule(L.LightningDataModule):
    """Batches out of any number of datasets: raw entries by modality with presence and lengths, `target` and `target_mask`, and `dataset`.

    Which rows a step holds is a function of the seed and the number of the step alone (`perceiver.data.mixture.order`). The numbers in
    `dataset` follow the order of `datasets`.

    Args:
        datasets: by name.
        batch_size: rows of a training step, all ranks together; it must be a multiple of their number.
        steps_per_epoch: training steps between two validations.
        alpha: share of a dataset ~ weight x rows^alpha. 0: the weights as they are; 1: by size; between them: a temperature.
        rows_per_dataset: rows of a step that come from one dataset; the whole batch when not given. 1 mixes them freely.
        seed: of the training rows; that of the whole run when not given.
        num_workers: processes that prepare batches.
        eval_batch_size: rows of a validation or test batch of one rank.
        bad_samples: share of a dataset's rows that may be undecodable before the run is stopped.
        timeout: seconds to wait for a batch before its worker counts as hung.

    Raises:
        ValueError: when there is no dataset, or a number is out of range.
    """

    def __init__(
        self,
        datasets: dict[str, Stream],
        *,
        batch_size: int = 64,
        steps_per_epoch: int = 500,
        alpha: float = 0.0,
        rows_per_dataset: int | None = None,
        seed: int | None = None,
        num_workers: int = 1,
        eval_batch_size: int = 250,
        bad_samples: float = 0.01,
        timeout: float = 300.0,
    ) -> None:
        super().__init__()
        if not datasets:
            raise ValueError("datasets: give at least one")
        for name, value in (("batch_size", batch_size), ("steps_per_epoch", steps_per_epoch), ("eval_batch_size", eval_batch_size)):
            if value < 1:
                raise ValueError(f"{name}={value}: give at least 1")
        if not 0 <= bad_samples < 1 or timeout <= 0 or num_workers < 0:
            raise ValueError(f"bad_samples={bad_samples} must be in [0, 1), timeout={timeout} positive, num_workers={num_workers} not negative")
        self.datasets = datasets
        self.batch_size = batch_size
        self.steps_per_epoch = steps_per_epoch
        self.alpha = alpha
        self.rows_per_dataset = batch_size if rows_per_dataset is None else rows_per_dataset
        self.seed = torch.initial_seed() if seed is None else seed
        self.num_workers = num_workers
        self.eval_batch_size = eval_batch_size
        self.bad_samples = bad_samples
        self.timeout = timeout
        self._rows: dict[tuple[str, Split], Rows] = {}
        self._bad: dict[tuple[Split, str], dict[str, str]] = {}  # reasons by sample, of each split of each dataset
        self._resumed: dict[str, Any] | None = None
        self._loaders: list[MixtureLoader] = []

    def __str__(self) -> str:
        """Which datasets. Lightning's own description opens all loaders."""
        return f"a mixture of {', '.join(self.datasets)}"

    @property
    def tasks(self) -> dict[str, dict[str, Any]]:
        """What is learned on each dataset, as plain data, for the model's side."""
        return {name: {**stream.source.task, **stream.settings} for name, stream in self.datasets.items()}

    @property
    def classes(self) -> dict[str, list[str]]:
        """Names of each dataset's classes."""
        return {name: list(stream.source.classes) for name, stream in self.datasets.items()}

    def prepare_data(self) -> None:
        """Fetches what is not there yet, in one process."""
        for stream in self.datasets.values():
            stream.source.prepare()

    def setup(self, stage: str) -> None:
        """Opens the splits that a stage needs, so that what is wrong with them is said before training starts."""
        needed: dict[str, Sequence[Split]] = {"fit": ("train", "val", "test"), "validate": ("val",)}
        for split in needed.get(stage, ("test",)):
            self.members(split)

    def teardown(self, stage: str) -> None:
        """Ends the data workers of a stage."""
        for loader in self._loaders:
            loader.close()
        self._loaders.clear()

    def members(self, split: Split) -> list[Member]:
        """The datasets in one split.

        Raises:
            ValueError: when one of them has no rows there.
        """
        for name, stream in self.datasets.items():
            if (name, split) not in self._rows:
                rows = stream.source.rows(split)
                if not len(rows):
                    raise ValueError(f"dataset {name!r} has no rows in its {split} split: check its folder, or leave it out")
                self._rows[name, split] = rows
        augmented = split == "train"
        return [Member(name, split, self._rows[name, split], stream.augment if augmented else ()) for name, stream in self.datasets.items()]

    @property
    def entries(self) -> list[str]:
        """Raw entries that some dataset has, and the targets that vary in length."""
        return list(dict.fromkeys(entry for stream in self.datasets.values() for entry in (*stream.source.entries, *stream.source.ragged)))

    @property
    def ragged(self) -> list[str]:
        """Those of them that vary in length.

        Raises:
            ValueError: when two datasets disagree about one.
        """
        varies: dict[str, bool] = {}
        for name, stream in self.datasets.items():
            for entry in (*stream.source.entries, *stream.source.ragged):
                if varies.setdefault(entry, entry in stream.source.ragged) != (entry in stream.source.ragged):
                    raise ValueError(f"{entry!r} varies in length in some datasets, but not in {name!r}: call one of the two otherwise")
        return [entry for entry, ragged in varies.items() if ragged]

    def mixture(self) -> Mixture:
        """Which rows each step draws."""
        sizes = {member.name: len(member.rows) for member in self.members("train")}
        probabilities = shares(sizes, {name: stream.weight for name, stream in self.datasets.items()}, self.alpha)
        return Mixture(sizes, probabilities, batch_size=self.batch_size, rows_per_dataset=self.rows_per_dataset, seed=self.seed)

    def train_dataloader(self) -> MixtureLoader:
        """The steps from where training stands.

        Raises:
            ValueError: when a checkpoint is resumed that was trained on another mixture, or the batch cannot be shared among the ranks.
        """
        self._check_resumed()
        rank, world_size = self._rank()
        batches = TrainBatches(self.members("train"), self.entries, self.ragged, self.mixture(), rank=rank, world_size=world_size)
        batches.draws(0)
        return self._loader(batches, Steps(partial(steps_done, self), self.steps_per_epoch))

    def names(self, step: int) -> list[str]:
        """The rows that this rank takes at a step of training, for messages."""
        rank, world_size = self._rank()
        return TrainBatches(self.members("train"), self.entries, self.ragged, self.mixture(), rank=rank, world_size=world_size).names(step)

    def val_dataloader(self) -> MixtureLoader:
        """All validation rows."""
        return self._eval_loader("val")

    def test_dataloader(self) -> MixtureLoader:
        """All test rows."""
        return self._eval_loader("test")

    def predict_dataloader(self) -> MixtureLoader:
        """All test rows."""
        return self._eval_loader("test")

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> dict[str, Any]:
        """Takes the report of bad samples out of a batch, and acts on it.

        Raises:
            ValueError: when a dataset has more of them than the budget allows, with the list.
        """
        clean, reports = without_report(batch)
        for split, dataset, sample, reason in reports:
            self._report(split, dataset, sample, reason)
        return clean

    def _report(self, split: Split, dataset: str, sample: str, reason: str) -> None:
        known = self._bad.setdefault((split, dataset), {})
        if sample in known:
            return
        known[sample] = reason
        size = len(self._rows[dataset, split])
        log.warning("%s/%s cannot be read and another row takes its place: %s (%d of %d rows so far)", dataset, sample, reason, len(known), size)
        if len(known) > self.bad_samples * size:
            told = shortened([f"{sample} ({reason})" for sample, reason in known.items()], most=20)
            raise ValueError(
                f"{len(known)} of {size} rows of dataset {dataset!r} in the {split} split cannot be read, more than bad_samples={self.bad_samples:g} "
                f"of them: {told}. Mend or remove them, or raise bad_samples"
            )

    def _rank(self) -> tuple[int, int]:
        return (0, 1) if self.trainer is None else (self.trainer.global_rank, self.trainer.world_size)

    def _eval_loader(self, split: Split) -> MixtureLoader:
        rank, world_size = self._rank()
        batches = EvalBatches(self.members(split), self.entries, self.ragged, self.eval_batch_size, rank=rank, world_size=world_size)
        return self._loader(batches, range(len(batches)))

    def _loader(self, batches: Batches, sampler: Steps | range) -> MixtureLoader:
        loader = MixtureLoader(batches, sampler, num_workers=self.num_workers, timeout=self.timeout, pin_memory=torch.cuda.is_available())
        self._loaders.append(loader)
        return loader

    def _plan(self) -> dict[str, Any]:
        """All that decides which rows come at which step."""
        return {
            "seed": self.seed,
            "batch_size": self.batch_size,
            "steps_per_epoch": self.steps_per_epoch,
            "rows_per_dataset": self.rows_per_dataset,
            "alpha": self.alpha,
            "weights": {name: stream.weight for name, stream in self.datasets.items()},
            "rows": {member.name: len(member.rows) for member in self.members("train")},
        }

    def state_dict(self) -> dict[str, Any]:
        """The plan of the mixture, and the bad samples so far. Where training stands is in the trainer's own counters."""
        bad = [[split, dataset, sample, reason] for (split, dataset), known in self._bad.items() for sample, reason in known.items()]
        return {"plan": self._plan(), "bad_samples": bad}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes over what a checkpoint says; training compares its plan when it starts."""
        self._resumed = state_dict["plan"]
        for split, dataset, sample, reason in state_dict["bad_samples"]:
            if split in SPLITS and dataset in self.datasets:
                self._bad.setdefault((split, dataset), {})[sample] = reason

    def _check_resumed(self) -> None:
        if self._resumed is None:
            return
        plan = self._plan()
        changed = [f"{key} was {self._resumed.get(key)} and is {value}" for key, value in plan.items() if self._resumed.get(key) != value]
        if changed:
            raise ValueError(
                f"this checkpoint was trained on another mixture, so that its steps cannot be continued: {'; '.join(changed)}. "
                "Resume with the configuration that it was trained with"
            )
