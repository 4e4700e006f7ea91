"""Work: FLOPs of the forward pass beside those of the backward pass. A multiplication and an addition are two."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Work:
    """What a part of a model computes.

    Attributes:
        forward: FLOPs of the forward pass.
        backward: FLOPs of the backward pass, by what learns: twice the forward pass for a product of two things that both do.
    """

    forward: int = 0
    backward: int = 0

    @property
    def training(self) -> int:
        """FLOPs of a training step."""
        return self.forward + self.backward

    def __add__(self, other: "Work") -> "Work":
        return Work(self.forward + other.forward, self.backward + other.backward)


def product(rows: int, inner: int, columns: int, *, left: bool = True, right: bool = True) -> Work:
    """A matrix of rows x inner times one of inner x columns.

    Args:
        rows: of the left one.
        inner: columns of the left one, rows of the right one.
        columns: of the right one.
        left: whether the left one has a gradient, which takes a product as large again.
        right: likewise.
    """
    flops = 2 * rows * inner * columns
    return Work(flops, flops * (left + right))
