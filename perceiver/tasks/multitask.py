"""One model for several datasets, each with a task of its own.

Letters: b batch, r rows of one task, k classes.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from jaxtyping import Float
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor, nn

from perceiver.models import Readout
from perceiver.tasks.objectives import ClassObjective, Objective, objective
from perceiver.tasks.tally import Tally
from perceiver.tasks.task import Batch, Task, objects


class Multitask(Task):
    """Trains one model on several tasks, and keeps their losses and right answers apart.

    A batch holds the model's inputs, `dataset` (b, a number into `tasks`; without it all rows belong to the first), what the
    objectives of its rows ask for (`target`; `<modality>_target`), and `target_mask` (b, bool: False = this row counts for nothing).

    Args:
        model: `perceiver.models.MultitaskPerceiver`. It keeps the tasks that it has, and those that it lacks are added.
        tasks: what is learned on each dataset, as plain data: `{"digits": {"task": "classification", "num_classes": 10}}`. On the
            command line they come from the datasets.
        training: how; see `perceiver.tasks.Task`.

    Raises:
        ValueError: when there is no task, one that is not known, or one that the model has with outputs of another shape.
    """

    monitor = ("val/accuracy", "max")  # what the best checkpoint is chosen by

    def __init__(
        self,
        model: nn.Module,
        tasks: Mapping[str, Mapping[str, Any]],
        **training: Any,
    ) -> None:
        super().__init__(model, **training)
        self.save_hyperparameters(ignore=objects())
        if not tasks:
            raise ValueError("tasks: give at least one")
        self.objectives = {name: objective(name, settings) for name, settings in tasks.items()}
        for name, one in self.objectives.items():
            queries, head = one.readout(self.model.decoder.query_dim, self.model.inputs.dim)
            if name not in self.model.readouts:
                self.model.add_task(name, queries, head)
            elif shapes(self.model.readouts[name]) != shapes(Readout(queries, head)):
                raise ValueError(f"the model has a task {name!r} with outputs of another shape: call the dataset otherwise, or give another model")
        self.tasks = tasks
        self.datasets = tuple(tasks)
        self.tally = nn.ModuleDict({stage: Tally(self.datasets) for stage in ("val", "test")})

    def with_model(self, model: nn.Module) -> "Multitask":
        """The same tasks for another model."""
        return Multitask(model, self.tasks, **self.schedule)

    def setup(self, stage: str) -> None:
        """Says which entries of the datamodule no adapter of the model reads, before anything else."""
        entries = getattr(getattr(self.trainer, "datamodule", None), "entries", ())
        unread = [entry for entry in entries if entry not in self.model.inputs.adapters and not entry.endswith("_target")]
        if unread:
            rank_zero_warn(f"no adapter reads {', '.join(unread)}: the model has adapters for {', '.join(self.model.inputs.adapters)}")
        super().setup(stage)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Outputs of each task that has rows in the batch, for those rows in their order."""
        return self.model(batch, self.datasets)

    def judge(self, batch: Batch) -> tuple[Float[Tensor, " b"], Float[Tensor, " b"]]:
        """The loss of each row, and the share of it that is answered right.

        Raises:
            ValueError: when a target is out of range.
        """
        losses, right = self._by_row(batch, 2, lambda one, output, rows: one.judge(output, batch, rows))
        return losses, right

    def _by_row(self, batch: Batch, width: int, ask: Callable[[Objective, Tensor, Tensor], tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
        """Asks each task's objective about the outputs of its rows, and puts the `width` answers back in the order of the batch."""
        outputs = self(batch)
        numbers = self.numbers(batch, sum(len(output) for output in outputs.values()))
        found = tuple(torch.zeros(len(numbers), device=numbers.device) for _ in range(width))
        for name, output in outputs.items():
            rows = numbers == self.datasets.index(name)
            answers = ask(self.objectives[name], output.float(), rows)
            found = tuple(whole.masked_scatter(rows, part.to(whole)) for whole, part in zip(found, answers, strict=True))
        return found

    def scores(self, batch: Batch) -> Float[Tensor, "b k"]:
        """The logarithm of the probability of each class of each row, -inf beyond its own task's classes, and in rows of other kinds of task."""
        outputs = self(batch)
        classes = {name: output[:, 0].log_softmax(-1) for name, output in outputs.items() if isinstance(self.objectives[name], ClassObjective)}
        numbers = self.numbers(batch, sum(len(output) for output in outputs.values()))
        found = torch.full((len(numbers), max(self.class_counts.values())), -torch.inf, device=numbers.device)
        for name, output in classes.items():
            rows = numbers == self.datasets.index(name)
            found = found.masked_scatter(rows[:, None] & (torch.arange(found.shape[1], device=found.device) < output.shape[1]), output.to(found))
        return found

    def probabilities(self, batch: Batch) -> Float[Tensor, "b k"]:
        """The probability of each class of each row, zero beyond its own task's classes; all zero for rows of other kinds of task."""
        return self.scores(batch).exp()

    @property
    def class_counts(self) -> dict[str, int]:
        """Number of classes of each dataset; 0 where the task is another."""
        return {name: one.num_classes if isinstance(one, ClassObjective) else 0 for name, one in self.objectives.items()}

    def numbers(self, batch: Batch, size: int) -> Tensor:
        """The dataset number of each row."""
        return batch["dataset"] if "dataset" in batch else torch.zeros(size, dtype=torch.long, device=self.device)

    def train_loss(self, batch: Batch) -> Float[Tensor, ""]:
        """The mean of what the rows that count are trained on; zero when none does."""
        (losses,) = self._by_row(batch, 1, lambda one, output, rows: (one.train_loss(output, batch, rows),))
        counts = counted(batch, losses)
        return losses.masked_fill(~counts, 0).sum() / counts.sum().clamp_min(1)

    def count(self, batch: Batch) -> Tensor:
        """Rows that count."""
        return batch["target_mask"].sum() if "target_mask" in batch else super().count(batch)

    def predict_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """The outputs of each task, and the dataset of each row."""
        outputs = self(batch)
        return outputs | {"dataset": self.numbers(batch, sum(len(output) for output in outputs.values()))}

    def evaluate(self, stage: str, batch: Batch) -> None:
        """Adds up losses and right answers."""
        losses, right = self.judge(batch)
        self.tally[stage].update(losses, right, self.numbers(batch, len(losses)), counted(batch, losses))  # type: ignore[operator]

    def on_validation_epoch_end(self) -> None:
        """Logs loss and accuracy by dataset, and their means."""
        self._log_tally("val")

    def on_test_epoch_end(self) -> None:
        """Logs loss and accuracy by dataset, and their means."""
        self._log_tally("test")

    def _log_tally(self, stage: str) -> None:
        tally: Any = self.tally[stage]
        found: dict[str, tuple[Tensor, Tensor]] = tally.compute()
        tally.reset()
        for place, what in enumerate(("loss", "accuracy")):
            values = {name: pair[place].float() for name, pair in found.items()}
            self.log_dict({f"{stage}/{what}/{name}": value for name, value in values.items()}, sync_dist=True)
            if values:
                self.log(f"{stage}/{what}", torch.stack(list(values.values())).mean(), prog_bar=what == "accuracy", sync_dist=True)


def shapes(module: nn.Module) -> dict[str, torch.Size]:
    """Of all weights, by name."""
    return {name: weight.shape for name, weight in module.state_dict().items()}


def counted(batch: Batch, losses: Float[Tensor, " b"]) -> Tensor:
    """Which rows count: those that `target_mask` does not leave out."""
    return batch.get("target_mask", torch.ones_like(losses, dtype=torch.bool))
