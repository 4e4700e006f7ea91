"""Fuzzing of what checkpoints hold: it comes back to the last bit, or is refused, by the name of its place, before anything is written."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from safetensors.torch import load_file

from perceiver.checkpoints.content import pack, unpack
from perceiver.checkpoints.folder import write_tensors
from tests.fuzz.cases import check_told, fuzz
from tests.fuzz.mutations import altered, odd_values

DTYPES = (torch.float32, torch.bfloat16, torch.float64, torch.int64, torch.uint8, torch.bool, torch.complex64, torch.float8_e4m3fn, torch.uint16)
KEYS = ("a", "a/b", "$a", "$tensor", "__metadata__", "", "tensor", "'", "ü", "a\0", "\ud800", "state_dict")


def tensor(dtype: torch.dtype, shape: list[int], seed: int) -> torch.Tensor:
    """Noise of any kind; every second time a part of another tensor, and turned on its side."""
    drawn = torch.rand(*shape, 2, generator=torch.Generator().manual_seed(seed)) * 100
    return drawn.to(dtype)[..., 0] if seed % 2 else drawn[..., 0].to(dtype).mT if len(shape) > 1 else drawn[..., 0].to(dtype)


tensors = st.builds(tensor, st.sampled_from(DTYPES), st.lists(st.integers(0, 3), max_size=3), st.integers(0, 9))
arrays = st.one_of(
    st.builds(
        lambda dtype, shape: np.ones(shape, dtype), st.sampled_from(["f4", "f8", "i2", "u4", "?", "c8"]), st.lists(st.integers(0, 3), max_size=3)
    ),
    st.sampled_from([np.arange(6).reshape(2, 3).T, np.arange(5)[::-2], np.broadcast_to(np.float32(3), (2, 2))]),
)
words = st.one_of(st.sampled_from(KEYS), st.text(st.characters(), max_size=4))
simple: SearchStrategy[Any] = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), words, st.sampled_from([torch.float16, torch.device("cpu"), torch.device("cuda", 1)])
)
hashable = st.recursive(simple, lambda inside: st.one_of(st.tuples(inside, inside), st.frozensets(inside, max_size=3)), max_leaves=3)
numbers = st.sampled_from([np.float32(0.25), np.float64("nan"), np.int8(-3), np.uint64(2**63), np.bool_(True), np.str_("a"), np.float16(6)])


def nested(leaves: SearchStrategy[Any]) -> SearchStrategy[Any]:
    """Plain data of any shape with such leaves."""
    return st.recursive(
        leaves,
        lambda inside: st.one_of(
            st.lists(inside, max_size=3),
            st.tuples(inside, inside),
            st.dictionaries(words, inside, max_size=3),
            st.dictionaries(hashable, inside, max_size=2),
        ),
        max_leaves=7,
    )


fit = st.one_of(simple, tensors, arrays, numbers, hashable, st.sets(hashable, max_size=3))
UNFIT = {
    "an object": object(),
    "a function": print,
    "bytes": b"x",
    "a complex number": 1j,
    "one of NumPy": np.complex64(1j),
    "a date": np.datetime64("2020-02-02"),
    "bytes of NumPy": np.bytes_(b"x"),
    "a long float": np.longdouble(0.1),
    "an array of objects": np.array([None, "x"], dtype=object),
    "an array of words": np.array(["x"]),
    "an array of large ends": np.arange(3, dtype=">i4"),
    "an array of records": np.zeros(2, dtype=[("a", "i4")]),
    "a sparse tensor": torch.eye(2).to_sparse(),
    "a tensor without data": torch.ones(2, device="meta"),
    "a wide complex tensor": torch.ones(2, dtype=torch.complex128),
}


def bits(value: torch.Tensor) -> list[int]:
    """The bytes of a tensor."""
    return value.flatten()[:, None].clone(memory_format=torch.contiguous_format).view(torch.uint8).tolist() if value.numel() else []


def same(one: Any, other: Any) -> bool:
    """Whether two contents are alike to the last bit; numbers of NumPy come back as Python's."""
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and one.dtype == other.dtype and one.shape == other.shape and bits(one) == bits(other)
    if isinstance(one, np.ndarray):
        return isinstance(other, np.ndarray) and one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()
    if isinstance(one, np.generic) and not isinstance(one, str):
        return same(one.item(), other)
    if isinstance(one, np.str_):
        return one == other
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return len(one) == len(other) and all(same(*pair) for pair in zip(one.items(), other.items(), strict=True))
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(same(*pair) for pair in zip(one, other, strict=True))
    if isinstance(one, float):
        return one == other and math.copysign(1, one) == math.copysign(1, other) or math.isnan(one) and math.isnan(other)
    if isinstance(one, set | frozenset):
        return len(one) == len(other) and all(any(same(item, found) for found in other) for item in one)
    return one == other


def kept(content: Any, file: Path) -> Any:
    """A content after it went through both formats of a checkpoint."""
    found: dict[str, torch.Tensor] = {}
    packed = pack(content, found)
    file.unlink(missing_ok=True)
    write_tensors(found, file)
    return unpack(json.loads(json.dumps(packed, allow_nan=False).encode()), load_file(file))


@fuzz(1_300, content=nested(fit))
def test_what_a_checkpoint_can_hold_comes_back_to_the_last_bit(content, place):
    assert same(content, kept(content, place / "content.safetensors"))


@fuzz(300, content=nested(fit), keys=st.lists(st.sampled_from(["a", "b", 3, "$c"]), max_size=3), unfit=st.sampled_from(sorted(UNFIT)))
def test_what_it_cannot_hold_is_refused_by_the_name_of_its_place_wherever_it_stands(content, keys, unfit):
    place = "/".join(map(str, ["state", *keys]))
    value = UNFIT[unfit]
    for key in reversed(keys):
        value = {"beside": content, key: value}
    try:
        pack({"state": value}, {})
    except ValueError as error:
        check_told(error, f"{place} is ")
    else:
        raise AssertionError(f"{unfit} was taken")


EXAMPLE = {
    "global_step": 3,
    "states": [{"step": torch.tensor(2.0), "betas": (0.9, 0.95), 0: {"a", "b"}}],
    "best": {"score": math.inf, "dtype": torch.bfloat16, "device": torch.device("cpu"), "array": np.arange(3), "seen": frozenset({1})},
}


@fuzz(900, packed=altered(pack(EXAMPLE, {}), odd_values))
def test_what_no_checkpoint_says_is_refused_or_plain_data(packed):
    kept: dict[str, torch.Tensor] = {}
    pack(EXAMPLE, kept)
    try:
        found = unpack(json.loads(json.dumps(packed)), kept)
    except ValueError as error:
        check_told(error, "")
        return
    assert plain(found)


def plain(value: Any) -> bool:
    """Whether there is nothing in it but what a checkpoint may hold."""
    if isinstance(value, dict):
        return all(plain(item) for pair in value.items() for item in pair)
    if isinstance(value, list | tuple | set | frozenset):
        return all(map(plain, value))
    return value is None or isinstance(value, bool | int | float | str | Path | torch.Tensor | np.ndarray | torch.dtype | torch.device)
