"""Decoder and queries: what the output asks, and that it may ask piece by piece."""

import math
from dataclasses import replace
from functools import partial

import pytest
import torch
from builders import randomise

from perceiver.blocks import CrossBlock, NoSkip
from perceiver.decoder import Decoder
from perceiver.positions import FourierPositions, Positions
from perceiver.queries import InputQueries, LearnedQueries, PositionQueries
from perceiver.tokens import Tokens


@pytest.mark.parametrize("chunk_size", [1, 2, 5, 11, 13, 10_000])
def test_queries_answered_in_chunks_equal_queries_answered_at_once(chunk_size: int) -> None:
    whole, pieces = Decoder(10, 7), Decoder(10, 7, chunk_size=chunk_size)
    pieces.load_state_dict(whole.state_dict())
    queries, latents = torch.randn(3, 11, 10), torch.randn(3, 5, 7, requires_grad=True)
    found = []
    for decoder in (whole, pieces):
        latents.grad = None
        out = decoder(queries, latents)
        out.square().sum().backward()
        found.append((out, latents.grad, *(p.grad for p in decoder.parameters())))
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_an_answer_does_not_depend_on_the_other_queries() -> None:
    decoder, queries, latents = Decoder(10, 7), torch.randn(3, 11, 10), torch.randn(3, 5, 7)
    some = torch.tensor([7, 2, 5])
    torch.testing.assert_close(decoder(queries, latents)[:, some], decoder(queries[:, some], latents), rtol=0, atol=1e-5)


@pytest.mark.parametrize("chunk_size", [0, -3])
def test_chunks_without_a_query_are_refused(chunk_size: int) -> None:
    with pytest.raises(ValueError, match=f"chunk_size={chunk_size}"):
        Decoder(10, 7, chunk_size=chunk_size)


def test_the_block_of_a_decoder_is_made_from_the_widths_of_queries_and_latents() -> None:
    decoder = Decoder(10, 7, cross_block=lambda q, d: CrossBlock(q, d, heads=5))
    assert (decoder.cross.attention.to_q.in_features, decoder.cross.attention.to_k.in_features, decoder.cross.attention.heads) == (10, 7, 5)


def masked_tokens() -> Tokens:
    """Rows 4 and 1 of five have 7 tokens, some of them behind the mask, where NaN lies."""
    mask = torch.tensor([[True, False, True, True, False, False, True], [False, True, True, False, False, False, True]])
    return Tokens(torch.randn(2, 7, 3).masked_fill(~mask[..., None], math.nan), (7,), mask=mask, rows=torch.tensor([4, 1]))


def test_learned_queries_are_the_same_in_each_row() -> None:
    queries = LearnedQueries(11, 3)
    out = queries({}, 5)
    assert out.shape == (5, 11, 3) and queries.dim == 3 and (out == queries.weight).all()


def test_position_queries_are_the_table_of_positions() -> None:
    positions = FourierPositions((5, 3), 2)
    queries = PositionQueries(positions)
    out = queries({}, 7).dense().features
    assert out.shape == (7, 15, 10) and queries.dim == 10 and not list(queries.parameters())
    assert (out == positions((5, 3)).dense()).all()


def test_input_queries_are_made_of_tokens_and_read_zero_where_there_is_none() -> None:
    tokens, queries = masked_tokens(), InputQueries("a", 3, 11)
    randomise(queries)
    out = queries({"a": tokens, "b": masked_tokens()}, 5)
    assert out.shape == (5, 7, 11) and queries.dim == 11
    assert (out[[0, 2, 3]] == 0).all()
    expected = queries.project(tokens.features.nan_to_num()).masked_fill(~tokens.mask[..., None], 0)
    torch.testing.assert_close(out[[4, 1]], expected, rtol=0, atol=1e-5)
    out.square().sum().backward()
    assert all(p.grad.isfinite().all() for p in queries.parameters())


def test_queries_made_of_a_modality_that_no_row_has_are_refused_with_those_it_has() -> None:
    with pytest.raises(ValueError, match="'c'.*a, b"):
        InputQueries("c", 3, 11)({"a": masked_tokens(), "b": masked_tokens()}, 5)


def asked(tokens: Tokens, apart: bool, monkeypatch, **options) -> list[torch.Tensor]:
    """What a decoder answers, and all gradients; with the tokens formed, or not."""
    torch.manual_seed(5)
    decoder = Decoder(tokens.dense().features.shape[-1], 7, **options).double()
    randomise(decoder)
    latents = torch.randn(3, 5, 7, dtype=torch.float64, requires_grad=True)
    with monkeypatch.context() as patch:
        if not apart:
            patch.setattr(Tokens, "asks_in_parts", property(lambda self: False))
        seen: list[int] = []
        decoder.cross.norm_x.register_forward_hook(lambda *_: seen.append(1))
        out = decoder(tokens, latents)
        assert len(seen) <= 1 if apart else len(seen) >= 1  # the norm is called on tokens that were formed: at most those of the last chunk
    constant = [] if tokens.constant is None else [tokens.constant]
    leaves = [latents, *decoder.parameters(), *constant, *([tokens.features] if tokens.features.shape[-1] else [])]
    # The bias of keys moves all scores of a query alike, so that its gradient is nothing but rounding.
    gradients = zip(leaves, torch.autograd.grad(out.square().sum(), leaves), strict=True)
    return [out, *(gradient for leaf, gradient in gradients if leaf is not decoder.cross.attention.to_k.bias)]


@pytest.mark.parametrize("chunk_size", [None, 11])
@pytest.mark.parametrize("residual", [True, False])
@pytest.mark.parametrize("kind", ["positions", "places", "data", "mask"])
def test_queries_of_a_grid_that_are_never_formed_are_answered_as_if_they_were(kind, residual, chunk_size, monkeypatch):
    positions = FourierPositions((5, 7, 3), 2)((5, 7, 3))
    positions = Positions(tuple(table.double() for table in positions.axes), positions.groups)
    channels = {"data": 4, "mask": 4}.get(kind, 0)
    features = torch.randn(3, 105, channels, dtype=torch.float64, requires_grad=channels > 0)
    tokens = Tokens(features, (5, 7, 3), positions, torch.rand(3, 105) < 0.7 if kind == "mask" else None)
    if kind == "places":
        constant = torch.randn(6, dtype=torch.float64, requires_grad=True)
        tokens = replace(tokens, features=features[:, :50], places=torch.randperm(105)[:50], constant=constant, grid=(50,))
    block = partial(CrossBlock, heads=2, qk_dim=6, skip=None if residual else NoSkip())
    if chunk_size is not None:  # a chunk of fewer tokens than there are positions is formed, so that there must be more
        chunk_size += 5 + 7 + 3
    for apart, formed in zip(*(asked(tokens, on, monkeypatch, cross_block=block, chunk_size=chunk_size) for on in (True, False)), strict=True):
        assert (apart - formed).norm() <= 1e-11 * formed.norm()


def test_queries_that_are_alike_in_all_rows_are_projected_once():
    decoder, latents = Decoder(10, 7), torch.randn(3, 5, 7)
    rows: list[int] = []
    for layer in (decoder.cross.norm_x, decoder.cross.attention.to_q):
        layer.register_forward_hook(lambda module, args, out: rows.append(len(args[0])))
    queries = torch.randn(11, 10)
    once = decoder(queries.expand(3, -1, -1), latents)
    each = decoder(queries.repeat(3, 1, 1), latents)
    assert rows == [1, 1, 3, 3]
    torch.testing.assert_close(once, each, rtol=0, atol=1e-5)


def test_a_block_that_adds_nothing_to_what_it_read_is_told_so():
    block = CrossBlock(10, 7, skip=NoSkip())
    x, context = torch.randn(3, 11, 10), torch.randn(3, 5, 7)
    read = block.attention(block.norm_x(x), block.norm_context(context))
    torch.testing.assert_close(block(x, context), read + block.mlp(block.norm_mlp(read)))


def test_queries_of_another_width_than_the_decoders_are_refused_by_their_widths():
    positions = FourierPositions((5, 7), 2)((5, 7))
    queries = Tokens(torch.zeros(3, 35, 0), (5, 7), positions)
    with pytest.raises(ValueError, match="tokens of 10 channels do not fit a norm of 14"):
        Decoder(14, 7)(queries, torch.randn(3, 5, 7))
