"""Adapter: what stands between a raw batch entry and the trunk, one a modality."""

from abc import ABC, abstractmethod

from jaxtyping import Bool
from torch import Tensor

from perceiver.description import Described
from perceiver.tokens import Tokens


def check_mask(mask: Tensor | None, *shape: int) -> None:
    """Compares a mask, or what lengths say, with the axes along which entries vary.

    Raises:
        ValueError: when it has others.
    """
    if mask is not None and tuple(mask.shape) != shape:
        raise ValueError(f"a mask of {tuple(mask.shape)}, or lengths that make one, for entries that vary along {shape}: give one of {shape}")


class Adapter(Described, ABC):
    """Turns the raw entry of one modality into tokens. A new modality is one subclass, in a file of its own.

    A subclass sets the two widths, and gives `forward`; with `largest`, a model's cost can be told without data.

    Attributes:
        feature_dim: channels of a token that come from the data; best with mean 0 and variance 1.
        position_dim: channels that say where the token stands; 0 for none.
    """

    feature_dim: int
    position_dim: int

    @abstractmethod
    def forward(self, payload: Tensor, mask: Bool[Tensor, "b ..."] | None = None) -> Tokens:
        """Tokens of a raw batch entry.

        Args:
            payload: the entry, first axis the rows that have this modality.
            mask: over the axes along which entries vary (time, or rows and columns); True = valid. What lies
                behind it must not reach a token that may be attended.

        Raises:
            ValueError: when the entry does not fit the adapter.
        """

    def largest(self, rows: int) -> Tensor:
        """A raw entry of the largest size that the adapter is made for, all zeros.

        Args:
            rows: its first axis.

        Raises:
            ValueError: when the adapter does not say how large its entries are.
        """
        raise ValueError(f"{type(self).__name__} does not say how large its entries are: give it a method `largest(rows)`, or a batch of your own")
