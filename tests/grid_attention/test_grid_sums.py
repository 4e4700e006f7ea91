"""The sums over a grid: the same on every path, and their gradients."""

import math

import pytest
import torch
from builders import bounded
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, library

from perceiver.grid_attention import native, operator, tiles
from perceiver.grid_attention.operator import grid_sums
from perceiver.grid_attention.parts import NEVER
from tests.builders import without_shape_checks

PATHS = ["native", "tiles"]
Arrays = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor | None]


@pytest.fixture(params=PATHS)
def path(request, monkeypatch):
    """Each way to compute the sums in float32."""
    if request.param == "native" and native.kernel() is None:
        pytest.skip("no C++ compiler")
    monkeypatch.setattr(operator, "path", lambda x: native if request.param == "native" and x.dtype == torch.float32 else tiles)


def arrays(b: int, n: int, r: int, q: int, c: int, share: float = 1.0, dtype: torch.dtype = torch.float32) -> Arrays:
    """Random ones; a token may be attended with a probability of `share`, and the first always."""
    draw = [torch.randn(shape, dtype=dtype) for shape in ((b, n, c), (b, n, r), (b, n, q), (b, c, r * q))]
    bias = torch.where(torch.rand(b, r * q) < share, 0.0, NEVER).to(dtype) if share < 1 else None
    if bias is not None:
        bias[:, 0] = 0
    return (*draw, torch.rand(b, r * q, dtype=dtype) + 0.5, bias)  # type: ignore[return-value]


def written_out(a: Tensor, row: Tensor, col: Tensor, x: Tensor, inv: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The definition, with every score held."""
    scores = (a @ x + (row[..., None] + col[:, :, None]).flatten(2)) * inv[:, None]
    if bias is not None:
        scores = scores + bias[:, None]
    weights = scores.softmax(-1) * inv[:, None]
    by_place = weights.unflatten(2, (row.shape[2], col.shape[2]))
    return scores.logsumexp(-1), weights @ x.transpose(1, 2), by_place.sum(3), by_place.sum(2)


def results(function, given: Arrays) -> list[Tensor]:
    """What a function gives, and the gradients of a random mean of it."""
    leaves = [t.clone().requires_grad_() for t in given[:5]]
    found = function(*leaves, given[5])
    torch.manual_seed(1)
    total = sum((torch.randn(t.shape, dtype=torch.float64).to(t.dtype) * t).sum() for t in found)
    return [*found, *torch.autograd.grad(total, leaves)]


def assert_near(found: list[Tensor], expected: list[Tensor], tolerance: float) -> None:
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.shape == theirs.shape and ours.isfinite().all()
        assert (ours - theirs).norm() <= tolerance * max(theirs.norm(), 1e-3)


@bounded
@given(
    seed=st.integers(0, 10**6),
    rows=st.integers(1, 3),
    queries=st.integers(1, 19),
    down=st.integers(1, 7),
    across=st.integers(1, 37),
    channels=st.integers(1, 7),
    share=st.sampled_from([0.3, 0.9, 1.0]),
)
@pytest.mark.parametrize("kind", [*PATHS, "float64"])
def test_the_sums_and_their_gradients_are_those_of_the_definition(kind, seed, rows, queries, down, across, channels, share):
    if kind == "native" and native.kernel() is None:
        pytest.skip("no C++ compiler")
    torch.manual_seed(seed)
    given = arrays(rows, queries, down, across, channels, share, torch.float64)
    expected = results(written_out, given)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(operator, "path", lambda x: native if kind == "native" else tiles)
        patch.setitem(tiles.TILE, "cpu", 2 * queries * across)  # some tiles
        if kind != "float64":
            given = tuple(None if t is None else t.float() for t in given)  # type: ignore[assignment]
        assert_near([t.double() for t in results(grid_sums, given)], expected, 1e-11 if kind == "float64" else 1e-4)


def test_a_grid_larger_than_a_tile_gives_what_the_definition_gives(path):
    """More rows than a tile, more queries than a task has, more channels than a block of them, and none of them a multiple."""
    given = arrays(2, 43, 97, 29, 11)
    expected = results(written_out, tuple(None if t is None else t.double() for t in given))  # type: ignore[arg-type]
    assert_near([t.double() for t in results(grid_sums, given)], expected, 1e-5)


def test_gradients_pass_gradcheck():
    given = arrays(2, 3, 5, 7, 2, 0.7, torch.float64)
    leaves = [t.requires_grad_() for t in given[:5]]
    assert torch.autograd.gradcheck(lambda *t: grid_sums(*t, given[5]), leaves)


def test_only_the_gradients_that_are_asked_for_are_computed(path):
    given = arrays(2, 3, 5, 7, 2)
    leaves = [t.requires_grad_(name in "a row col") for t, name in zip(given[:5], ("a", "row", "col", "x", "inv"), strict=True)]
    lse, *_ = grid_sums(*leaves)
    lse.sum().backward()
    assert leaves[0].grad is not None and leaves[3].grad is None and leaves[4].grad is None


def test_the_operator_is_what_pytorch_asks_of_one():
    given = arrays(2, 3, 5, 7, 2, 0.7, torch.float64)
    library.opcheck(operator._grid_sums, tuple(t if t is None else t.requires_grad_() for t in given[:5]) + (given[5],))


@pytest.mark.parametrize("size", [1e3, 1e-3])
def test_scores_of_any_size_are_finite_and_right(path, size):
    given = arrays(1, 5, 11, 13, 3)
    given = tuple(None if t is None else t * size if i < 3 else t for i, t in enumerate(given))  # type: ignore[assignment]
    expected = written_out(*(None if t is None else t.double() for t in given))  # type: ignore[arg-type]
    found = grid_sums(*given)
    assert_near([t.double() for t in found], list(expected), 1e-3 if size > 1 else 1e-5)


def test_scores_that_grow_along_the_grid_are_weighed_against_the_greatest(path):
    """Each row is far above all that came before it, so that the shift must follow."""
    given = list(arrays(1, 5, 61, 17, 3))
    given[1] = torch.linspace(0, 2000, 61).expand(1, 5, -1).contiguous()
    found, expected = grid_sums(*given), written_out(*(None if t is None else t.double() for t in given))  # type: ignore[arg-type]
    assert_near([t.double() for t in found], list(expected), 1e-3)


def test_a_hidden_token_is_as_good_as_absent(path):
    """The last row of the grid is hidden: what is left is the grid without it, whatever stood there."""
    a, row, col, x, inv, _ = arrays(2, 5, 7, 11, 3)
    bias = torch.zeros(2, 77)
    bias[:, 66:] = NEVER
    for junk in (0.0, 1e3):
        x[..., 66:] = junk
        lse, sums, rows, cols = grid_sums(a, row, col, x, inv, bias)
        expected = grid_sums(a, row[..., :6].contiguous(), col, x[..., :66].contiguous(), inv[:, :66].contiguous())
        assert_near([lse, sums, rows[..., :6], cols], list(expected), 1e-6)
        assert (rows[..., 6] == 0).all()


def test_not_a_number_in_a_token_that_may_be_attended_is_told(path):
    given = list(arrays(2, 3, 5, 7, 2))
    given[3][1, 0, 17] = math.nan
    lse, sums, rows, cols = grid_sums(*given)
    assert lse[0].isfinite().all() and sums[0].isfinite().all()
    assert lse[1].isnan().all() and sums[1].isnan().all()


def test_without_tokens_or_queries_nothing_is_read():
    lse, sums, rows, cols = grid_sums(*arrays(2, 3, 0, 7, 2))
    assert (lse == -math.inf).all() and (sums == 0).all() and rows.shape == (2, 3, 0) and (cols == 0).all()
    assert [t.shape for t in grid_sums(*arrays(2, 0, 5, 7, 2))] == [(2, 0), (2, 0, 2), (2, 0, 5), (2, 0, 7)]


def test_arrays_with_gaps_give_what_they_give_without(path):
    given = arrays(3, 5, 7, 11, 4)
    gaps = [None if t is None else torch.stack([t, t + 1], -1)[..., 0] for t in given]
    assert not gaps[0].is_contiguous()
    assert_near(list(grid_sums(*gaps)), list(grid_sums(*given)), 1e-6)


def test_a_grid_that_its_tables_do_not_fit_is_refused():
    a, row, col, x, inv, _ = arrays(2, 3, 5, 7, 2)
    with without_shape_checks(), pytest.raises(ValueError, match=r"a grid of 4 x 7 .* does not fit x \(2, 2, 35\)"):
        grid_sums(a, row[..., :4], col, x, inv)


class TestCompiling:
    """The kernel is compiled once, and never needed."""

    @pytest.fixture(autouse=True)
    def fresh(self, tmp_path, monkeypatch):
        monkeypatch.setenv("PERCEIVER_CACHE", str(tmp_path / "cache"))
        native.kernel.cache_clear()
        yield
        native.kernel.cache_clear()

    def test_what_was_compiled_is_used_again(self, tmp_path, monkeypatch):
        if native.kernel() is None:
            pytest.skip("no C++ compiler")
        (file,) = (tmp_path / "cache").iterdir()
        before = file.stat().st_mtime_ns
        native.kernel.cache_clear()
        assert native.kernel() is not None
        assert [path.stat().st_mtime_ns for path in (tmp_path / "cache").iterdir()] == [before]

    def test_without_a_compiler_tiles_do_the_work(self, monkeypatch):
        monkeypatch.setenv("CXX", "no-such-compiler")
        assert native.kernel() is None
        assert all(t.isfinite().all() for t in grid_sums(*arrays(1, 3, 5, 7, 2)))

    def test_a_compiler_that_fails_is_told_and_tiles_do_the_work(self, tmp_path, monkeypatch):
        broken = tmp_path / "broken"
        broken.write_text('#!/bin/sh\n[ "$1" = --version ] && echo 1 && exit\necho "no such instruction" >&2\nexit 1\n')
        broken.chmod(0o755)
        monkeypatch.setenv("CXX", str(broken))
        with pytest.warns(UserWarning, match="runs without its compiled kernel, several times slower: no such instruction"):
            assert native.kernel() is None
        assert not any((tmp_path / "cache").iterdir())

    def test_it_can_be_switched_off(self, monkeypatch):
        monkeypatch.setenv("PERCEIVER_NATIVE", "0")
        assert native.kernel() is None
