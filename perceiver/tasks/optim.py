"""Optimizer parts: which parameters decay, and how the learning rate runs."""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from perceiver.encoder import LatentArray
from perceiver.models.autoencoder import GridQueries, VectorQuery
from perceiver.positions import LearnedGrid, LearnedPositions
from perceiver.queries import LearnedQueries
from perceiver.registers import Registers

# Arrays that stand for themselves rather than map something: pulling them to zero would only shrink them.
NO_DECAY = (LatentArray, Registers, LearnedPositions, LearnedGrid, LearnedQueries, GridQueries, VectorQuery)


def param_groups(model: nn.Module, weight_decay: float, factors: Mapping[str, float] | None = None) -> list[dict[str, Any]]:
    """Trainable parameters in groups: matrices, which decay; norms, biases, latents, registers, position tables and queries, which do not.

    Args:
        model: whose parameters.
        weight_decay: of those that decay.
        factors: on the learning rate, by the parameter's name; one when not given. Each group has its own as `factor`.
    """
    kept = {id(p) for module in model.modules() if isinstance(module, NO_DECAY) for p in module.parameters(recurse=False)}
    groups = defaultdict(list)
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            decays = parameter.ndim > 1 and id(parameter) not in kept
            groups[not decays, (factors or {}).get(name, 1.0)].append(parameter)
    order = sorted(groups, key=lambda key: (key[0], -key[1]))
    return [{"params": groups[key], "weight_decay": 0.0 if key[0] else weight_decay, "factor": key[1]} for key in order]


def adamw(groups: Iterable[dict[str, Any]], learning_rate: float, precision: str) -> Optimizer:
    """AdamW with the second moment of the transformer papers (0.98); in full precision its step is one fused kernel.

    Args:
        precision: of the trainer. In mixed precision Lightning does not clip the gradients of a fused optimizer.
    """
    return torch.optim.AdamW(groups, lr=learning_rate, betas=(0.9, 0.98), fused="mixed" not in precision)


def warmup_cosine(optimizer: Optimizer, warmup_steps: int, total_steps: int) -> LambdaLR:
    """A linear rise over the first steps, then half a cosine down to zero at the last.

    Raises:
        ValueError: when there are not more steps than the rise takes.
    """
    if total_steps <= warmup_steps:
        raise ValueError(f"warmup_steps={warmup_steps} of {total_steps} steps leaves none to learn in: warm up for less, or train for longer")

    def factor(step: int) -> float:
        if step < warmup_steps:
            return (step + 1) / warmup_steps
        return 0.5 + 0.5 * math.cos(math.pi * min(1.0, (step - warmup_steps) / (total_steps - warmup_steps)))

    return LambdaLR(optimizer, factor)


def num_steps(task: LightningModule) -> int:
    """Optimizer steps of the whole training, as the trainer's `max_steps` says, or its epochs and loaders."""
    trainer = task.trainer
    return trainer.max_steps if trainer.max_steps > 0 else int(trainer.estimated_stepping_batches)
