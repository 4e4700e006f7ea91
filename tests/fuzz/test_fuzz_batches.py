"""Fuzzing of batches: each row is answered as it would be alone, whatever is absent or masked has no effect, and what is none is refused by name."""

from collections.abc import Mapping
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import torch
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn
from torch import Tensor, nn

from tests.builders import BYTES, CLASSES, MODELS, NAMES, SAMPLES, randomise
from tests.fuzz.cases import check_told, fuzz

VARYING = {"image": (6, 15), "audio": (SAMPLES,), "text": (BYTES,)}  # the axes along which a mask goes
TOLERANCE = dict(atol=2e-5, rtol=1e-4)
JUNK = {torch.float32: float("nan"), torch.uint8: 255, torch.int64: -(10**9), torch.int32: -(10**9)}


class Entries(NamedTuple):
    """What a batch has of a modality.

    Args:
        values: raw entries, one a row.
        present: which rows have it.
        mask: which places of each are valid.
        by_length: whether lengths say so.
        form: whether the batch has an entry for each row, or one for each row that has it.
        said: whether the batch says which rows have it.
    """

    values: Tensor
    present: Tensor
    mask: Tensor | None
    by_length: bool
    form: str
    said: bool


def content(name: str, rows: int, whole: bool, seed: int) -> Tensor:
    """Raw entries of a modality: pictures of bytes or floats, sounds, ids of one or another width."""
    draw = torch.Generator().manual_seed(seed)
    if name == "image":
        pixels = torch.rand(rows, 2, 6, 15, generator=draw)
        return (pixels * 255).byte() if whole else pixels
    if name == "audio":
        return torch.rand(rows, 1, SAMPLES, generator=draw) * 2 - 1
    return torch.randint(6, 262, (rows, BYTES), generator=draw, dtype=torch.int64 if whole else torch.int32)


@st.composite
def entries(draw: DrawFn, name: str, rows: int) -> Entries:
    """What a batch of so many rows has of a modality."""
    present = torch.tensor(draw(st.one_of(st.just([True] * rows), st.lists(st.booleans(), min_size=rows, max_size=rows))))
    kind = draw(st.sampled_from(["none", "mask", "length"] if name != "image" else ["none", "mask"]))
    mask = None
    if kind == "length":
        lengths = draw(st.lists(st.integers(0, VARYING[name][0]), min_size=rows, max_size=rows))
        mask = torch.arange(VARYING[name][0]) < torch.tensor(lengths)[:, None]
    elif kind == "mask":
        share = torch.tensor(draw(st.lists(st.sampled_from([0.0, 0.1, 0.7, 1.0]), min_size=rows, max_size=rows)))
        drawn = torch.rand(rows, *VARYING[name], generator=torch.Generator().manual_seed(draw(st.integers(0, 99))))
        mask = drawn < share.view(rows, *[1] * len(VARYING[name]))
    values = content(name, rows, draw(st.booleans()), draw(st.integers(0, 99)))
    return Entries(values, present, mask, kind == "length", draw(st.sampled_from(["whole", "compact"])), draw(st.booleans()))


@st.composite
def rows_of(draw: DrawFn) -> dict[str, Entries]:
    """What a batch has of each modality."""
    rows = draw(st.integers(1, 4))
    return {name: draw(entries(name, rows)) for name in NAMES}


def batch_of(found: Mapping[str, Entries], junk: bool = True) -> dict[str, Tensor]:
    """The batch, in which what is absent or masked is NaN, or an id that no table has."""
    batch: dict[str, Tensor] = {}
    for name, one in found.items():
        values = one.values.clone()
        if junk and one.mask is not None:
            values[(~one.mask)[:, None].expand_as(values) if values.ndim > one.mask.ndim else ~one.mask] = JUNK[values.dtype]
        if junk:
            values[~one.present] = JUNK[values.dtype]
        kept = torch.ones_like(one.present) if one.form == "whole" else one.present
        if not one.present.all() or one.said or not kept.any():
            batch[f"{name}_present"] = one.present
        if not kept.any():
            continue
        batch[name] = values[kept]
        if one.mask is not None:
            batch[f"{name}_length" if one.by_length else f"{name}_mask"] = (one.mask.sum(1) if one.by_length else one.mask)[kept]
    return batch


def alone(found: Mapping[str, Entries], row: int) -> dict[str, Tensor]:
    """One row with what it has, and nothing else."""
    only = {name: one._replace(values=one.values[[row]], present=one.present[[row]]) for name, one in found.items() if one.present[row]}
    return batch_of({name: one._replace(mask=None if one.mask is None else one.mask[[row]], said=False) for name, one in only.items()}, junk=False)


@cache
def model(name: str) -> nn.Module:
    """A small model with random weights."""
    torch.manual_seed(3)
    found = MODELS[name]().eval()
    randomise(found)
    return found


@torch.no_grad()
def answers(name: str, batch: Mapping[str, Any]) -> Tensor:
    """A model's answers, or its error."""
    return model(name)(batch)


@fuzz(500, name=st.sampled_from(sorted(MODELS)), found=rows_of())
def test_each_row_is_answered_as_alone_and_nothing_absent_or_masked_has_an_effect(name, found):
    batch = batch_of(found)
    has = torch.stack([one.present for one in found.values()]).any(0)
    if not has.any():
        with_error(name, batch, "no row of the batch has ")
        return
    together = answers(name, batch)
    assert together.shape[0] == len(has) and together.shape[-1] == CLASSES and together.isfinite().all()
    torch.testing.assert_close(answers(name, batch_of(found, junk=False)), together, **TOLERANCE)
    for row in has.nonzero().flatten().tolist():
        torch.testing.assert_close(answers(name, alone(found, row))[0], together[row], **TOLERANCE)


def with_error(name: str, batch: Mapping[str, Any], named: str = "") -> Tensor | None:
    """A model's answers; None when it refuses the batch by name."""
    try:
        return answers(name, batch)
    except ValueError as error:
        check_told(error, named)
        return None


ODD = {
    "nothing": None,
    "a number": 3,
    "words": "cat",
    "a list": [0.5, 0.25],
    "an array": np.zeros((2, 1, SAMPLES), dtype=np.float32),
    "a number as a tensor": torch.tensor(1.0),
    "no rows": torch.zeros(0),
    "no samples": torch.zeros(2, 1, 0),
    "no bytes": torch.zeros(2, 0, dtype=torch.long),
    "a row more": torch.zeros(7, 1, SAMPLES),
    "an axis more": torch.zeros(2, 1, 1, SAMPLES),
    "too long a sound": torch.zeros(2, 1, SAMPLES + 1),
    "too long a text": torch.zeros(2, BYTES + 1, dtype=torch.long),
    "bits": torch.ones(2, dtype=torch.bool),
    "numbers": torch.tensor([1, 0]),
    "floats": torch.tensor([0.5, 1.0]),
    "negative lengths": torch.tensor([-1, -5]),
    "lengths of a kilometre": torch.tensor([10**9, 10**12]),
    "a mask of floats": torch.ones(2, SAMPLES),
    "double precision": torch.zeros(2, 1, SAMPLES, dtype=torch.float64),
    "complex": torch.ones(2, 1, SAMPLES, dtype=torch.complex64),
    "ids beyond the table": torch.full((2, BYTES), 262),
    "negative ids": torch.full((2, BYTES), -1),
}


@fuzz(
    400,
    name=st.sampled_from(sorted(MODELS)),
    found=st.tuples(*(entries(name, 2) for name in NAMES)).map(lambda drawn: dict(zip(NAMES, drawn, strict=True))),
    key=st.sampled_from([f"{name}{suffix}" for name in NAMES for suffix in ("", "_present", "_length", "_mask")]),
    odd=st.sampled_from(sorted(ODD)),
)
def test_what_is_no_batch_is_refused_by_the_name_of_what_is_wrong_or_answered_in_full(name, found, key, odd):
    batch = batch_of(found, junk=False) | {key: ODD[odd]}
    together = with_error(name, batch)
    assert together is None or (together.shape[0] == 2 and together.isfinite().all())
