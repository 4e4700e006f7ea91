"""Classification of rows from any number of datasets, with any subset of the modalities.

Letters: b batch, k classes.
"""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics.classification import MulticlassAccuracy

from perceiver.tasks.task import Batch, Task, objects

STAGES = ("val", "test")


class Classification(Task):
    """Trains a model to name the class of each row, and counts right answers dataset by dataset.

    A batch holds the model's inputs and `target` (b, class numbers); it may hold `target_mask` (b, bool: False = this
    row has no target, and counts for nothing) and `dataset` (b, a number into `datasets`).

    Args:
        model: from a batch to logits, `b k` or `b 1 k`.
        num_classes: number of classes.
        datasets: what the rows' dataset numbers mean; a metric is logged for each.
        label_smoothing: in training, share of the target that is spread over all classes.
        training: how; see `perceiver.tasks.Task`.

    Raises:
        ValueError: when there are fewer than two classes, or a dataset is named twice.
    """

    monitor = ("val/accuracy", "max")  # what the best checkpoint is chosen by

    def __init__(
        self,
        model: nn.Module,
        num_classes: int,
        *,
        datasets: Sequence[str] = ("data",),
        label_smoothing: float = 0.0,
        **training: Any,
    ) -> None:
        super().__init__(model, **training)
        self.save_hyperparameters(ignore=objects())
        if num_classes < 2:
            raise ValueError(f"num_classes={num_classes}: classification needs at least 2")
        if len(set(datasets)) != len(datasets) or not datasets:
            raise ValueError(f"datasets={list(datasets)}: give each dataset a name of its own, and at least one")
        self.num_classes = num_classes
        self.datasets = tuple(datasets)
        self.label_smoothing = label_smoothing
        self.accuracy = nn.ModuleDict({stage: nn.ModuleList(MulticlassAccuracy(num_classes, average="micro") for _ in datasets) for stage in STAGES})

    def with_model(self, model: nn.Module) -> "Classification":
        """The same task for another model."""
        return Classification(model, self.num_classes, datasets=self.datasets, label_smoothing=self.label_smoothing, **self.schedule)

    def forward(self, batch: Batch) -> Float[Tensor, "b k"]:
        """Logits of each row.

        Raises:
            ValueError: when the model gives another number of classes.
        """
        logits: Tensor = self.model(batch)
        if logits.ndim == 3 and logits.shape[1] == 1:
            logits = logits[:, 0]
        if logits.ndim != 2 or logits.shape[1] != self.num_classes:
            raise ValueError(
                f"the model gives logits of shape {tuple(logits.shape)}, and the task has num_classes={self.num_classes}: "
                "make the model's head as wide as the task"
            )
        return logits

    @property
    def class_counts(self) -> dict[str, int]:
        """Number of classes of each dataset."""
        return dict.fromkeys(self.datasets, self.num_classes)

    def judge(self, batch: Batch) -> tuple[Float[Tensor, " b"], Float[Tensor, " b"]]:
        """The loss of each row, and 1 where its most likely class is right, 0 where not."""
        logits, target = self(batch), batch["target"]
        return F.cross_entropy(logits, target, reduction="none"), (logits.argmax(-1) == target).float()

    def scores(self, batch: Batch) -> Float[Tensor, "b k"]:
        """The logarithm of the probability of each class of each row."""
        return self(batch).log_softmax(-1)

    def probabilities(self, batch: Batch) -> Float[Tensor, "b k"]:
        """The probability of each class of each row."""
        return self.scores(batch).exp()

    def loss(self, logits: Float[Tensor, "b k"], batch: Batch) -> Float[Tensor, ""]:
        """Mean cross-entropy over the rows that have a target; zero when none has.

        Raises:
            ValueError: when a target or a dataset number is out of range, naming it, its row and the limit.
        """
        for key, limit in (("target", self.num_classes), ("dataset", len(self.datasets))):
            if key in batch and bool((wrong := (batch[key] < 0) | (batch[key] >= limit)).any()):
                row = int(wrong.nonzero()[0])
                raise ValueError(
                    f"{key} {int(batch[key][row])} in row {row} of a batch is out of range 0 to {limit - 1}: correct the data, or the task's settings"
                )
        smoothing = self.label_smoothing if self.training else 0.0
        losses = F.cross_entropy(logits, batch["target"], reduction="none", label_smoothing=smoothing)
        if "target_mask" not in batch:
            return losses.mean()
        return losses.masked_fill(~batch["target_mask"], 0).sum() / batch["target_mask"].sum().clamp_min(1)

    def train_loss(self, batch: Batch) -> Float[Tensor, ""]:
        """The loss of a batch as the model names its rows."""
        return self.loss(self(batch), batch)

    def count(self, batch: Batch) -> Tensor:
        """Rows that have a target."""
        return batch["target_mask"].sum() if "target_mask" in batch else super().count(batch)

    def predict_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """The most likely class of each row, and the probabilities of all."""
        probabilities = self.probabilities(batch)
        return {"class": probabilities.argmax(-1), "probabilities": probabilities}

    def evaluate(self, stage: str, batch: Batch) -> None:
        """Logs the loss, and counts right answers."""
        logits, target = self(batch), batch["target"]
        self.log(f"{stage}/loss", self.loss(logits, batch), batch_size=len(target))
        counts = batch.get("target_mask", torch.ones_like(target, dtype=torch.bool))
        dataset = batch.get("dataset", torch.zeros_like(target))
        for index, metric in enumerate(self._metrics(stage)):
            rows = counts & (dataset == index)
            if rows.any():
                metric.update(logits[rows], target[rows])

    def _metrics(self, stage: str) -> list[MulticlassAccuracy]:
        return list(self.accuracy[stage])  # type: ignore[call-overload]

    def on_validation_epoch_end(self) -> None:
        """Logs accuracy by dataset, and their mean."""
        self._log_accuracy("val")

    def on_test_epoch_end(self) -> None:
        """Logs accuracy by dataset, and their mean."""
        self._log_accuracy("test")

    def _log_accuracy(self, stage: str) -> None:
        seen = {name: metric for name, metric in zip(self.datasets, self._metrics(stage), strict=True) if metric.update_called}
        values = {name: metric.compute() for name, metric in seen.items()}
        for metric in seen.values():
            metric.reset()
        if values:
            self.log_dict({f"{stage}/accuracy/{name}": value for name, value in values.items()})
            self.log(f"{stage}/accuracy", torch.stack(list(values.values())).mean(), prog_bar=True)
