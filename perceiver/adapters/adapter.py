"""Adapter: what stands between a raw batch entry and the trunk, one a modality."""

from abc import ABC, abstractmethod

from jaxtyping import Bool
from torch import Tensor

from perceiver.description import Described
from perceiver.tokens import Tokens


class Adapter(Described, ABC):
    """Turns the raw entry of one modality into tokens. A new modality is one subclass, in a file of its own.

    A subclass sets the two widths, and gives `forward`.

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
