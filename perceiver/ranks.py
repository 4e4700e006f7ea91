"""What the processes of a training tell each other."""

from typing import Any

import torch


def from_all_ranks(value: Any) -> list[Any]:
    """The values of all ranks, in their order; all of them ask together. The only one there is, where nothing is distributed."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return [value]
    values: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(values, value)
    return values
