"""Measurements: what closed forms cannot tell, on a model and a batch as they are, where they are."""

import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from perceiver.adapters import Inputs
from perceiver.cost.blocks import block_of
from perceiver.cost.watch import watched
from perceiver.tokens import Tokens

TIMES = 5


@dataclass(frozen=True)
class Measured:
    """How long forward passes took.

    Attributes:
        milliseconds: of the median pass.
        device: where.
        rows: of the batch.
        peak_bytes: the most that was allocated at a time, with what was there before; None but on a CUDA device.
    """

    milliseconds: float
    device: str
    rows: int
    peak_bytes: int | None


def measured(model: nn.Module, batch: Mapping[str, Tensor]) -> Measured:
    """Times forward passes without gradients; the first, which may compile something, does not count.

    Args:
        model: in the mode and on the device that it is to be timed in.
        batch: on the same device.
    """
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    on_cuda = device.type == "cuda"
    taken = []
    with torch.no_grad():
        model(batch)
        if on_cuda:
            torch.cuda.reset_peak_memory_stats(device)
        for _ in range(TIMES):
            _wait(device)
            start = time.perf_counter()
            model(batch)
            _wait(device)
            taken.append(1000 * (time.perf_counter() - start))
    threads = torch.get_num_threads()
    name = torch.cuda.get_device_name(device) if on_cuda else f"{device.type}, {threads} thread{'' if threads == 1 else 's'}"
    peak = torch.cuda.max_memory_allocated(device) if on_cuda else None
    return Measured(statistics.median(taken), name, max(map(len, batch.values())), peak)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def activation_bytes(model: nn.Module, batch: Mapping[str, Tensor]) -> dict[str, int]:
    """Bytes that a forward pass keeps for the backward pass, by block; weights and the batch itself are there anyway, and do not count.

    An array that several places keep counts once, where it was kept first. Of a block that is recomputed, what is kept is its input, which PyTorch
    holds in another way, so that nothing is found here.

    Args:
        model: in the mode that it is to be measured in.
        batch: on its device.
    """
    known = {_place(x) for x in (*model.parameters(), *model.buffers(), *batch.values())}
    found: dict[str, int] = defaultdict(int)
    with torch.enable_grad(), _running(model) as names:

        def keep(x: Tensor) -> Tensor:
            if _place(x) not in known:
                known.add(_place(x))
                found[block_of(f"{names[-1]}.")] += x.untyped_storage().nbytes()
            return x

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
            outputs = model(batch)
    del outputs  # until here what was kept stays where it is, and no place is given twice
    return dict(found)


def _place(x: Tensor) -> int:
    return int(x.untyped_storage().data_ptr())


@contextmanager
def _running(model: nn.Module) -> Iterator[list[str]]:
    """Names of the modules that are running, the innermost last; of tokens that are projected, that of the map."""
    names: list[str] = []
    handles: list[Any] = []

    @contextmanager
    def within(name: str) -> Iterator[None]:
        names.append(name)
        try:
            yield
        finally:
            names.pop()

    def end(module: nn.Module, given: tuple[Any, ...], out: Any) -> None:
        names.pop()

    def inputs(name: str) -> Callable[..., Any]:
        prefix = f"{name}." if name else ""

        def watch(module: nn.Module, given: tuple[Any, ...], out: tuple[dict[str, Tokens], int]) -> tuple[dict[str, Tokens], int]:
            return {key: watched(tokens, lambda *_, key=key: within(f"{prefix}projections.{key}")) for key, tokens in out[0].items()}, out[1]

        return watch

    for name, module in model.named_modules():
        handles.append(module.register_forward_pre_hook(lambda module, given, name=name: names.append(name)))
        handles.append(module.register_forward_hook(end, always_call=True))
        if isinstance(module, Inputs):
            handles.append(module.register_forward_hook(inputs(name)))
    try:
        yield names
    finally:
        for handle in handles:
            handle.remove()
