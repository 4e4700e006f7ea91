"""Out of memory: which errors say so. On a CPU, PyTorch has no class of its own for it."""

import torch

SAID = ("out of memory", "can't allocate memory", "not enough memory", "Cannot allocate memory", "bad alloc", "bad_alloc", "STATUS_ALLOC_FAILED")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that there was no memory left."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(said in str(error) for said in SAID)
