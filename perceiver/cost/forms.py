"""Closed forms: FLOPs of layers as functions of their sizes, and the rows of Table 1 of "Attention Is All You Need" with this library's beside them.

A multiplication and an addition are two FLOPs. Matrix products are counted, and what stands in for them; norms, softmax and nonlinearities are not.

Letters as in the papers, where they are capitals: m input tokens (M), c their width (C), n latents (N), d their width (D), o output queries (O).
Besides, k the reach of a convolution, r that of restricted attention.
"""

import math
from collections.abc import Sequence


def linear(rows: int, in_features: int, out_features: int) -> int:
    """One linear map of some rows."""
    return 2 * rows * in_features * out_features


def mlp(rows: int, dim: int, widening: int = 1) -> int:
    """Two linear maps, with `widening` times the width between them."""
    return 2 * linear(rows, dim, widening * dim)


def scores_and_sums(queries: int, keys: int, qk_dim: int, v_dim: int) -> int:
    """softmax(Q K') V without its softmax. The number of heads changes nothing, widths being those of all heads together."""
    return 2 * queries * keys * (qk_dim + v_dim)


def attention(
    queries: int, keys: int | Sequence[int], dim: int, context_dim: int | None = None, qk_dim: int | None = None, v_dim: int | None = None
) -> int:
    """A layer of attention with its four projections.

    Args:
        queries: their number.
        keys: number of context tokens, or of those of each segment that lies in the context.
        dim: width of the queries, and of the output.
        context_dim: width of the context; `dim` when not given.
        qk_dim: width of queries and keys, all heads together; `dim` when not given.
        v_dim: width of values; `qk_dim` when not given.
    """
    context_dim, qk_dim = context_dim or dim, qk_dim or dim
    v_dim = v_dim or qk_dim
    segments = [keys] if isinstance(keys, int) else keys
    read = sum(linear(m, context_dim, qk_dim + v_dim) + scores_and_sums(queries, m, qk_dim, v_dim) for m in segments)
    return linear(queries, dim, qk_dim) + read + linear(queries, v_dim, dim)


def grid_sums(pairs: int, channels: int) -> int:
    """The sums of factored attention (docs/factored_attention.md, step 5), for pairs of a query and a token.

    For each channel of data a product in the score and one in the sum; what row and column add to the score, the token's factor in score and in
    weight, and the weight's place in the sums of its row and its column: six more.
    """
    return pairs * (4 * channels + 6)


def grid_sums_backward(pairs: int, channels: int, *, data: bool, deviation: bool) -> int:
    """The gradients of `grid_sums`, which computes the scores once more.

    Args:
        pairs: of a query and a token.
        channels: of data.
        data: whether the data have a gradient.
        deviation: whether the tokens' factors have one.
    """
    return pairs * (6 * channels + 11 + data * (4 * channels + 1) + deviation * 5)


def self_attention(n: int, d: int) -> int:
    """Table 1, row 1: every token attends to every token. Work n^2 d, with projections n d^2; 1 step; any two are 1 apart."""
    return attention(n, n, d)


def recurrent(n: int, d: int) -> int:
    """Table 1, row 2: h' = f(W x + U h). Work n d^2; n steps one after another; the ends are n apart."""
    return 2 * linear(n, d, d)


def convolution(n: int, d: int, k: int) -> int:
    """Table 1, row 3: each token sees k neighbours. Work k n d^2; 1 step; log_k(n) layers until any two have met, dilated."""
    return k * linear(n, d, d)


def restricted_self_attention(n: int, d: int, r: int) -> int:
    """Table 1, row 4: each token attends to r neighbours. Work r n d; 1 step; n / r layers until any two have met."""
    return 4 * linear(n, d, d) + scores_and_sums(n, r, d, d)


def encode(m: int, c: int, n: int, d: int, qk_dim: int | None = None, v_dim: int | None = None) -> int:
    """n latents read m inputs. Work m n d, with projections m c d; 1 step; 1 apart."""
    return attention(n, m, d, c, qk_dim or c, v_dim)


def latent_self_attention(n: int, d: int, qk_dim: int | None = None, v_dim: int | None = None) -> int:
    """Latents read one another. Work n^2 d + n d^2, whatever the inputs; 1 step; 1 apart."""
    return attention(n, n, d, None, qk_dim, v_dim)


def decode(o: int, e: int, n: int, d: int, qk_dim: int | None = None, v_dim: int | None = None) -> int:
    """o queries of width e read n latents. Work o n d; 1 step; 1 apart."""
    return attention(o, n, e, d, qk_dim, v_dim)


def perceiver_io(*, m: int, c: int, n: int, d: int, layers: int, o: int, e: int, qk_dim: int | None = None, widening: int = 1) -> int:
    """A whole Perceiver IO: one read, `layers` latent layers, one decode, each with its MLP (Perceiver IO, appendix E.3): O([m + o + layers n] n).

    Args:
        m: inputs.
        c: their width.
        n: latents.
        d: their width.
        layers: of latent self-attention, each run counted.
        o: output queries.
        e: their width.
        qk_dim: width of queries and keys in the read; `c` when not given. In the decoder it is `d`.
        widening: hidden width of the MLPs, in widths of what they work on.
    """
    read = encode(m, c, n, d, qk_dim) + mlp(n, d, widening)
    return read + layers * (latent_self_attention(n, d) + mlp(n, d, widening)) + decode(o, e, n, d, d) + mlp(o, e, widening)


def layers_to_meet(n: int, k: int) -> int:
    """log_k(n), in whole layers: the longest path of a stack of dilated convolutions."""
    return max(1, math.ceil(math.log(n, k) - 1e-9)) if n > 1 else 0
