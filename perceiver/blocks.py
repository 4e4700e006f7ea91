"""Blocks: pre-norm residual layers that the encoder and the decoder are stacks of (Perceiver IO, appendix E.2).

Letters: b batch, n queries or latents, m context tokens, d their width, c context width.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from perceiver.attention import Attention, Context, once
from perceiver.description import Described, describable
from perceiver.initialization import linear
from perceiver.tokens import Tokens

RunBlock = Callable[..., Tensor]


@describable
def run(block: Callable[..., Tensor], *args: Any) -> Tensor:
    """Calls a block: the default way through a stack."""
    return block(*args)


@describable
def recompute(block: Callable[..., Tensor], *args: Any) -> Tensor:
    """Calls a block and keeps only its inputs; what is inside is computed again in the backward pass.

    Give it to an encoder as `run_block=recompute`: the same numbers in less memory and about a third more time.
    """
    return checkpoint(block, *args, use_reentrant=False)


class MLP(Described, nn.Sequential):
    """Two linear maps with a nonlinearity between, at every place by itself.

    Args:
        dim: width of input and output.
        widening: the hidden width is `widening * dim`.
        activation: what stands between; DeepMind's weights want `nn.GELU("tanh")`.
        dropout: share of the output that is zeroed in training.
    """

    def __init__(self, dim: int, *, widening: int = 4, activation: nn.Module | None = None, dropout: float = 0.0) -> None:
        hidden = widening * dim
        super().__init__(linear(dim, hidden), activation or nn.GELU(), linear(hidden, dim), nn.Dropout(dropout))


class NoSkip(Described):
    """In place of a residual: nothing is added to what was read. `CrossBlock` knows it by its class, and makes nothing of x for it."""


class CrossBlock(Described):
    """x reads a context: `x + attention(norm(x), norm(context))`, then `x + mlp(norm(x))`.

    Args:
        dim: width of x.
        context_dim: width of the context.
        heads: number of attention heads.
        qk_dim: width of queries and keys; `dim` when not given.
        v_dim: width of values; `qk_dim` when not given.
        mlp: makes the MLP from `dim`.
        skip: what is added to the attention's output, of x: `nn.Identity()` is the residual, `NoSkip()` the published decoders' "no query residual".
        attention: the class of the attention.
        dropout: in training, share of the soft weights and of the attention's output that is zeroed.
    """

    def __init__(
        self,
        dim: int,
        context_dim: int,
        *,
        heads: int = 1,
        qk_dim: int | None = None,
        v_dim: int | None = None,
        mlp: Callable[[int], nn.Module] = MLP,
        skip: nn.Module | None = None,
        attention: type[Attention] = Attention,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.norm_x = nn.LayerNorm(dim)
        self.norm_context = nn.LayerNorm(context_dim)
        self.attention = attention(dim, context_dim, heads=heads, qk_dim=qk_dim, v_dim=v_dim, dropout=dropout)
        self.drop = nn.Dropout(dropout)
        self.skip = skip or nn.Identity()
        self.norm_mlp = nn.LayerNorm(dim)
        self.mlp = mlp(dim)

    def forward(self, x: Float[Tensor, "b n d"] | Tokens, context: Context, mask: Bool[Tensor, "b m"] | None = None) -> Float[Tensor, "b n d"]:
        """Reads one tensor `b m c`, or tokens by modality. Where x is tokens of fewer positions than they are, they are never formed to ask."""
        asking: Tensor | Tokens
        if isinstance(x, Tokens) and (normed := replace(x, norm=self.norm_x)).asks_in_parts:
            asking = normed
        else:
            x = x.dense().features if isinstance(x, Tokens) else x
            asking = once(self.norm_x, x)
        read = self.drop(self.attention(asking, self._normed(context), mask))
        x = read if isinstance(self.skip, NoSkip) else read + self.skip(x.dense().features if isinstance(x, Tokens) else x)
        return x + self.mlp(self.norm_mlp(x))

    def _normed(self, context: Context) -> Context:
        if isinstance(context, Mapping):
            return {name: replace(tokens, norm=self.norm_context) for name, tokens in context.items()}
        return self.norm_context(context)


class SelfBlock(Described):
    """x reads itself: `x + attention(norm(x), norm(x))`, then `x + mlp(norm(x))`.

    Args:
        dim: width of x.
        heads: number of attention heads.
        qk_dim: width of queries and keys; `dim` when not given.
        v_dim: width of values; `qk_dim` when not given.
        mlp: makes the MLP from `dim`.
        attention: the class of the attention.
        dropout: in training, share of the soft weights and of the attention's output that is zeroed.
    """

    def __init__(
        self,
        dim: int,
        *,
        heads: int = 8,
        qk_dim: int | None = None,
        v_dim: int | None = None,
        mlp: Callable[[int], nn.Module] = MLP,
        attention: type[Attention] = Attention,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.norm_x = nn.LayerNorm(dim)
        self.attention = attention(dim, heads=heads, qk_dim=qk_dim, v_dim=v_dim, dropout=dropout)
        self.drop = nn.Dropout(dropout)
        self.norm_mlp = nn.LayerNorm(dim)
        self.mlp = mlp(dim)

    def forward(
        self,
        x: Float[Tensor, "b n d"],
        rotate: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] | None = None,
        mask: Bool[Tensor, "b n"] | None = None,
    ) -> Float[Tensor, "b n d"]:
        """One step of the stack; `rotate` turns queries and keys by their positions, and `mask` says what may be attended."""
        y = self.norm_x(x)
        x = x + self.drop(self.attention(y, y, mask, rotate=rotate))
        return x + self.mlp(self.norm_mlp(x))
