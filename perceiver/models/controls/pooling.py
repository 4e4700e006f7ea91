"""Pooling: one vector for each modality of a row, of its tokens alone; and the MLP that controls end in.

Letters: b batch, m tokens, d their width.
"""

from collections.abc import Mapping

from jaxtyping import Bool, Float
from torch import Tensor, nn

from perceiver.adapters import Inputs
from perceiver.tokens import Tokens


def mean_tokens(inputs: Inputs, segments: Mapping[str, Tokens], batch: int) -> dict[str, tuple[Float[Tensor, "b d"], Bool[Tensor, " b"]]]:
    """The mean of the tokens that may be attended, for every modality of a model, and which rows have such a token; the others read zero."""
    found = {}
    for name in inputs.adapters:
        if name not in segments:
            empty = next(inputs.parameters()).new_zeros(batch, inputs.dim)
            found[name] = empty, empty.new_zeros(batch).bool()
            continue
        features, valid = in_place(segments[name], batch)
        found[name] = features.sum(1) / valid.sum(1, keepdim=True).clamp_min(1), valid.any(1)
    return found


def in_place(tokens: Tokens, batch: int) -> tuple[Float[Tensor, "b m d"], Bool[Tensor, "b m"]]:
    """Tokens as they reach the trunk, each row's in its place of the whole batch, and which of them may be attended; the others read zero."""
    dense = tokens.dense()
    valid = dense.attendable(batch)
    return dense.to_batch(dense.features, batch).masked_fill(~valid[..., None], 0), valid


def mlp(dim: int, hidden_dim: int, num_outputs: int) -> nn.Sequential:
    """A norm, two hidden layers, and outputs."""
    return nn.Sequential(
        nn.LayerNorm(dim),
        nn.Linear(dim, hidden_dim),
        nn.GELU(),
        nn.Linear(hidden_dim, hidden_dim),
        nn.GELU(),
        nn.Linear(hidden_dim, num_outputs),
    )
