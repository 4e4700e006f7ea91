"""Exact attention to tokens that lie on a grid, without ever forming the tokens, their keys or their values.

A token at row r and column s is a few channels of data x, beside position channels that are those of its row and those of its column. Any linear
map of such a token, projection, centring, norm gain, keys, values, is a sum of three parts: one of the data, one of the row, one of the column. So

    key(r, s)   = inv(r, s) (K_x x(r, s) + K_row[r] + K_col[s]) + constant,    inv = 1 / standard deviation of the token
    score       = inv (a . x + row[r] + col[s]) + constant,                    a = q K_x, row = q K_row', col = q K_col'
    what is read = V_x sum(p inv x) + sum over r of V_row[r] (sum over s of p inv) + sum over s of V_col[s] (sum over r of p inv) + constant

with p the softmax of the scores. Per query and token that is a handful of multiplications and one exponential, however many position channels there
are, and tables of rows and columns are all that memory holds. docs/factored_attention.md has the algebra step by step.

`parts` takes tokens, norm and linear maps apart; `reading` makes scores of them, and of sums what is read. `operator` is the sum over all tokens,
forward and backward, in `tiles` (PyTorch), `native` (a CPU's compiled kernel) or `gpu` (Triton).
"""

from perceiver.grid_attention.parts import GridParts
from perceiver.grid_attention.reading import read_grid

__all__ = ["GridParts", "read_grid"]
