"""The counter that closed forms are held against: PyTorch's own, with its gaps closed.

`torch.utils.flop_counter` looks an operator up in a table, and what is not there counts as nothing. Fused attention on a CPU is not there, so
attention is run as two matrix products while it counts; nor are products of a matrix and a vector, and the sums over a grid of this library. Norms,
softmax, nonlinearities, look-ups and Fourier transforms count as nothing on both sides.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

import perceiver.grid_attention.operator  # noqa: F401  # defines the operators below
from perceiver.cost import forms

Shape = tuple[int, ...]


def grid_sums_flops(a: Shape, row: Shape, col: Shape, x: Shape, *rest: Any, **kwargs: Any) -> int:
    """Of `perceiver_lightning::grid_sums`."""
    return forms.grid_sums(a[0] * a[1] * x[2], a[2])


def grid_sums_backward_flops(a: Shape, row: Shape, col: Shape, x: Shape, *rest: Any, **kwargs: Any) -> int:
    """Of `perceiver_lightning::grid_sums_backward`, whose last two arguments say what learns."""
    *_, wants_x, wants_inv = rest
    return forms.grid_sums_backward(a[0] * a[1] * x[2], a[2], data=wants_x, deviation=wants_inv)


def matrix_vector_flops(matrix: Shape, vector: Shape, *rest: Any, **kwargs: Any) -> int:
    """Of `aten::mv`."""
    return forms.linear(1, matrix[1], matrix[0])


def added_matrix_vector_flops(added: Shape, matrix: Shape, vector: Shape, *rest: Any, **kwargs: Any) -> int:
    """Of `aten::addmv`."""
    return forms.linear(1, matrix[1], matrix[0])


OPERATORS = torch.ops.perceiver_lightning
FORMULAS: dict[Any, Any] = {
    OPERATORS.grid_sums: grid_sums_flops,
    OPERATORS.grid_sums_backward: grid_sums_backward_flops,
    torch.ops.aten.mv: matrix_vector_flops,
    torch.ops.aten.addmv: added_matrix_vector_flops,
}


@contextmanager
def counting() -> Iterator[FlopCounterMode]:
    """Counts what runs inside; `get_total_flops()` tells how much that is."""
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False, custom_mapping=FORMULAS) as counter:
        yield counter
