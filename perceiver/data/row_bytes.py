"""Row bytes: a row of tensors and numbers as bytes, and back, exactly.

No pickle: what is read are numbers and their shapes, and reading runs no code, whoever wrote the bytes. Each row says what it
holds, so that rows of one dataset may hold different entries: a length (uint32, little-endian), that many bytes of JSON with
the names, types and shapes of the tensors and with the plain numbers, and then the tensors' values, one after another.
"""

import json
import math
import struct

import torch
from torch import Tensor

from perceiver.data.rows import BadSample, Row

KINDS = ("uint8", "int8", "int16", "int32", "int64", "float16", "bfloat16", "float32", "float64", "bool")
DTYPES: dict[str, torch.dtype] = {kind: getattr(torch, kind) for kind in KINDS}
LENGTH = struct.Struct("<I")


def to_bytes(row: Row, sample: str) -> bytes:
    """A row as bytes.

    Args:
        row: tensors, whole numbers, floats and booleans, by name.
        sample: its id, for the message.

    Raises:
        ValueError: when an entry is something else.
    """
    numbers = {name: value for name, value in row.items() if type(value) in (bool, int, float)}
    tensors = {name: value for name, value in row.items() if isinstance(value, Tensor) and kind(value) in DTYPES}
    for name, value in row.items():
        if name not in numbers and name not in tensors:
            what = kind(value) if isinstance(value, Tensor) else type(value).__name__
            raise ValueError(f"{sample}: {name!r} is a {what}, and shards hold tensors ({', '.join(KINDS)}) and plain numbers: convert it")
    shapes = [[name, kind(tensor), list(tensor.shape)] for name, tensor in tensors.items()]
    header = json.dumps({"numbers": numbers, "tensors": shapes}).encode()
    values = (tensor.detach().cpu().reshape(-1).contiguous().view(torch.uint8).numpy().tobytes() for tensor in tensors.values())
    return b"".join([LENGTH.pack(len(header)), header, *values])


def from_bytes(data: bytes, sample: str) -> Row:
    """The row of which these are the bytes; its tensors are its own.

    Raises:
        BadSample: when they are not a row's.
    """
    try:
        (length,) = LENGTH.unpack_from(data)
        place = LENGTH.size + length
        header = json.loads(data[LENGTH.size : place])
        row: Row = dict(header["numbers"])
        for name, type_name, shape in header["tensors"]:
            dtype = DTYPES[type_name]
            end = place + math.prod(shape) * dtype.itemsize
            values = bytearray(data[place:end])
            row[name] = torch.frombuffer(values, dtype=dtype).reshape(shape) if values else torch.empty(shape, dtype=dtype)
            place = end
    except (struct.error, ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
        raise BadSample(sample, f"its bytes are not a row ({type(error).__name__}: {error}): write the shards again") from error
    if place != len(data):
        raise BadSample(sample, f"it has {len(data)} bytes where its header says {place}: write the shards again")
    return row


def kind(tensor: Tensor) -> str:
    """The name of its type of number."""
    return str(tensor.dtype).removeprefix("torch.")
