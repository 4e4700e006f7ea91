"""How parameters start: close to DeepMind's Perceivers, since the usual PyTorch initialisation learns at half the pace here.

A linear map keeps most of the variance of its input (three quarters; PyTorch's own lets it fall to one third), so attention
starts out choosing rather than averaging. Arrays that stand for themselves, such as latents and queries, start small.
"""

import torch
from torch import Tensor, nn


def linear(in_features: int, out_features: int) -> nn.Linear:
    """A linear map with zero bias, and weights from a normal of variance 1 / in_features before it is cut at two standard deviations."""
    layer = nn.Linear(in_features, out_features)
    std = in_features**-0.5
    nn.init.trunc_normal_(layer.weight, std=std, a=-2 * std, b=2 * std)
    nn.init.zeros_(layer.bias)
    return layer


def small_array(*shape: int) -> nn.Parameter:
    """An array of that shape from a normal of width 0.02, cut at two standard deviations."""
    weight: Tensor = nn.init.trunc_normal_(torch.empty(*shape), std=0.02, a=-0.04, b=0.04)
    return nn.Parameter(weight)
