"""Attention over a grid on a GPU, for data of few channels: pixels.

All arithmetic is plain. A thread has some queries and all tokens of a strip's row, so that sums over tokens stay inside of it; in the gradients of
tokens it has some tokens and a block of queries, for the same reason.

One program takes a block of queries down a strip of the grid, row by row: some columns wide, and as high as its share of the rows. What belongs to
the strip's columns stays in registers. Programs know nothing of one another: what they find is relative to a score of their own, and `__init__.py`
puts it together. Nothing is added up by atomics, so the same input gives the same bits.

Letters: B batch, N queries, R rows, Q columns, M = R Q tokens, C channels, S strips wide, H strips high. Powers are those of two. Arrays have queries
last: A (B C N), ROW (B R N), COL (B Q N), LSE and DELTA (B N); and X (B C M), INV and BIAS (B M). Gradients are named with G where they come in and D
where they go out.
"""

from typing import no_type_check  # who wraps functions that have annotations, such as jaxtyping, would wrap kernels

import triton
import triton.language as tl

LOG2E = tl.constexpr(1.4426950408889634)
FAR = tl.constexpr(60.0)  # a weight may be as much as 2^60 before what it is relative to must follow


@triton.jit
@no_type_check
def _channels(P, first, step, inside, C: tl.constexpr):
    """A tuple of vectors, one a channel."""
    found = ()
    for c in tl.static_range(C):
        found = found + (tl.load(P + first + c * step, inside, other=0.0),)
    return found


@triton.jit
@no_type_check
def _zeros(like, C: tl.constexpr):
    found = ()
    for _ in tl.static_range(C):
        found = found + (tl.zeros_like(like),)
    return found


@triton.jit
@no_type_check
def _scaled(sums, factor, C: tl.constexpr):
    found = ()
    for c in tl.static_range(C):
        found = found + (sums[c] * factor,)
    return found


@triton.jit
@no_type_check
def _with_sums(sums, w, x, C: tl.constexpr):
    """Sums with those of w (tokens, queries) times each channel of x over the tokens."""
    found = ()
    for c in tl.static_range(C):
        found = found + (sums[c] + tl.sum(w * x[c][:, None], 0),)
    return found


@triton.jit
@no_type_check
def _plus_products(start, x, a, C: tl.constexpr):
    """start (tokens, queries) and the sum over channels of x a."""
    for c in tl.static_range(C):
        start += x[c][:, None] * a[c][None, :]
    return start


@triton.jit
@no_type_check
def _store(P, first, step, values, known, C: tl.constexpr):
    for c in tl.static_range(C):
        tl.store(P + first + c * step, values[c], known)


@triton.jit
@no_type_check
def forward(
    A, ROW, COL, X, INV, BIAS, TOP, TOTAL, SUMS, ROWS, COLS,
    B, N, R, Q, strips, height,
    C: tl.constexpr, BN: tl.constexpr, BQ: tl.constexpr, BIASED: tl.constexpr,
):  # fmt: skip
    """TOP, TOTAL (H S B N), SUMS (H S B C N), ROWS (S B R N), COLS (H S B BQ N): all sums of a program are relative to 2^TOP."""
    part, b = tl.program_id(1), tl.program_id(2).to(tl.int64)
    strip, first = part % strips, (part // strips) * height
    n, q = tl.program_id(0) * BN + tl.arange(0, BN), strip * BQ + tl.arange(0, BQ)
    known, inside = n < N, q < Q
    a = _channels(A, b * C * N + n, N, known, C)
    col = tl.load(COL + (b * Q + q[:, None]) * N + n[None, :], inside[:, None] & known[None, :], other=0.0)
    top, total = tl.full([BN], float("-inf"), tl.float32), tl.zeros([BN], tl.float32)
    sums, cols = _zeros(total, C), tl.zeros([BQ, BN], tl.float32)
    for r in range(first, min(first + height, R)):
        at = r * Q + q
        inv = tl.load(INV + b * R * Q + at, inside, other=0.0)
        row = tl.load(ROW + (b * R + r) * N + n, known, other=0.0)
        x = _channels(X, b * C * R * Q + at, R * Q, inside, C)
        score = _plus_products(col + row[None, :], x, a, C) * (inv * LOG2E)[:, None]
        if BIASED:
            score += (tl.load(BIAS + b * R * Q + at, inside, other=0.0) * LOG2E)[:, None]
        score = tl.where(inside[:, None], score, float("-inf"))
        highest = tl.max(score, 0)
        grows = highest > top + FAR
        if tl.max(grows.to(tl.int32), 0) > 0:  # rare but for the first row
            higher = tl.where(grows, highest, top)
            shrink = tl.where(grows, tl.exp2(top - higher), 1.0)
            total, sums, cols, top = total * shrink, _scaled(sums, shrink, C), cols * shrink[None, :], higher
            tl.debug_barrier()
            for done in range(first, r):
                place = ROWS + ((strip * B + b) * R + done) * N + n
                tl.store(place, tl.load(place, known, other=0.0) * shrink, known)
        p = tl.exp2(score - top[None, :])
        w = p * inv[:, None]
        total += tl.sum(p, 0)
        cols += w
        sums = _with_sums(sums, w, x, C)
        tl.store(ROWS + ((strip * B + b) * R + r) * N + n, tl.sum(w, 0), known)
    place = (part * B + b) * N + n
    tl.store(TOP + place, top, known)
    tl.store(TOTAL + place, total, known)
    _store(SUMS, (part * B + b) * C * N + n, N, sums, known, C)
    tl.store(COLS + ((part * B + b) * BQ + tl.arange(0, BQ)[:, None]) * N + n[None, :], cols, known[None, :])


@triton.jit
@no_type_check
def rows_together(ROWS, SHARE, OUT, B, N, R, strips, height, BN: tl.constexpr, BR: tl.constexpr):
    """OUT (B N R): the sum over all strips of ROWS (S B R N) times SHARE (H S B N)."""
    b = tl.program_id(2).to(tl.int64)
    n, r = tl.program_id(0) * BN + tl.arange(0, BN), tl.program_id(1) * BR + tl.arange(0, BR)
    here = (r[:, None] < R) & (n[None, :] < N)
    total = tl.zeros([BR, BN], tl.float32)
    for strip in range(strips):
        share = tl.load(SHARE + (((r[:, None] // height) * strips + strip) * B + b) * N + n[None, :], here, other=0.0)
        total += tl.load(ROWS + ((strip * B + b) * R + r[:, None]) * N + n[None, :], here, other=0.0) * share
    tl.store(OUT + (b * N + n[:, None]) * R + r[None, :], tl.trans(total), tl.trans(here))


@triton.jit
@no_type_check
def backward_queries(
    A, ROW, COL, X, INV, BIAS, LSE, DELTA, G_SUMS, G_ROW, G_COL, D_A, D_ROW, D_COL,
    B, N, R, Q, strips, height,
    C: tl.constexpr, BN: tl.constexpr, BQ: tl.constexpr, BIASED: tl.constexpr,
):  # fmt: skip
    """D_A (H S B C N), D_ROW (S B R N), D_COL (H S B BQ N)."""
    part, b = tl.program_id(1), tl.program_id(2).to(tl.int64)
    strip, first = part % strips, (part // strips) * height
    n, q = tl.program_id(0) * BN + tl.arange(0, BN), strip * BQ + tl.arange(0, BQ)
    known, inside = n < N, q < Q
    here, places = inside[:, None] & known[None, :], (b * Q + q[:, None]) * N + n[None, :]
    a, g_sums = _channels(A, b * C * N + n, N, known, C), _channels(G_SUMS, b * C * N + n, N, known, C)
    col, g_col = tl.load(COL + places, here, other=0.0), tl.load(G_COL + places, here, other=0.0)
    lse, delta = tl.load(LSE + b * N + n, known, other=float("inf")), tl.load(DELTA + b * N + n, known, other=0.0)
    d_a, d_col = _zeros(lse, C), tl.zeros([BQ, BN], tl.float32)
    for r in range(first, min(first + height, R)):
        at = r * Q + q
        inv = tl.load(INV + b * R * Q + at, inside, other=0.0)
        row, g_row = tl.load(ROW + (b * R + r) * N + n, known, other=0.0), tl.load(G_ROW + (b * R + r) * N + n, known, other=0.0)
        x = _channels(X, b * C * R * Q + at, R * Q, inside, C)
        score = _plus_products(col + row[None, :], x, a, C) * (inv * LOG2E)[:, None] - lse[None, :]
        if BIASED:
            score += (tl.load(BIAS + b * R * Q + at, inside, other=0.0) * LOG2E)[:, None]
        g = _plus_products(g_col + g_row[None, :], x, g_sums, C)
        d_u = tl.exp2(score) * inv[:, None] * (g * inv[:, None] - delta[None, :])
        d_col += d_u
        d_a = _with_sums(d_a, d_u, x, C)
        tl.store(D_ROW + ((strip * B + b) * R + r) * N + n, tl.sum(d_u, 0), known)
    _store(D_A, (part * B + b) * C * N + n, N, d_a, known, C)
    tl.store(D_COL + ((part * B + b) * BQ + tl.arange(0, BQ)[:, None]) * N + n[None, :], d_col, known[None, :])


@triton.jit
@no_type_check
def backward_tokens(
    A, ROW, COL, X, INV, BIAS, LSE, DELTA, G_SUMS, G_ROW, G_COL, D_X, D_INV,
    B, N, R, Q,
    C: tl.constexpr, BN: tl.constexpr, BQ: tl.constexpr, BIASED: tl.constexpr, WANTS_X: tl.constexpr,
):  # fmt: skip
    """D_X (B C M), D_INV (B M): a program takes some tokens of one row through all queries. COL and G_COL are (B N Q) here."""
    r, b = tl.program_id(0), tl.program_id(2).to(tl.int64)
    q = tl.program_id(1) * BQ + tl.arange(0, BQ)
    inside, at = q < Q, r * Q + q
    inv = tl.load(INV + b * R * Q + at, inside, other=0.0)
    x = _channels(X, b * C * R * Q + at, R * Q, inside, C)
    bias = tl.zeros_like(inv)
    if BIASED:
        bias += tl.load(BIAS + b * R * Q + at, inside, other=0.0) * LOG2E
    d_x, d_inv = _zeros(inv, C), tl.zeros_like(inv)
    for start in range(0, N, BN):
        n = start + tl.arange(0, BN)
        known = n < N
        here, places = known[:, None] & inside[None, :], (b * N + n[:, None]) * Q + q[None, :]
        a, g_sums = _channels(A, b * C * N + n, N, known, C), _channels(G_SUMS, b * C * N + n, N, known, C)
        row, g_row = tl.load(ROW + (b * R + r) * N + n, known, other=0.0), tl.load(G_ROW + (b * R + r) * N + n, known, other=0.0)
        lse, delta = tl.load(LSE + b * N + n, known, other=float("inf")), tl.load(DELTA + b * N + n, known, other=0.0)
        u = _plus_products(tl.load(COL + places, here, other=0.0) + row[:, None], a, x, C)
        g = _plus_products(tl.load(G_COL + places, here, other=0.0) + g_row[:, None], g_sums, x, C)
        p = tl.exp2(u * (inv * LOG2E)[None, :] + bias[None, :] - lse[:, None])
        d_score = p * (g * inv[None, :] - delta[:, None])
        d_inv += tl.sum(d_score * u + p * g, 0)
        if WANTS_X:
            d_x = _with_sums(_with_sums(d_x, d_score, a, C), p, g_sums, C)
    tl.store(D_INV + b * R * Q + at, d_inv, inside)
    if WANTS_X:
        _store(D_X, b * C * R * Q + at, R * Q, _scaled(d_x, inv, C), inside, C)
