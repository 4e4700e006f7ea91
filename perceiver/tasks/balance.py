"""Balance: modalities that are ahead are slowed down while the others catch up (Peng et al. 2022, "Balanced Multimodal Learning via On-the-fly
Gradient Modulation", OGM-GE).

A modality that is learned first lowers the loss, and with it the gradients of all others, which may then starve. So what the model knows of each
modality alone is compared at every step, and the weights of the one that knows more than the mean of the others move by a part of their step.

What is scaled here is the step, not the gradient. The paper scales gradients, under SGD, where that is the same. Adam divides a gradient by its own
size, so a factor on all gradients of a parameter is undone; and the published code touches weights of convolutions alone, so that in a
Transformer it does nothing at all.

Letters: b batch, k classes.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import lightning as L
import torch
from jaxtyping import Bool, Float
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn
from torch.optim import Optimizer

from perceiver.adapters import Inputs
from perceiver.adapters.presence import presence, without_all
from perceiver.rest import at_rest
from perceiver.tasks.task import Batch


def slowing(scores: Mapping[str, float], alpha: float) -> dict[str, float]:
    """The factor on the step of each modality (section 3.2): 1 - tanh(alpha rho) where rho > 1, else 1; in (0, 1].

    rho is a modality's score over the mean of the others' scores. A modality without others to be compared with is not slowed.

    Args:
        scores: how well each modality answers alone, positive.
        alpha: how strongly what is ahead is slowed; 0 = not at all.
    """
    found = {}
    for name, score in scores.items():
        others = [other for key, other in scores.items() if key != name]
        rho = score * len(others) / sum(others) if others else 0.0
        found[name] = 2 / (1 + math.exp(min(2 * alpha * rho, 700.0))) if rho > 1 else 1.0  # 1 - tanh(x), which never rounds to zero
    return found


class BalanceModalities(Callback):
    """Slows the weights of a modality, its adapter and its map to the common width, while it is ahead of the others. Logs `train/balance/<modality>`.

    A modality's score is the mean probability of the right class when the model is asked with all compared modalities but this one taken
    away, over the rows that have the modality and a target of a task with classes. These passes cost no gradient, and draw no random number.

        trainer:
          callbacks:
            - class_path: perceiver.tasks.BalanceModalities
              init_args: {alpha: 0.5, modalities: [image, audio]}

    Args:
        alpha: how strongly what is ahead is slowed, `slowing`; the paper has 0.1 to 0.8.
        modalities: those that are compared with each other; all of the model when not given. What is not named is read in all passes, such
            as a question, without which no other modality can answer.
        every: steps between two comparisons.
        noise: what is slowed gets normal noise of so many standard deviations of its whole step on top: the paper's generalization
            enhancement (section 3.3) has 1; 0 = none.

    Raises:
        ValueError: when alpha or noise is negative, or `every` is below 1.
    """

    def __init__(self, alpha: float = 0.5, *, modalities: Sequence[str] | None = None, every: int = 1, noise: float = 0.0) -> None:
        if alpha < 0 or noise < 0 or every < 1:
            raise ValueError(f"alpha={alpha}, noise={noise} and every={every}: give numbers from 0 on, and steps from 1 on")
        self.alpha = alpha
        self.modalities = None if modalities is None else tuple(modalities)
        self.every = every
        self.noise = noise
        self.factors: dict[str, float] = {}
        self._batch: Batch = {}
        self._before: dict[str, list[Tensor]] = {}

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Checks the model and the task.

        Raises:
            ValueError: when there is nothing to be compared, or nothing to compare by.
        """
        inputs = getattr(pl_module.model, "inputs", None)
        if not isinstance(inputs, Inputs):
            raise ValueError(f"balancing needs a model whose `inputs` are perceiver.Inputs, and {type(pl_module.model).__name__} has none")
        if unknown := [name for name in self.modalities or () if name not in inputs.adapters]:
            raise ValueError(f"modalities: the model has no {unknown[0]!r}, only {', '.join(inputs.adapters)}")
        compared = self.compared(pl_module)
        if len(compared) < 2:
            raise ValueError(f"there is nothing to balance: {', '.join(compared)} alone is compared, and it takes two modalities at least")
        if not any(getattr(pl_module, "class_counts", {}).values()):
            raise ValueError(f"{type(pl_module).__name__} has no dataset with classes, whose probabilities modalities are compared by: leave it out")

    def compared(self, task: Any) -> tuple[str, ...]:
        """The modalities that are compared."""
        return tuple(task.model.inputs.adapters) if self.modalities is None else self.modalities

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int) -> None:
        """Keeps the batch, on which the modalities are compared."""
        self._batch = batch

    def on_before_optimizer_step(self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: Optimizer) -> None:
        """Compares the modalities, and keeps the weights of those that are to be slowed."""
        if trainer.global_step % self.every == 0 or not self.factors:
            self.factors = slowing(self.scores(trainer, pl_module), self.alpha)
        for name in self.compared(pl_module):
            factor = self.factors.get(name, 1.0)
            pl_module.log(f"train/balance/{name}", factor)
            if factor < 1:
                self._before[name] = [weight.detach().clone() for weight in own_weights(pl_module.model, name)]

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Takes back a part of the step of what is ahead."""
        generator = torch.Generator().manual_seed(trainer.global_step)  # the same noise on all ranks, and on a run that is resumed
        for name, before in self._before.items():
            with torch.no_grad():
                for weight, old in zip(own_weights(pl_module.model, name), before, strict=True):
                    step = weight - old
                    weight.copy_(old + self.factors[name] * step)
                    if self.noise and step.numel() > 1:
                        weight.add_(torch.randn(step.shape, generator=generator).to(step), alpha=self.noise * float(step.std()))
        self._before.clear()
        self._batch = {}

    def scores(self, trainer: L.Trainer, task: Any) -> dict[str, float]:
        """How well each compared modality answers alone, on the rows of all ranks; only those that some row has."""
        found = {}
        with torch.no_grad(), trainer.precision_plugin.forward_context(), at_rest(task):
            for name in self.compared(task):
                rows, batch = self._alone(task, name)
                right = probability_of_target(task, batch, rows) if rows.any() else torch.zeros(0, device=task.device)
                total = torch.stack([right.sum().float(), right.new_tensor(len(right), dtype=torch.float32)])
                probability, number = trainer.strategy.reduce(total, reduce_op="sum").tolist()  # on all ranks, whether they have such rows or not
                if number:
                    found[name] = max(probability / number, 1e-12)
        return found

    def _alone(self, task: Any, name: str) -> tuple[Bool[Tensor, " b"], Batch]:
        """The rows that a modality is scored on, and the batch without what it is compared with."""
        batch = dict(self._batch)
        if name not in batch and f"{name}_present" not in batch:
            return torch.zeros(1, dtype=torch.bool), batch
        rows = presence(batch, name) & batch.get("target_mask", torch.ones_like(presence(batch, name)))
        numbers = batch.get("dataset", torch.zeros_like(rows, dtype=torch.long))
        counts = torch.tensor([task.class_counts[dataset] for dataset in task.datasets], device=numbers.device)
        # A row of a task without classes may ask with what is taken away: it is asked for a class instead, and does not count.
        batch["dataset"] = torch.where(counts[numbers] > 0, numbers, int(counts.nonzero()[0]))
        return rows & (counts[numbers] > 0), without_all(batch, [other for other in self.compared(task) if other != name])


def own_weights(model: Any, modality: str) -> list[nn.Parameter]:
    """What learns for one modality alone: the weights of its adapter, and of its map to the common width."""
    inputs = model.inputs
    owners = [group[modality] for group in (inputs.adapters, inputs.projections) if modality in group]
    return [weight for owner in owners for weight in owner.parameters() if weight.requires_grad]


def probability_of_target(task: Any, batch: Batch, rows: Bool[Tensor, " b"]) -> Float[Tensor, " r"]:
    """The probability of the right class of some rows."""
    return task.probabilities(batch)[rows].gather(1, batch["target"][rows, None])[:, 0]
