"""Content: a checkpoint as plain data on one side and tensors by name on the other, so that JSON and safetensors hold it, and no pickle is needed.

JSON has no tuples, no keys but words, no infinity and no tensors. Those stand as an object with one key that begins with `$`; an object whose own
keys begin so is written as a list of pairs.
"""

import math
from collections.abc import Mapping, Set
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

DTYPES = {str(dtype).removeprefix("torch."): dtype for dtype in vars(torch).values() if isinstance(dtype, torch.dtype)}


def pack(value: Any, tensors: dict[str, Tensor], place: str = "") -> Any:
    """Plain data for JSON; the tensors in it go into `tensors`, under the names of their places.

    Args:
        value: numbers, words, None, lists, tuples, sets, mappings, tensors, arrays, dtypes and devices, one in another.
        tensors: what is found is added here.
        place: where the value stands, for names and messages.

    Raises:
        ValueError: when something in it can only be kept as a pickle, naming its place.
    """
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, np.generic) and isinstance(value.item(), bool | int | float):
        value = value.item()
    if isinstance(value, int | float):
        return pack_number(value)
    if isinstance(value, Tensor):
        check_kept(value, place)
        name = (place or "tensor").encode(errors="backslashreplace").decode()
        while name in tensors or not is_name(name):
            name += "'"
        tensors[name] = value.detach()
        return {"$tensor": name}
    if isinstance(value, np.ndarray):
        try:
            tensor = torch.from_numpy(value.copy())
        except (TypeError, ValueError) as error:  # of words, dates, objects, or the other order of bytes
            raise ValueError(f"{place} is an array of {value.dtype}, which no tensor can hold: keep numbers in state_dict") from error
        return {"$array": pack(tensor, tensors, place)}
    if isinstance(value, Mapping):
        items = [(key, pack(item, tensors, f"{place}/{key}" if place else str(key))) for key, item in value.items()]
        if all(isinstance(key, str) and not key.startswith("$") for key, _ in items):
            return dict(items)
        return {"$dict": [[pack(key, tensors, f"{place}, a key"), item] for key, item in items]}
    if isinstance(value, list | tuple | Set):
        packed = [pack(item, tensors, f"{place}/{number}") for number, item in enumerate(value)]
        kind = "$tuple" if isinstance(value, tuple) else "$frozenset" if isinstance(value, frozenset) else "$set"
        return packed if isinstance(value, list) else {kind: packed}
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, torch.dtype):
        return {"$dtype": str(value).removeprefix("torch.")}
    if isinstance(value, torch.device):
        return {"$device": str(value)}
    raise ValueError(
        f"{place} is a {type(value).__module__}.{type(value).__qualname__}, which only a pickle can hold, and a checkpoint holds none, "
        "because reading one runs code: keep numbers, words, tensors, lists and dicts of them in state_dict"
    )


def check_kept(tensor: Tensor, place: str) -> None:
    """Refuses what safetensors cannot hold.

    Raises:
        ValueError: naming the place of the tensor.
    """
    if tensor.layout is not torch.strided or tensor.is_meta or tensor.is_quantized or tensor.dtype in (torch.complex32, torch.complex128):
        what = "without data" if tensor.is_meta else f"of {tensor.dtype}, {tensor.layout}"
        raise ValueError(f"{place} is a tensor {what}, which a checkpoint cannot hold: keep a dense one of another dtype in state_dict")


def is_name(name: str) -> bool:
    """Whether safetensors keeps a tensor under a name, and gives it back."""
    return name != "__metadata__" and not any("\ud800" <= letter <= "\udfff" for letter in name)


def pack_number(value: int | float) -> Any:
    """A number as JSON takes it: digits that give the same number again, or a word where it has none."""
    return value if isinstance(value, int) or math.isfinite(value) else {"$float": str(value)}


def unpack(packed: Any, tensors: Mapping[str, Tensor]) -> Any:
    """What `pack` was given.

    Raises:
        ValueError: when it names a tensor that is not there, or something that `pack` never writes.
    """
    if isinstance(packed, list):
        return [unpack(item, tensors) for item in packed]
    if not isinstance(packed, dict):
        return packed
    if not any(key.startswith("$") for key in packed):
        return {key: unpack(item, tensors) for key, item in packed.items()}
    if len(packed) == 1:
        (kind, inside), *_ = packed.items()
        try:
            return unpack_kind(kind, inside, tensors)
        except (KeyError, TypeError, AttributeError, RuntimeError) as error:
            raise ValueError(f"{kind!a} holds {str(inside)[:80]!a}, which it cannot") from error
    raise ValueError(f"an object has the keys {', '.join(packed)[:80]!a}, of which one alone may begin with $")


def unpack_kind(kind: str, inside: Any, tensors: Mapping[str, Tensor]) -> Any:
    """What stands for something that JSON has not."""
    match kind:
        case "$tensor":
            return tensors[inside]
        case "$array":
            return unpack(inside, tensors).numpy()
        case "$dict":
            return {unpack(key, tensors): unpack(item, tensors) for key, item in inside}
        case "$tuple":
            return tuple(unpack(item, tensors) for item in inside)
        case "$set":
            return {unpack(item, tensors) for item in inside}
        case "$frozenset":
            return frozenset(unpack(item, tensors) for item in inside)
        case "$float":
            return {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}[inside]
        case "$dtype":
            return DTYPES[inside]
        case "$device":
            return torch.device(inside)
    raise ValueError(f"{kind!a} is nothing that a checkpoint holds")
