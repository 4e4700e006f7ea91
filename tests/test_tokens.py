"""Tokens: data and position, joined late; and the trunk, which knows of nothing else."""

import ast
import math
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import perceiver.tokens
from perceiver.positions import FourierPositions, Positions
from perceiver.tokens import Tokens, lengths_to_mask

TRUNK = ("attention", "positions", "tokens", "blocks", "encoder", "decoder")
MODALITY_WORDS = {"image", "audio", "video", "text", "picture", "sound"}


def grid_tokens(mask: bool = True, project: nn.Linear | None = None, positions: Positions | None = None) -> Tokens:
    """Two rows of 5 x 3 tokens with 7 channels of data and 10 of position."""
    valid = torch.rand(2, 15) < 0.6 if mask else None
    return Tokens(torch.randn(2, 15, 7), (5, 3), positions or FourierPositions((5, 3), 2)((5, 3)), valid, project=project)


@pytest.mark.parametrize("masked", [False, True])
def test_dense_tokens_are_the_projection_of_data_beside_position(masked: bool) -> None:
    project = nn.Linear(17, 11)
    tokens = grid_tokens(masked, project)
    features = tokens.features if tokens.mask is None else tokens.features * tokens.mask[..., None]
    joined = torch.cat([features, tokens.positions.dense().expand(2, -1, -1)], -1)
    dense = tokens.dense()
    torch.testing.assert_close(dense.features, project(joined), rtol=0, atol=1e-5)
    assert dense.positions is None and dense.project is None and dense.grid == (5, 3) and dense.mask is tokens.mask


def test_without_a_projection_dense_tokens_are_data_beside_position() -> None:
    tokens = grid_tokens(mask=False)
    assert torch.equal(tokens.dense().features, torch.cat([tokens.features, tokens.positions.dense().expand(2, -1, -1)], -1))


def test_without_positions_dense_tokens_are_the_projection_of_the_data() -> None:
    project, features = nn.Linear(7, 11), torch.randn(2, 5, 7)
    torch.testing.assert_close(Tokens(features, (5,), project=project).dense().features, project(features), rtol=0, atol=1e-5)
    assert torch.equal(Tokens(features, (5,)).dense().features, features)


def test_dense_tokens_stay_as_they_are_when_made_dense_again() -> None:
    dense = grid_tokens(project=nn.Linear(17, 11)).dense()
    once = dense.features.masked_fill(~dense.mask[..., None], 0)
    assert torch.equal(dense.dense().features, once)


@pytest.mark.parametrize("junk", [math.nan, math.inf, -1e30])
@pytest.mark.parametrize("projected", [False, True])
def test_what_lies_behind_the_mask_reaches_neither_a_token_nor_a_gradient(junk: float, projected: bool) -> None:
    project = nn.Linear(17, 11)
    clean = grid_tokens(project=project if projected else None)
    dirty = Tokens(clean.features.masked_fill(~clean.mask[..., None], junk), clean.grid, clean.positions, clean.mask, project=clean.project)
    found = []
    for tokens in (clean, dirty):
        project.zero_grad()
        tokens.features.requires_grad_()
        dense = tokens.dense().features
        dense.square().sum().backward()
        found.append([dense, tokens.features.grad, *([project.weight.grad.clone(), project.bias.grad.clone()] if projected else [])])
    for a, b in zip(*found, strict=True):
        assert b.isfinite().all() and torch.equal(a, b)
    assert (dirty.features.grad[~dirty.mask] == 0).all()


def test_every_row_goes_to_its_place_in_the_batch_and_the_others_read_zero() -> None:
    tokens = Tokens(torch.randn(3, 5, 7), (5,), rows=torch.tensor([6, 1, 4]))
    x = torch.randn(3, 2, 11, requires_grad=True)
    whole = tokens.to_batch(x, 8)
    assert whole.shape == (8, 2, 11)
    assert torch.equal(whole[[6, 1, 4]], x) and (whole[[0, 2, 3, 5, 7]] == 0).all()
    whole.sum().backward()
    assert (x.grad == 1).all()
    assert Tokens(torch.randn(3, 5, 7), (5,)).to_batch(x, 3) is x


@pytest.mark.parametrize("masked", [False, True])
def test_a_token_may_be_attended_where_its_row_has_the_modality_and_its_mask_allows_it(masked: bool) -> None:
    mask = torch.tensor([[True, False, True], [False, False, True]])
    tokens = Tokens(torch.randn(2, 3, 7), (3,), mask=mask if masked else None, rows=torch.tensor([3, 0]))
    expected = torch.zeros(5, 3, dtype=torch.bool)
    expected[3], expected[0] = (mask[0], mask[1]) if masked else (True, True)
    assert torch.equal(tokens.attendable(5), expected)
    assert Tokens(torch.randn(2, 3, 7), (3,)).attendable(2).all()


def test_a_length_becomes_a_mask_of_as_many_places_from_the_start() -> None:
    mask = lengths_to_mask(torch.tensor([0, 3, 5]), 5)
    assert mask.tolist() == [[False] * 5, [True] * 3 + [False] * 2, [True] * 5]
    assert mask.dtype == torch.bool


def test_positions_are_projected_in_the_type_of_the_projection() -> None:
    project = nn.Linear(17, 11, dtype=torch.float64)
    positions = FourierPositions((5, 3), 2)((5, 3))
    features = torch.randn(2, 15, 7, dtype=torch.float64)
    dense = Tokens(features, (5, 3), positions, project=project).dense().features
    assert dense.dtype == torch.float64
    expected = F.linear(torch.cat([features, positions.dense().double().expand(2, -1, -1)], -1), project.weight, project.bias)
    torch.testing.assert_close(dense, expected, rtol=0, atol=1e-12)


def names_and_strings(tree: ast.AST) -> Iterator[str]:
    """Every identifier and string of a module, except its docstrings."""
    docstrings = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and isinstance(node.body[0], ast.Expr):
            docstrings.add(id(node.body[0].value))
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            yield node.value
        for field in ("id", "attr", "name", "arg", "asname", "module"):
            if isinstance(found := getattr(node, field, None), str):
                yield found


def words(name: str) -> set[str]:
    """The words of an identifier or a sentence, in lower case, without a plural's s."""
    return {word.lower().removesuffix("s") for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+", name)}


@pytest.mark.parametrize("name", TRUNK)
def test_the_trunk_never_hears_the_name_of_a_modality(name: str) -> None:
    tree = ast.parse((Path(perceiver.tokens.__file__).parent / f"{name}.py").read_text())
    found = {text for text in names_and_strings(tree) if words(text) & MODALITY_WORDS}
    assert not found


def test_the_search_for_modality_names_finds_them() -> None:
    tree = ast.parse('"""A picture."""\ndef to_images(context, raw_audio):\n    x.TextBytes = "every sound"\n    return context')
    assert {text for text in names_and_strings(tree) if words(text) & MODALITY_WORDS} == {"to_images", "raw_audio", "TextBytes", "every sound"}
