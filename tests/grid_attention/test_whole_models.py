"""A whole model whose grids are read in parts, in the hands of PyTorch's tools."""

from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.distributed import destroy_process_group, init_process_group
from torch.multiprocessing import spawn
from torch.nn.parallel import DistributedDataParallel

import perceiver.tokens
from perceiver import AudioPatches, CrossBlock, Decoder, Encoder, FourierPositions, ImagePatches, PerceiverIO, PositionQueries, SelfBlock, recompute
from tests.builders import gradients, in_a_process_without_shape_checks

Batch = dict[str, Tensor]


@pytest.fixture(autouse=True)
def in_parts(monkeypatch):
    monkeypatch.setattr(perceiver.tokens, "LARGE_GRID", 1)


def model(**options) -> PerceiverIO:
    """Two reads of a picture, a grid of two axes, and a sound, which has one; and queries for the places of another grid, which are never formed."""
    torch.manual_seed(0)
    encoder = Encoder(
        num_latents=7,
        dim=16,
        context_dim=12,
        cross_attend=(0, 1),
        self_attend=(0, 1),
        num_layers=1,
        cross_block=partial(CrossBlock, heads=2, qk_dim=16),
        self_block=partial(SelfBlock, heads=2),
        **options,
    )
    adapters = {
        "image": ImagePatches(channels=3, size=(12, 20), patch=2, num_bands=3),
        "audio": AudioPatches(sample_rate=100, max_seconds=1.0, patch=10),
    }
    queries = PositionQueries(FourierPositions((3, 5), 3))
    return PerceiverIO(adapters, encoder, queries, Decoder(query_dim=14, latent_dim=16), nn.Linear(14, 11))


def batch(rows: int = 4) -> Batch:
    draw = torch.Generator().manual_seed(1)
    return {"image": torch.rand(rows, 3, 12, 20, generator=draw), "audio": torch.randn(rows, 1, 100, generator=draw)}


def trained(one: nn.Module, given: Batch) -> dict[str, Tensor]:
    """The output, and the gradients of its mean square."""
    one.zero_grad()
    out = one(given)
    out.square().mean().backward()
    return {"out": out.detach(), **gradients(one)}


def assert_near(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert (found[name] - value).norm() <= 1e-5 * value.norm().clamp_min(1e-2), name


@in_a_process_without_shape_checks
def test_compiled_as_one_graph_it_gives_the_same():
    one = model()
    expected = trained(one, batch())
    # Forward and backward as one graph each; to make machine code of them is PyTorch's own affair, and takes minutes.
    found = trained(torch.compile(one, fullgraph=True, backend="aot_eager"), batch())
    assert_near({name.removeprefix("_orig_mod."): value for name, value in found.items()}, expected)


@in_a_process_without_shape_checks
def test_exported_it_gives_the_same_and_keeps_the_sums_over_the_grid():
    one = model().eval()
    exported = torch.export.export(one, (batch(),))
    torch.testing.assert_close(exported.module()(batch()), one(batch()), rtol=0, atol=1e-6)
    assert "perceiver_lightning.grid_sums" in str(exported)


def test_recomputing_blocks_gives_the_same():
    assert_near(trained(model(run_block=recompute), batch()), trained(model(), batch()))


def test_a_row_without_the_picture_gives_what_it_gives_where_nobody_has_one():
    one, given = model().eval(), batch()
    present = torch.tensor([True, False, True, False])
    some = one(given | {"image_present": present})
    nobody = one({"audio": given["audio"]})
    torch.testing.assert_close(some[~present], nobody[~present], rtol=0, atol=1e-5)
    assert not torch.allclose(some[present], nobody[present], atol=1e-3)


def _rank(rank: int, file: str, folder: str) -> None:
    """One of two processes, with half of the rows."""
    perceiver.tokens.LARGE_GRID = 1
    torch.set_num_threads(1)
    init_process_group("gloo", init_method=f"file://{file}", rank=rank, world_size=2)
    one = DistributedDataParallel(model())
    found = trained(one, {name: entry[rank::2] for name, entry in batch().items()})
    torch.save({name: value for name, value in found.items() if name != "out"}, f"{folder}/{rank}.pt")
    destroy_process_group()


@pytest.mark.slow
def test_two_processes_have_the_gradients_of_one(tmp_path):
    spawn(_rank, (str(tmp_path / "meet"), str(tmp_path)), nprocs=2)
    expected = trained(model(), batch())
    del expected["out"]
    for rank in range(2):
        found = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        assert_near({name.removeprefix("module."): value for name, value in found.items()}, expected)
