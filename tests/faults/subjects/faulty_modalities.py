"""Samples of which each lacks some modality, as files, and small models that read them."""

import csv
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from perceiver import Perceiver
from perceiver.adapters import AudioPatches, ImagePatches, ImagePixels, TextBytes
from perceiver.blocks import SelfBlock
from perceiver.data import Manifest
from perceiver.data.batch import collate
from perceiver.data.columns import AudioColumn, ImageColumn, TextColumn
from perceiver.encoder import Encoder
from tests.faults.subjects.faulty_files import wav

RATE, SECONDS, SIDE, BYTES = 8_000, 0.1, 36, 17
SAMPLES = ("image audio text", "image", "text", "audio text", "audio")  # what each has
MODALITIES = ("image", "audio", "text")
Batch = dict[str, Tensor]


def samples(folder: Path) -> Manifest:
    """A table of five samples, with pictures, sounds of different lengths, and texts."""
    draw = np.random.default_rng(3)
    lines = []
    for number, names in enumerate(SAMPLES):
        Image.fromarray(draw.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)).save(folder / f"{number}.png")
        (folder / f"{number}.wav").write_bytes(wav(draw.integers(-9_000, 9_000, 200 + 100 * number, dtype=np.int16).tobytes()))
        cells = {"image": f"{number}.png", "audio": f"{number}.wav", "text": "a text"[: 3 + number], "split": "train"}
        lines.append({name: cell for name, cell in cells.items() if name == "split" or name in names.split()})
    with open(folder / "list.csv", "w", newline="") as file:
        table = csv.DictWriter(file, (*MODALITIES, "split"))
        table.writeheader()
        table.writerows(lines)
    columns = {"image": ImageColumn((SIDE, SIDE)), "audio": AudioColumn(RATE, SECONDS), "text": TextColumn(BYTES)}
    return Manifest(folder / "list.csv", columns=columns)


def batch_of(source: Manifest, *numbers: int) -> Batch:
    """Some of the samples as a batch; pictures as floats."""
    rows = source.rows("train")
    batch = collate([rows.row(number, np.random.default_rng(0)) for number in numbers], MODALITIES, ("audio", "text"))
    return batch | ({"image": batch["image"] / 255} if "image" in batch else {})


def model(pixels: bool) -> nn.Module:
    """A Perceiver with random weights; its pictures become patches, or so many pixels that they are read in parts."""
    torch.manual_seed(7)
    image = ImagePixels(3, (SIDE, SIDE), num_bands=3) if pixels else ImagePatches(3, (SIDE, SIDE), patch=6, num_bands=3)
    adapters = {"image": image, "audio": AudioPatches(RATE, SECONDS, patch=40, num_bands=3), "text": TextBytes(BYTES, 7)}
    encoder = Encoder(3, 14, 11, cross_attend=(0, 1), self_attend=(0, 0), num_layers=1, self_block=partial(SelfBlock, heads=2))
    built = Perceiver(adapters, encoder, nn.Linear(14, 5))
    with torch.no_grad():
        randomise(built)
    return built


def outcome(built: nn.Module, batch: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
    """The outputs of a model, and the gradients of their squares."""
    built.zero_grad()
    outputs = built(batch)
    outputs.square().sum().backward()
    return outputs.detach(), {name: weight.grad.clone() for name, weight in built.named_parameters() if weight.grad is not None}


def same(found: Any, wanted: Any) -> bool:
    """Whether outputs and gradients are finite, and the same to the last bit."""
    (outputs, gradients), (others, theirs) = found, wanted
    finite = all(bool(one.isfinite().all()) for one in (outputs, *gradients.values()))
    return finite and torch.equal(outputs, others) and gradients.keys() == theirs.keys() and all(torch.equal(gradients[k], theirs[k]) for k in theirs)


def published(inputs: Tensor, mask: Tensor) -> Tensor:
    """What the Perceiver of transformers makes of masked inputs, with random weights that are the same each time."""
    from transformers import PerceiverConfig, PerceiverModel

    torch.manual_seed(7)
    config = PerceiverConfig(num_latents=3, d_latents=16, d_model=inputs.shape[-1], num_blocks=1, num_self_attends_per_block=1)
    config.num_self_attention_heads = config.num_cross_attention_heads = 2
    built = PerceiverModel(config).eval()
    with torch.no_grad():
        randomise(built)
        return built(inputs=inputs, attention_mask=mask).last_hidden_state


def randomise(built: nn.Module) -> None:
    """Random weights for all of a model, without gradients."""
    for parameter in built.parameters():
        parameter.copy_(0.5 * torch.randn_like(parameter))
