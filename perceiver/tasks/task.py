"""What all tasks have in common: an optimizer and its schedule, a start from other weights, and what of the model learns."""

import io
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import lightning as L
import torch
from jaxtyping import Float
from lightning.pytorch.core.mixins.hparams_mixin import _given_hyperparameters
from lightning.pytorch.utilities import rank_zero_info
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim import Optimizer

from perceiver import checkpoints
from perceiver.adapters.presence import row_count
from perceiver.pretrained.checkpoint import described
from perceiver.pretrained.init_from import InitFrom
from perceiver.ranks import from_all_ranks
from perceiver.tasks.fine_tuning import FineTuning
from perceiver.tasks.hyperparameters import KEYS, check_names
from perceiver.tasks.micro_batches import PARTS, MicroBatches
from perceiver.tasks.optim import adamw, num_steps, param_groups, warmup_cosine
from perceiver.weights import check_same_weights

Batch = dict[str, Tensor]


def objects(*others: str) -> list[str] | None:
    """What a task's `save_hyperparameters` leaves out: what is an object in all tasks, and `others` that are in this one.

    Built from a configuration, a checkpoint holds that configuration, which builds the model again; built in Python,
    the model is an object, and a checkpoint holds no objects.
    """
    return ["model", "optimizer", "init_from", "fine_tuning", "micro_batches", *others] if _given_hyperparameters.get() is None else None


class Task(L.LightningModule, ABC):
    """A model and how it is trained. Each kind of task is a subclass, which says what is learned, and keeps its hyperparameters.

    Args:
        model: what is trained.
        learning_rate: its peak.
        weight_decay: of matrices alone; see `param_groups`.
        warmup_steps: steps until the peak; from there a cosine falls to zero at the trainer's last step.
        optimizer: from parameter groups to an optimizer, in place of AdamW with `learning_rate`.
        init_from: weights that the model starts from. A run that is resumed has its own.
        fine_tuning: which parts of the model learn, and how fast.
        micro_batches: goes through each batch in parts, for memory that would not take it whole.
    """

    monitor = ("val/loss", "min")  # what the best checkpoint is chosen by

    def __init__(
        self,
        model: nn.Module,
        *,
        learning_rate: float = 1e-3,
        weight_decay: float = 0.05,
        warmup_steps: int = 100,
        optimizer: Callable[[Iterable[Any]], Optimizer] | None = None,
        init_from: InitFrom | None = None,
        fine_tuning: FineTuning | None = None,
        micro_batches: MicroBatches | None = None,
    ) -> None:
        super().__init__()
        self.model: Any = model
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.warmup_steps = warmup_steps
        self.optimizer = optimizer
        self.init_from = init_from
        self.fine_tuning = fine_tuning
        self.micro_batches = micro_batches
        self._prepared = False

    @property
    def schedule(self) -> dict[str, Any]:
        """How it is trained, for another task that shall be trained alike."""
        return {name: getattr(self, name) for name in ("learning_rate", "weight_decay", "warmup_steps", "optimizer", "micro_batches")}

    def setup(self, stage: str) -> None:
        """Loads the weights to start from, once, and says what became of each part; freezes what does not learn.

        Raises:
            ValueError: when batches in parts are to be trained in float16, whose gradients are scaled too late for that.
        """
        if stage == "fit" and self.micro_batches is not None and str(self.trainer.precision).startswith("16"):
            raise ValueError(
                f"micro_batches cannot be trained with precision={self.trainer.precision}: the gradients of a part are taken before the loss "
                "is scaled, and small ones would be lost. Use bf16-mixed, or smaller batches with accumulate_grad_batches"
            )
        if self.init_from is not None and not self.trainer.ckpt_path:
            rank_zero_info(str(self.init_from(self.model)))
            self.init_from = None
        if stage == "fit":
            self.model.train()  # a pretrained model comes in evaluation mode, and Lightning leaves it there
        if self.fine_tuning is not None and not self._prepared:
            self.fine_tuning.prepare(self.model)  # for a test, too: a checkpoint may hold what it adds
            self._prepared = True

    @classmethod
    def load_from_checkpoint(cls, checkpoint_path: Any, *args: Any, **options: Any) -> Any:
        """Lightning's, which also takes the folder of a checkpoint (`perceiver.checkpoints`). Nothing that stands in it is imported.

        Raises:
            ValueError: when it is damaged, an address, or names code that is no part of this library and was not imported.
        """
        read = checkpoints.read(Path(checkpoint_path))
        for key in KEYS:
            check_names(read.get(key), key)
        content = io.BytesIO()
        torch.save(read, content)
        content.seek(0)
        return super().load_from_checkpoint(content, *args, **{**options, "weights_only": True})

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds what the model was built with, so that `perceiver.from_pretrained` can read the checkpoint alone, and the parts of a batch."""
        checkpoint.update(described(self.model))
        if self.micro_batches is not None:
            checkpoint[PARTS] = from_all_ranks(self.micro_batches.parts)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuses a checkpoint of another model before any weight is loaded, and goes through batches in as many parts as it was written with.

        Raises:
            ValueError: saying how many weights differ, and naming the first.
        """
        if "state_dict" in checkpoint:  # sharded strategies load the weights themselves
            check_same_weights(self.state_dict(), checkpoint["state_dict"])
        if self.micro_batches is not None and (parts := checkpoint.get(PARTS)):
            mine = parts[self.global_rank] if self.global_rank < len(parts) else max(parts)
            self.micro_batches.parts = max(self.micro_batches.parts, mine)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The loss of one batch."""
        if self.micro_batches is None:
            loss = self.train_loss(batch)
        else:
            loss = self.micro_batches(self, self.train_loss, self.count, batch)
        self.log("train/loss", loss, prog_bar=True, batch_size=1)
        return loss

    @abstractmethod
    def train_loss(self, batch: Batch) -> Float[Tensor, ""]:
        """What is learned from a batch: a mean over what `count` counts."""

    def count(self, batch: Batch) -> Tensor:
        """What the loss is the mean of: rows, where a task does not say otherwise."""
        return torch.tensor(row_count(batch), device=self.device)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Judges a batch of validation."""
        self.evaluate("val", batch)

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Judges a batch of test."""
        self.evaluate("test", batch)

    @abstractmethod
    def evaluate(self, stage: str, batch: Batch) -> None:
        """Logs or adds up the figures of a batch; `stage` is "val" or "test", and stands before their names."""

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Keeps frozen batch norms as they are."""
        if self.fine_tuning is not None:
            self.fine_tuning.rest(self.model, self.trainer.global_step)

    def on_after_backward(self) -> None:
        """Drops the gradients of what does not learn yet."""
        if self.fine_tuning is not None:
            self.fine_tuning.before_step(self.model, self.trainer.global_step)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """AdamW, or the optimizer that was given, with warm-up and cosine by step."""
        factors = None if self.fine_tuning is None else self.fine_tuning.factors(self.model)
        groups = param_groups(self.model, self.weight_decay, factors)
        optimizer = adamw(groups, self.learning_rate, str(self.trainer.precision)) if self.optimizer is None else self.optimizer(groups)
        for group in optimizer.param_groups:
            group["lr"] *= group.get("factor", 1.0)  # an optimizer of the user's own may have groups of its own
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": warmup_cosine(optimizer, self.warmup_steps, num_steps(self)), "interval": "step"},
        }
