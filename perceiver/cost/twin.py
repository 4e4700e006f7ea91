"""Twins of a model and of a batch: their shapes without their numbers, so that a pass through them computes nothing and holds nothing.

They are PyTorch's fake tensors, which say that they are on the CPU. What decides which rows go where, the presence of modalities and the dataset of
each row, stays as it is.
"""

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from perceiver.linear import Linear


def twins(model: nn.Module, batch: Mapping[str, Tensor]) -> tuple[nn.Module, dict[str, Tensor]]:
    """A model in evaluation mode and a batch, of which only the shapes are left. Both are as they were; no weight is copied."""
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    memo: dict[int, Any] = {id(p): nn.Parameter(_hollow(p, mode), requires_grad=p.requires_grad) for p in model.parameters()}
    memo |= {id(b): _hollow(b, mode) for b in model.buffers()}
    twin = copy.deepcopy(model, memo).eval()
    for module in twin.modules():
        if type(module) is Linear:
            module.__class__ = nn.Linear  # type: ignore[assignment]  # the same map; on a CPU ours has a few columns more that are cut off again
    return twin, {name: entry.cpu() if _decides(name) else _hollow(entry, mode) for name, entry in batch.items()}


def _hollow(x: Tensor, mode: FakeTensorMode) -> Tensor:
    with mode:
        return torch.empty(x.shape, dtype=x.dtype, device="cpu")


def _decides(name: str) -> bool:
    return name == "dataset" or name.endswith("_present")
