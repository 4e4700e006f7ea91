"""Headers of safetensors files, taken apart and put together again, so that what is wrong in them is not just their length."""

import json
import struct
from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from tests.fuzz.mutations import altered, mutated, odd_values

KINDS = ("F64", "F16", "BF16", "I32", "U32", "U8", "BOOL", "C64", "F8_E4M3", "F8_E8M0", "F4", "F6_E2M3", "X", "")
SIZES = (2**31, 2**32, 2**63, 2**64, 10**30, [0, 140], [140, 0], [5, 7], [2**62, 4], [-1, -140])
TOKENS = (b'"F32"', b'"BOOL"', b'"__metadata__": {}, ', b"[" * 3_000, b"9" * 5_000, b"\\ud800", b"\0", b"\xff", b"null", b"-1")


def apart(content: bytes) -> tuple[bytes, bytes]:
    """The header of a file, and the bytes of its tensors."""
    (length,) = struct.unpack_from("<Q", content)
    return content[8 : 8 + length], content[8 + length :]


def together(header: bytes, tensors: bytes) -> bytes:
    """A file of a header and the bytes of its tensors."""
    return struct.pack("<Q", len(header)) + header + tensors


def changed_tensors(content: bytes) -> SearchStrategy[bytes]:
    """A file of tensors after a few mutations: of all, of its header, or of what the header says."""
    header, tensors = apart(content)
    odd: SearchStrategy[Any] = st.one_of(st.sampled_from(KINDS), st.sampled_from(SIZES), odd_values)
    return st.one_of(
        mutated(content, within=200, tokens=TOKENS),
        mutated(header, tokens=TOKENS).map(lambda found: together(found, tensors)),
        altered(json.loads(header), odd).map(lambda found: together(json.dumps(found).encode(), tensors)),
    )
