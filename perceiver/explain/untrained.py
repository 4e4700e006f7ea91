"""The untrained twin: the same model with other random weights, which tells what a measure is before anything is learned."""

import torch
from torch import nn

from perceiver.description import build, describe

SEED = 0


def untrained(model: nn.Module) -> nn.Module | None:
    """A model that is built like this one, in evaluation mode, with fresh weights; None where it cannot be told what it was built with."""
    try:
        description = describe(model)
    except ValueError:
        return None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        twin: nn.Module = build(description)
    return twin.to(next(model.parameters()).device).eval()
