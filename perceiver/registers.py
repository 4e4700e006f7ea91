"""Registers: learned tokens without a meaning, which are read beside the inputs (Darcet et al. 2023, "Vision Transformers Need Registers").

Soft weights are 1 in sum, so a head that has nothing to look for must look somewhere, and often settles on some token of an input: a sink. Given
registers, it has a place to look away to, and their attention mass says how often it does.

Letters: b batch, r registers, c token width.
"""

from perceiver.description import Described
from perceiver.initialization import small_array
from perceiver.positions import Positions
from perceiver.tokens import Tokens

SEGMENT = "registers"  # what they are called among the modalities


class Registers(Described):
    """Learned tokens that every row has: `Encoder(..., registers=Registers(4, context_dim))`.

    Args:
        num_registers: how many.
        dim: width of a token as the trunk reads it, the encoder's `context_dim`.

    Raises:
        ValueError: when there is none.
    """

    def __init__(self, num_registers: int, dim: int) -> None:
        super().__init__()
        if num_registers < 1:
            raise ValueError(f"num_registers={num_registers}: give at least 1, or no registers at all")
        self.dim = dim
        self.weight = small_array(num_registers, dim)

    def forward(self, batch: int) -> Tokens:
        """The registers, once for each row: tokens that are nothing but their place, (b, r, c) when joined."""
        return Tokens(self.weight.new_empty(batch, len(self.weight), 0), (len(self.weight),), Positions((self.weight,)))
