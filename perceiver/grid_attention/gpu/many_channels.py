"""Attention over a grid on a GPU, for data of many channels: patches of pixels.

As in `few_channels`, but scores and sums over data are matrix products, and a channel of ones, where there is room for one behind the data, lets the
product that sums up data sum up the row, too. Letters and arrays are the same, but that queries are last in rows and vectors alone: A (B N C),
COL (B N Q), SUMS (H S B N C), COLS (H S B N BQ), and so their gradients. Matrix units ask for channels side by side; and where one array of a shape
has queries last, Triton lays out all of that shape so, which made this half as fast. CP channels are a power of two.
"""

from typing import no_type_check

import triton
import triton.language as tl

from perceiver.grid_attention.gpu.few_channels import FAR, LOG2E, rows_together  # noqa: F401  # the last is called by way of either module


@triton.jit
@no_type_check
def _side_by_side(P, b, n, N, C: tl.constexpr, CP: tl.constexpr):
    """Channels of a block of queries or tokens, (BN, CP), from (B, N, C); zeros beside them."""
    c = tl.arange(0, CP)
    return tl.load(P + (b * N + n[:, None]) * C + c[None, :], (n[:, None] < N) & (c[None, :] < C), other=0.0)


@triton.jit
@no_type_check
def _tokens(X, b, at, inside, M, C: tl.constexpr, CP: tl.constexpr):
    """Data of tokens, (CP, BQ); ones in the channel behind the last, zeros in the others."""
    c = tl.arange(0, CP)
    x = tl.load(X + (b * C + c[:, None]) * M + at[None, :], inside[None, :] & (c[:, None] < C), other=0.0)
    return tl.where((c[:, None] == C) & inside[None, :], 1.0, x)


@triton.jit
@no_type_check
def _across(found, w, C: tl.constexpr, CP: tl.constexpr):
    """The sum of w (BN, BQ) over the strip, (BN,): the channel of ones of what was found, or summed up where there is none."""
    if CP > C:
        return tl.sum(tl.where(tl.arange(0, CP)[None, :] == C, found, 0.0), 1)
    else:
        return tl.sum(w, 1)


@triton.jit
@no_type_check
def _store(P, first, n, N, values, known, C: tl.constexpr, CP: tl.constexpr):
    c = tl.arange(0, CP)
    tl.store(P + (first * N + n[:, None]) * C + c[None, :], values, known[:, None] & (c[None, :] < C))


@triton.jit
@no_type_check
def forward(
    A, ROW, COL, X, INV, BIAS, TOP, TOTAL, SUMS, ROWS, COLS,
    B, N, R, Q, strips, height,
    C: tl.constexpr, CP: tl.constexpr, BN: tl.constexpr, BQ: tl.constexpr, BIASED: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """See `few_channels.forward`."""
    part, b = tl.program_id(1), tl.program_id(2).to(tl.int64)
    strip, first = part % strips, (part // strips) * height
    n, q = tl.program_id(0) * BN + tl.arange(0, BN), strip * BQ + tl.arange(0, BQ)
    known, inside = n < N, q < Q
    a = _side_by_side(A, b, n, N, C, CP)
    col = tl.load(COL + (b * N + n[:, None]) * Q + q[None, :], known[:, None] & inside[None, :], other=0.0)
    top, total = tl.full([BN], float("-inf"), tl.float32), tl.zeros([BN], tl.float32)
    sums, cols = tl.zeros([BN, CP], tl.float32), tl.zeros([BN, BQ], tl.float32)
    for r in range(first, min(first + height, R)):
        at = r * Q + q
        inv = tl.load(INV + b * R * Q + at, inside, other=0.0)
        row = tl.load(ROW + (b * R + r) * N + n, known, other=0.0)
        x = _tokens(X, b, at, inside, R * Q, C, CP)
        score = (tl.dot(a, x, input_precision=PRECISION) + row[:, None] + col) * (inv * LOG2E)[None, :]
        if BIASED:
            score += (tl.load(BIAS + b * R * Q + at, inside, other=0.0) * LOG2E)[None, :]
        score = tl.where(inside[None, :], score, float("-inf"))
        highest = tl.max(score, 1)
        grows = highest > top + FAR
        if tl.max(grows.to(tl.int32), 0) > 0:  # rare but for the first row
            higher = tl.where(grows, highest, top)
            shrink = tl.where(grows, tl.exp2(top - higher), 1.0)
            total, sums, cols, top = total * shrink, sums * shrink[:, None], cols * shrink[:, None], higher
            tl.debug_barrier()
            for done in range(first, r):
                place = ROWS + ((strip * B + b) * R + done) * N + n
                tl.store(place, tl.load(place, known, other=0.0) * shrink, known)
        p = tl.exp2(score - top[:, None])
        w = p * inv[None, :]
        found = tl.dot(w, tl.trans(x), input_precision=PRECISION)
        total += tl.sum(p, 1)
        cols += w
        sums += found
        tl.store(ROWS + ((strip * B + b) * R + r) * N + n, _across(found, w, C, CP), known)
    place = part * B + b
    tl.store(TOP + place * N + n, top, known)
    tl.store(TOTAL + place * N + n, total, known)
    _store(SUMS, place, n, N, sums, known, C, CP)
    tl.store(COLS + (place * N + n[:, None]) * BQ + tl.arange(0, BQ)[None, :], cols, known[:, None])


@triton.jit
@no_type_check
def backward_queries(
    A, ROW, COL, X, INV, BIAS, LSE, DELTA, G_SUMS, G_ROW, G_COL, D_A, D_ROW, D_COL,
    B, N, R, Q, strips, height,
    C: tl.constexpr, CP: tl.constexpr, BN: tl.constexpr, BQ: tl.constexpr, BIASED: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """See `few_channels.backward_queries`."""
    part, b = tl.program_id(1), tl.program_id(2).to(tl.int64)
    strip, first = part % strips, (part // strips) * height
    n, q = tl.program_id(0) * BN + tl.arange(0, BN), strip * BQ + tl.arange(0, BQ)
    known, inside = n < N, q < Q
    here, places = known[:, None] & inside[None, :], (b * N + n[:, None]) * Q + q[None, :]
    a, g_sums = _side_by_side(A, b, n, N, C, CP), _side_by_side(G_SUMS, b, n, N, C, CP)
    col, g_col = tl.load(COL + places, here, other=0.0), tl.load(G_COL + places, here, other=0.0)
    lse, delta = tl.load(LSE + b * N + n, known, other=float("inf")), tl.load(DELTA + b * N + n, known, other=0.0)
    d_a, d_col = tl.zeros([BN, CP], tl.float32), tl.zeros([BN, BQ], tl.float32)
    for r in range(first, min(first + height, R)):
        at = r * Q + q
        inv = tl.load(INV + b * R * Q + at, inside, other=0.0)
        row, g_row = tl.load(ROW + (b * R + r) * N + n, known, other=0.0), tl.load(G_ROW + (b * R + r) * N + n, known, other=0.0)
        x = _tokens(X, b, at, inside, R * Q, C, CP)
        score = (tl.dot(a, x, input_precision=PRECISION) + row[:, None] + col) * (inv * LOG2E)[None, :] - lse[:, None]
        if BIASED:
            score += (tl.load(BIAS + b * R * Q + at, inside, other=0.0) * LOG2E)[None, :]
        g = tl.dot(g_sums, x, input_precision=PRECISION) + g_row[:, None] + g_col
        d_u = tl.exp2(score) * inv[None, :] * (g * inv[None, :] - delta[:, None])
        found = tl.dot(d_u, tl.trans(x), input_precision=PRECISION)
        d_a += found
        d_col += d_u
        tl.store(D_ROW + ((strip * B + b) * R + r) * N + n, _across(found, d_u, C, CP), known)
    place = part * B + b
    _store(D_A, place, n, N, d_a, known, C, CP)
    tl.store(D_COL + (place * N + n[:, None]) * BQ + tl.arange(0, BQ)[None, :], d_col, known[:, None])


@triton.jit
@no_type_check
def backward_tokens(
    A, ROW, COL, X, INV, BIAS, LSE, DELTA, G_SUMS, G_ROW, G_COL, D_X, D_INV,
    B, N, R, Q,
    C: tl.constexpr, CP: tl.constexpr, BN: tl.constexpr, BQ: tl.constexpr, BIASED: tl.constexpr, WANTS_X: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """See `few_channels.backward_tokens`; X is (B M C) here."""
    r, b = tl.program_id(0), tl.program_id(2).to(tl.int64)
    q = tl.program_id(1) * BQ + tl.arange(0, BQ)
    inside, at = q < Q, r * Q + q
    inv = tl.load(INV + b * R * Q + at, inside, other=0.0)
    x = _side_by_side(X, b, at, R * Q, C, CP)
    d_x, d_inv = tl.zeros([BQ, CP], tl.float32), tl.zeros([BQ], tl.float32)
    for start in range(0, N, BN):
        n = start + tl.arange(0, BN)
        known = n < N
        here, places = inside[:, None] & known[None, :], (b * N + n[None, :]) * Q + q[:, None]
        a, g_sums = _side_by_side(A, b, n, N, C, CP), _side_by_side(G_SUMS, b, n, N, C, CP)
        row, g_row = tl.load(ROW + (b * R + r) * N + n, known, other=0.0), tl.load(G_ROW + (b * R + r) * N + n, known, other=0.0)
        lse, delta = tl.load(LSE + b * N + n, known, other=float("inf")), tl.load(DELTA + b * N + n, known, other=0.0)
        u = tl.dot(x, tl.trans(a), input_precision=PRECISION) + row[None, :] + tl.load(COL + places, here, other=0.0)
        g = tl.dot(x, tl.trans(g_sums), input_precision=PRECISION) + g_row[None, :] + tl.load(G_COL + places, here, other=0.0)
        score = u * (inv * LOG2E)[:, None] - lse[None, :]
        if BIASED:
            score += (tl.load(BIAS + b * R * Q + at, inside, other=0.0) * LOG2E)[:, None]
        p = tl.exp2(score)
        d_score = p * (g * inv[:, None] - delta[None, :])
        d_inv += tl.sum(d_score * u + p * g, 1)
        if WANTS_X:
            d_x += tl.dot(d_score, a, input_precision=PRECISION) + tl.dot(p, g_sums, input_precision=PRECISION)
    tl.store(D_INV + b * R * Q + at, d_inv, inside)
    if WANTS_X:
        c = tl.arange(0, CP)
        tl.store(D_X + (b * C + c[None, :]) * (R * Q) + at[:, None], d_x * inv[:, None], inside[:, None] & (c[None, :] < C))
