"""How parameters start: close to DeepMind's Perceivers, since the usual PyTorch initialisation learns at half the pace here.

A linear map keeps most of the variance of its input (three quarters; PyTorch's own lets it fall to one third), so attention
starts out choosing rather than averaging. Arrays that stand for themselves, such as latents and queries, start small.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from perceiver.description import describable
from perceiver.linear import Linear

Start = Callable[[int, int], nn.Parameter]


def linear(in_features: int, out_features: int) -> Linear:
    """A linear map with zero bias, and weights from a normal of variance 1 / in_features before it is cut at two standard deviations."""
    layer = Linear(in_features, out_features)
    std = in_features**-0.5
    nn.init.trunc_normal_(layer.weight, std=std, a=-2 * std, b=2 * std)
    nn.init.zeros_(layer.bias)
    return layer


@describable
def small_array(*shape: int) -> nn.Parameter:
    """An array of that shape from a normal of width 0.02, cut at two standard deviations."""
    weight: Tensor = nn.init.trunc_normal_(torch.empty(*shape), std=0.02, a=-0.04, b=0.04)
    return nn.Parameter(weight)


@describable
def waves(places: int, dim: int) -> nn.Parameter:
    """A table in which neighbouring places start alike: sine and cosine along the row, from one wave to one for every two places, of width 0.5.

    With it attention can find a place, and what lies around it, from the first step on. A table that starts small and random says
    nothing until it has been learned, which in a small model can take thousands of steps.
    """
    position = torch.linspace(-1, 1, places)[:, None] if places > 1 else torch.zeros(1, 1)
    frequency = torch.logspace(0, math.log2(max(places / 2, 1)), -(-dim // 2), base=2.0)
    angle = math.pi * position * frequency
    return nn.Parameter(math.sqrt(0.5) * torch.cat([angle.sin(), angle.cos()], -1)[:, :dim])
