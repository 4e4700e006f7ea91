"""`native.cpp`, compiled for this machine the first time that it is needed, and kept.

It takes two or three seconds, never during an import, and once for each machine, compiler and version of the source: the library lies in
`PERCEIVER_CACHE`, or `~/.cache/perceiver`. Where there is no compiler, or it fails, `kernel()` is None, and tiles of PyTorch operations do the work.
"""

import ctypes
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from perceiver.grid_attention.tiles import Given, Sums

SOURCE = Path(__file__).with_name("native.cpp")
FLAGS = ("-O3", "-march=native", "-std=c++17", "-fopenmp", "-shared", "-fPIC")
QUERIES, COLUMNS = 8, 16  # multiples that the kernel asks for
FEW = 8  # channels, up to which it asks for them in the rows of tokens as well
NEVER = -1e30  # added to the score of a token that may not be attended


@functools.cache
def kernel() -> ctypes.CDLL | None:
    """The compiled kernel; None where it cannot be had. `PERCEIVER_NATIVE=0` goes without it."""
    compiler = shutil.which(os.environ.get("CXX", "g++"))
    if compiler is None or os.environ.get("PERCEIVER_NATIVE") == "0":
        return None
    try:
        return ctypes.CDLL(str(_compiled(compiler)))
    except (OSError, subprocess.SubprocessError) as error:
        said = getattr(error, "stderr", None) or str(error)
        warnings.warn(f"attention over grids runs without its compiled kernel, several times slower: {said.strip()[:500]}", stacklevel=2)
        return None


def _compiled(compiler: str) -> Path:
    """The library of this source, compiler and machine; two processes may make it at once, and each puts a whole file there."""
    version = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=True, timeout=60).stdout
    key = hashlib.sha256("\0".join([SOURCE.read_text(), *FLAGS, version, _processor()]).encode()).hexdigest()[:16]
    folder = Path(os.environ.get("PERCEIVER_CACHE") or Path.home() / ".cache/perceiver")
    file = folder / f"grid_attention-{key}.so"
    if not file.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as place:
            made = Path(place) / file.name
            subprocess.run([compiler, *FLAGS, "-o", str(made), str(SOURCE)], capture_output=True, text=True, check=True, timeout=300)
            made.replace(file)
    return file


def _processor() -> str:
    """What `-march=native` depends on."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return "\n".join(sorted({line for line in lines if line.startswith(("flags", "Features", "model name"))}))


def _pointer(x: Tensor | None) -> ctypes.c_void_p:
    return ctypes.c_void_p(None if x is None else x.data_ptr())


def _call(function: str, sizes: Sequence[int], arrays: Sequence[Tensor | None]) -> None:
    loaded = kernel()
    assert loaded is not None
    getattr(loaded, function)(*map(ctypes.c_int64, sizes), *map(_pointer, arrays), ctypes.c_int(torch.get_num_threads()))


class Padded:
    """Arrays as the kernel wants them: without gaps, queries filled up with zeros to a multiple of 8, columns of the tables to one of 16, and those
    of the grid, too, where a token has few channels.

    Args:
        n: queries.
        rows: of the grid.
        cols: of the grid.
        x: data of the tokens.
    """

    def __init__(self, n: int, rows: int, cols: int, x: Tensor) -> None:
        self.shape = (n, rows, cols)
        self.more = -n % QUERIES
        self.wider = -cols % COLUMNS
        few = 0 < x.shape[1] <= FEW
        self.longer = self.wider if few else 0
        self.turned = not few and x.transpose(1, 2).is_contiguous()  # each token's channels lie together
        self.n, self.cols = n + self.more, cols + self.wider
        self.sizes = (len(x), self.n, rows, cols + self.longer, x.shape[1], int(self.turned))

    def queries(self, x: Tensor) -> Tensor:
        """(b, n, ...)."""
        return F.pad(x, [0, 0] * (x.ndim - 2) + [0, self.more]).contiguous() if self.more else x.contiguous()

    def columns(self, x: Tensor) -> Tensor:
        """(b, n, q)."""
        return F.pad(x, (0, self.wider, 0, self.more)).contiguous() if self.more or self.wider else x.contiguous()

    def tokens(self, x: Tensor, fill: float = 0.0) -> Tensor:
        """(..., m)."""
        if not self.longer:
            return x.contiguous()
        return F.pad(x.unflatten(-1, self.shape[1:]), (0, self.longer), value=fill).flatten(-2).contiguous()

    def data(self, x: Tensor) -> Tensor:
        """(b, c, m), or with the channels last where they lie so."""
        return x.transpose(1, 2) if self.turned else self.tokens(x)

    def bias(self, bias: Tensor | None, like: Tensor) -> Tensor | None:
        """(b, m); none when there is none and no column was added."""
        if bias is None:
            if not self.longer:
                return None
            bias = like.new_zeros(like.shape)
        return self.tokens(bias, NEVER)

    def without(self, x: Tensor) -> Tensor:
        """(b, n, ...) without the queries that were added."""
        return x[:, : self.shape[0]] if self.more else x

    def narrow(self, x: Tensor) -> Tensor:
        """(..., m) without the columns that were added."""
        return x.unflatten(-1, (self.shape[1], self.cols))[..., : self.shape[2]].flatten(-2) if self.longer else x


def forward(a: Tensor, row: Tensor, col: Tensor, x: Tensor, inv: Tensor, bias: Tensor | None) -> Sums:
    """`tiles.forward`, compiled."""
    pad = Padded(a.shape[1], row.shape[2], col.shape[2], x)
    lse, sums, rows, cols = (a.new_empty(len(a), pad.n, *rest) for rest in ((), (a.shape[2],), (row.shape[2],), (pad.cols,)))
    given = (pad.queries(a), pad.queries(row), pad.columns(col), pad.data(x), pad.tokens(inv), pad.bias(bias, inv))
    _call("grid_forward", pad.sizes, (*given, lse, sums, rows, cols))
    return pad.without(lse), pad.without(sums), pad.without(rows), pad.without(cols)[..., : pad.shape[2]]


def backward(
    given: Given, lse: Tensor, delta: Tensor, gradients: tuple[Tensor, Tensor, Tensor], wants_x: bool, wants_inv: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """`tiles.backward`, compiled."""
    a, row, col, x, inv, bias = given
    g_sums, g_rows, g_cols = gradients
    pad = Padded(a.shape[1], row.shape[2], col.shape[2], x)
    batch, channels, rows = len(a), a.shape[2], row.shape[2]
    parts = min(rows, -(-torch.get_num_threads() // batch))  # stretches of rows, so that there is one for each thread
    d_a, d_col = a.new_zeros(batch, parts, pad.n, channels), a.new_zeros(batch, parts, pad.n, pad.cols)
    d_row = a.new_empty(batch, pad.n, rows)
    data, deviation = pad.data(x), pad.tokens(inv)
    d_x = x.new_zeros(batch, channels, deviation.shape[1]) if wants_x else None
    d_inv = torch.zeros_like(deviation) if wants_inv else None
    arrays = (pad.queries(a), pad.queries(row), pad.columns(col), data, deviation, pad.bias(bias, inv), pad.queries(lse), pad.queries(delta))
    above = (pad.queries(g_sums), pad.queries(g_rows), pad.columns(g_cols))
    _call("grid_backward", (*pad.sizes, parts), (*arrays, *above, d_a, d_row, d_col, d_x, d_inv))
    return (
        pad.without(d_a.sum(1)),
        pad.without(d_row),
        pad.without(d_col.sum(1))[..., : pad.shape[2]],
        torch.zeros_like(x) if d_x is None else pad.narrow(d_x),
        torch.zeros_like(inv) if d_inv is None else pad.narrow(d_inv),
    )
