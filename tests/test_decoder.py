"""Decoder and queries: what the output asks, and that it may ask piece by piece."""

import math

import pytest
import torch
from builders import randomise

from perceiver.blocks import CrossBlock
from perceiver.decoder import Decoder
from perceiver.positions import FourierPositions
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
    out = queries({}, 7)
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
