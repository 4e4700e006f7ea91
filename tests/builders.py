"""Small models and batches that several tests share. Sizes are different small primes, so that no two axes can be mistaken for one another."""

import inspect
import os
import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import jaxtyping
import pytest
import torch
from hypothesis import settings
from torch import Tensor, nn

from perceiver.adapters import Adapter, AudioPatches, ImagePatches, ModalityDropout, TextBytes
from perceiver.blocks import CrossBlock, SelfBlock
from perceiver.decoder import Decoder
from perceiver.encoder import Encoder
from perceiver.models import LateFusion, MeanPool, Perceiver, PerceiverIO
from perceiver.queries import LearnedQueries

ROWS, LATENTS, DIM, CONTEXT_DIM, OUTPUTS, CLASSES = 5, 3, 14, 11, 2, 7
IMAGE_GRID, SAMPLES, PATCHES, BYTES = (2, 5), 65, 13, 17
NAMES = ("image", "audio", "text")
GRIDS = {"image": IMAGE_GRID, "audio": (PATCHES,), "text": (BYTES,)}

bounded = settings(max_examples=25, deadline=None, derandomize=True)
Batch = dict[str, Tensor]


@contextmanager
def without_shape_checks() -> Iterator[None]:
    """Lets wrong shapes and types through to the library's own errors, which is how a user meets them."""
    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        yield
    finally:
        jaxtyping.config.update("jaxtyping_disable", before)


def compiles(test: Callable[..., None]) -> Callable[..., None]:
    """Marks a test that runs the compiler, which warns of itself and cannot see through shape checks."""
    test = without_shape_checks()(test)
    for mark in (
        pytest.mark.filterwarnings("ignore"),
        pytest.mark.skipif(shutil.which("g++") is None, reason="compiling needs a C++ compiler"),
        pytest.mark.slow,
    ):
        test = mark(test)
    return test


def three_adapters() -> dict[str, Adapter]:
    return {
        "image": ImagePatches(2, (6, 15), patch=3, num_bands=2),
        "audio": AudioPatches(50, 1.3, patch=5, num_bands=3),
        "text": TextBytes(BYTES, 7),
    }


def in_a_process_without_shape_checks(test: Callable[[], None]) -> Callable[[], None]:
    """Marks a test of a whole model in the hands of the compiler, which cannot see through the checked constructors of dataclasses either."""
    if os.environ.get("JAXTYPING_DISABLE"):
        return compiles(test)

    def run() -> None:
        where = f"{inspect.getfile(test)}::{test.__name__}"
        command = [sys.executable, "-m", "pytest", "-q", "-m", "slow", "-p", "no:cacheprovider", where]
        done = subprocess.run(command, env=os.environ | {"JAXTYPING_DISABLE": "1"}, capture_output=True, text=True, timeout=280)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]

    run.__doc__ = test.__doc__
    return compiles(run)


def small_encoder(**options: Any) -> Encoder:
    """One read and a stack of one block run twice, unless told otherwise."""
    defaults = dict(cross_attend=(0, None), self_attend=(0, 0), num_layers=1, self_block=partial(SelfBlock, heads=2))
    return Encoder(LATENTS, DIM, CONTEXT_DIM, **{**defaults, **options})


def small_perceiver(modality_dropout: ModalityDropout | None = None) -> Perceiver:
    encoder = small_encoder(cross_attend=(0, 1), self_attend=(0, 0))
    return Perceiver(three_adapters(), encoder, nn.Linear(DIM, CLASSES), modality_dropout=modality_dropout)


def small_perceiver_io(
    adapters: dict[str, Adapter] | None = None, modality_dropout: ModalityDropout | None = None, dropout: float = 0.0
) -> PerceiverIO:
    encoder = small_encoder(cross_block=partial(CrossBlock, dropout=dropout), self_block=partial(SelfBlock, heads=2, dropout=dropout))
    decoder = Decoder(13, DIM)
    return PerceiverIO(
        adapters or three_adapters(), encoder, LearnedQueries(OUTPUTS, 13), decoder, nn.Linear(13, CLASSES), modality_dropout=modality_dropout
    )


def small_mean_pool(modality_dropout: ModalityDropout | None = None) -> MeanPool:
    return MeanPool(three_adapters(), CONTEXT_DIM, 19, CLASSES, modality_dropout=modality_dropout)


def small_late_fusion() -> LateFusion:
    return LateFusion({name: small_perceiver_io({name: adapter}) for name, adapter in three_adapters().items()})


MODELS: dict[str, Callable[[], nn.Module]] = {
    "Perceiver": small_perceiver,
    "PerceiverIO": small_perceiver_io,
    "MeanPool": small_mean_pool,
    "LateFusion": small_late_fusion,
}


def raw_entries(rows: int = ROWS, dtype: torch.dtype = torch.float32) -> Batch:
    """An entry of each modality for each row, with lengths; what lies behind a length is noise."""
    return {
        "image": torch.rand(rows, 2, 6, 15, dtype=dtype),
        "audio": torch.rand(rows, 1, SAMPLES, dtype=dtype) * 2 - 1,
        "audio_length": torch.randint(1, SAMPLES + 1, (rows,)),
        "text": torch.randint(6, 262, (rows, BYTES)),
        "text_length": torch.randint(1, BYTES + 1, (rows,)),
    }


def entry_keys(name: str) -> tuple[str, ...]:
    return (name,) if name == "image" else (name, f"{name}_length")


def whole_batch(entries: Batch, table: Tensor, junk: float = 0.0) -> Batch:
    """The batch in which each entry has all rows; `table` (rows, modalities) says which are real, and the others hold junk."""
    batch = {}
    for name, present in zip(NAMES, table.T, strict=True):
        batch[f"{name}_present"] = present
        for key in entry_keys(name):
            batch[key] = entries[key].clone()
        missing = junk if entries[name].is_floating_point() else -(10**9)
        batch[name][~present] = missing
        # Of a row that has the modality, what lies behind its length is as good as absent, too.
        if f"{name}_length" in batch and junk:
            behind = torch.arange(batch[name].shape[-1]) >= batch[f"{name}_length"][:, None]
            batch[name][behind[:, None] if batch[name].ndim == 3 else behind] = missing
    return batch


def compact_batch(entries: Batch, table: Tensor) -> Batch:
    """The same batch with only those rows in an entry that have it, and no entry where no row has it."""
    batch = {}
    for name, present in zip(NAMES, table.T, strict=True):
        batch[f"{name}_present"] = present
        if present.any():
            batch.update({key: entries[key][present] for key in entry_keys(name)})
    return batch


def presence_table(codes: Sequence[int]) -> Tensor:
    """One row a code: bit i says that the row has modality i."""
    return torch.tensor([[bool(code >> i & 1) for i in range(len(NAMES))] for code in codes])


def gradients(module: nn.Module) -> dict[str, Tensor]:
    return {name: p.grad.clone() for name, p in module.named_parameters() if p.grad is not None}


def randomise(module: nn.Module) -> None:
    """Random values for all parameters, norms and biases included, which most start with a constant."""
    with torch.no_grad():
        for p in module.parameters():
            p.copy_(torch.randn_like(p) * 0.5)


def benchmark_file(name: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What a file of the benchmarks defines, run as from the top of the repository."""
    root = Path(__file__).parent.parent
    monkeypatch.chdir(root)
    monkeypatch.syspath_prepend(str(root / "benchmarks"))
    return runpy.run_path(f"benchmarks/{name}.py")
