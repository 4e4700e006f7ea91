"""Encoder: an array of latents cross-attends to the inputs, and self-attends in between (Perceiver, section 3.1).

Which blocks share weights is written down, not implied. Two lists run side by side, an entry a step: `cross_attend` says
which set of cross-attend weights the step reads the inputs with (None: it does not), `self_attend` which set of
self-attend weights then works on the latents. The same number is the same weights:

    cross_attend=(0,)                self_attend=(0,)           one read, one stack
    cross_attend=(0, None, None)     self_attend=(0, 0, 0)      Perceiver IO: one read, one stack run three times
    cross_attend=(0, 1, 1)           self_attend=(0, 0, 0)      Perceiver: all but the first read share weights

A read takes all modalities side by side, unless `reads` says which. Side by side, attention starts as a mean over all tokens,
and a modality of few tokens beside thousands of another is a whisper there, which may be learned late or not at all; a read of
its own hears it alone.

Letters: b batch, n latents, d their width, m tokens, c their width.
"""

from collections.abc import Callable, Mapping, Sequence

from jaxtyping import Float
from torch import Tensor, nn

from perceiver.blocks import CrossBlock, RunBlock, SelfBlock, run
from perceiver.description import Described
from perceiver.initialization import small_array
from perceiver.registers import SEGMENT, Registers
from perceiver.tokens import Tokens


class LatentArray(Described):
    """The learned array that everything is read into, (n, d).

    Args:
        num_latents: rows of the array.
        dim: width of one latent.
    """

    def __init__(self, num_latents: int, dim: int) -> None:
        super().__init__()
        self.weight = small_array(num_latents, dim)

    def forward(self, batch: int) -> Float[Tensor, "b n d"]:
        """The array, once for each row of a batch."""
        return self.weight.expand(batch, -1, -1)


class Encoder(Described):
    """Reads tokens of any number of modalities into one latent array.

    Args:
        num_latents: rows of the latent array.
        dim: width of a latent.
        context_dim: width of a token, the same for all modalities.
        cross_attend: for each step, which cross-attend weights it reads the inputs with; None = it does not.
        self_attend: for each step, which self-attend weights follow.
        reads: for each set of cross-attend weights, the modalities that it reads; None in the place of a set, or of all: whatever there is.
        num_layers: self-attend blocks in each set of self-attend weights.
        cross_block: makes a cross-attend block from `(dim, context_dim)`.
        self_block: makes a self-attend block from `dim`.
        run_block: calls a block; `perceiver.recompute` saves memory in training.
        registers: learned tokens that every read takes beside its modalities.

    Raises:
        ValueError: when the two lists differ in length, the first step reads nothing, weights are numbered with gaps, `reads` has not
            one entry for each set, or the registers have another width than tokens.
    """

    def __init__(
        self,
        num_latents: int,
        dim: int,
        context_dim: int,
        *,
        cross_attend: Sequence[int | None] = (0,),
        self_attend: Sequence[int] = (0,),
        reads: Sequence[Sequence[str] | None] | None = None,
        num_layers: int = 6,
        cross_block: Callable[[int, int], nn.Module] = CrossBlock,
        self_block: Callable[[int], nn.Module] = SelfBlock,
        run_block: RunBlock = run,
        registers: Registers | None = None,
    ) -> None:
        super().__init__()
        if len(cross_attend) != len(self_attend):
            raise ValueError(
                f"cross_attend has {len(cross_attend)} steps and self_attend {len(self_attend)}: give both the same number (None = no cross-attend)"
            )
        if not cross_attend or cross_attend[0] is None:
            raise ValueError("the first step must read the inputs: start cross_attend with 0, not None")
        if registers is not None and registers.dim != context_dim:
            raise ValueError(f"registers have width {registers.dim} and tokens context_dim={context_dim}: make them equal")
        self.dim = dim
        self.context_dim = context_dim
        self.cross_attend = tuple(cross_attend)
        self.self_attend = tuple(self_attend)
        self.run_block = run_block
        self.registers = registers
        self.latents = LatentArray(num_latents, dim)
        sets = _number_of_sets("cross_attend", [i for i in cross_attend if i is not None])
        self.reads = (None,) * sets if reads is None else tuple(names if names is None else tuple(names) for names in reads)
        if len(self.reads) != sets:
            raise ValueError(f"reads has {len(self.reads)} entries for {sets} sets of cross-attend weights: give one each (None = all modalities)")
        self.cross = nn.ModuleList(cross_block(dim, context_dim) for _ in range(sets))
        stacks = _number_of_sets("self_attend", self_attend)
        self.stacks = nn.ModuleList(nn.Sequential(*(self_block(dim) for _ in range(num_layers))) for _ in range(stacks))

    def forward(self, segments: Mapping[str, Tokens], batch: int) -> Float[Tensor, "b n d"]:
        """The latents after reading all segments.

        Args:
            segments: tokens by modality; their order is the order in which soft weights are recorded, and nothing else.
            batch: number of rows.

        Raises:
            ValueError: when no row has any modality, one is read by no step, or one is called as the registers are.
        """
        if not segments:
            raise ValueError("there is nothing to read: no row has any modality")
        if unread := [name for name in segments if not any(names is None or name in names for names in self.reads)]:
            raise ValueError(f"no step reads {', '.join(unread)}: name it in the encoder's reads, which are {self.reads}")
        if self.registers is not None and SEGMENT in segments:
            raise ValueError(f"a modality is called {SEGMENT!r}, which is the name of the encoder's registers: call it otherwise")
        ready = {name: tokens if tokens.in_parts else tokens.dense() for name, tokens in segments.items()}  # joined once for all reads
        beside = {} if self.registers is None else {SEGMENT: self.registers(batch)}
        x = self.latents(batch)
        for read, stack in zip(self.cross_attend, self.self_attend, strict=True):
            if read is not None:
                names = self.reads[read]
                chosen = {name: tokens for name, tokens in ready.items() if names is None or name in names}
                x = self.run_block(self.cross[read], x, chosen | beside)
            for block in self.stacks[stack].children():
                x = self.run_block(block, x)
        return x


def _number_of_sets(name: str, indices: Sequence[int]) -> int:
    """How many sets of weights the indices name; they must be 0, 1, 2 ... without a gap."""
    if sorted(set(indices)) != list(range(len(set(indices)))):
        raise ValueError(f"{name} numbers its weights {sorted(set(indices))}: number them 0, 1, 2 ... without a gap")
    return len(set(indices))
