"""The same properties on a CUDA device; run with `pytest -m gpu`."""

import pytest
import torch
from builders import ROWS, presence_table, raw_entries, small_perceiver_io, whole_batch
from torch import nn

import perceiver
from perceiver.grid_attention import gpu, operator, tiles
from perceiver.grid_attention.operator import grid_sums
from perceiver.grid_attention.parts import NEVER

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]


def to_cuda(batch):
    return {key: value.cuda() for key, value in batch.items()}


@pytest.fixture
def model():
    return small_perceiver_io().eval()


def test_the_gpu_gives_what_the_cpu_gives(model):
    batch = whole_batch(raw_entries(), presence_table([7, 1, 2, 4, 5]))
    expected = model(batch)
    assert torch.allclose(model.cuda()(to_cuda(batch)).cpu(), expected, atol=1e-4)


def test_what_lies_behind_a_mask_reaches_neither_an_output_nor_a_gradient(model):
    entries, table = raw_entries(), presence_table([7, 1, 2, 4, 5])
    model = model.cuda()
    clean, junk = (model(to_cuda(whole_batch(entries, table, value))) for value in (0.0, float("nan")))
    assert torch.equal(clean, junk)
    junk.sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


def test_bf16_is_near_fp32(model):
    batch = to_cuda(whole_batch(raw_entries(), presence_table([7] * ROWS)))
    model = model.cuda()
    expected = model(batch)
    with torch.autocast("cuda", torch.bfloat16):
        assert (model(batch).float() - expected).norm() < 0.05 * expected.norm()


def test_every_modality_may_be_absent_from_the_whole_batch(model):
    model = model.cuda()
    for code in (1, 2, 4):
        assert model(to_cuda(whole_batch(raw_entries(), presence_table([code] * ROWS)))).isfinite().all()


def arrays(b, n, r, q, c, dtype=torch.float32):
    """What the sums over a grid are made of, some tokens hidden."""
    draw = [torch.randn(shape, dtype=dtype, device="cuda") for shape in ((b, n, c), (b, n, r), (b, n, q), (b, c, r * q))]
    bias = torch.where(torch.rand(b, r * q, device="cuda") < 0.8, 0.0, NEVER).to(dtype)
    return [*draw, torch.rand(b, r * q, dtype=dtype, device="cuda") + 0.5, bias]


@pytest.mark.parametrize("sizes", [(2, 130, 37, 61, 3), (1, 512, 224, 224, 3), (2, 70, 40, 56, 48), (3, 5, 7, 131, 1), (1, 17, 3, 71, 16)])
def test_kernels_give_the_sums_and_gradients_of_tiles_in_double_precision(sizes):
    assert gpu.available() and operator.path(torch.ones(1, device="cuda")) is gpu
    given = arrays(*sizes, dtype=torch.float64)
    results = []
    for precision in (torch.float64, torch.float32):
        leaves = [t.to(precision, copy=True).requires_grad_() for t in given[:5]]
        found = grid_sums(*leaves, given[5].detach().to(precision))
        torch.manual_seed(1)
        sum((torch.randn(t.shape, device="cuda") * t).sum() for t in found).backward()
        results.append([*(t.detach() for t in found), *(leaf.grad for leaf in leaves)])
    for expected, found in zip(*results, strict=True):
        assert (found - expected).norm() < 2e-5 * expected.norm()


@pytest.mark.parametrize("channels", [3, 7])
def test_scores_that_grow_along_the_grid_are_weighed_against_the_greatest(channels):
    given = arrays(1, 5, 61, 17, channels)
    given[1] = torch.linspace(0, 2000, 61, device="cuda").expand(1, 5, -1).contiguous()
    for found, expected in zip(gpu.forward(*given), tiles.forward(*(t.double() for t in given)), strict=True):
        assert (found - expected).norm() <= 1e-4 * expected.norm()


def picture_model():
    """Pixels that are read in parts, two rows of three."""
    torch.manual_seed(0)
    return perceiver.Perceiver(
        adapters={"image": perceiver.ImagePixels(3, (41, 47))},
        encoder=perceiver.Encoder(13, 16, 24, num_layers=1, self_block=lambda dim: perceiver.SelfBlock(dim, heads=2)),
        head=nn.Linear(16, 7),
    )


def test_a_model_that_reads_pixels_in_parts_learns_the_same_on_both_devices():
    batch = {"image": torch.rand(2, 3, 41, 47), "image_present": torch.tensor([True, False, True])}
    gradients = []
    for device in ("cpu", "cuda"):
        model = picture_model().to(device)
        out = model({key: value.to(device) for key, value in batch.items()})
        out.square().sum().backward()
        gradients.append([out.detach().cpu(), *(p.grad.cpu() for p in model.parameters() if p.grad is not None)])
    for found, expected in zip(*gradients, strict=True):
        assert (found - expected).norm() < 1e-3 * expected.norm().clamp_min(1e-3)  # the gradient of a bias of keys is nothing but rounding


def test_under_autocast_pixels_are_read_in_float32():
    model = picture_model().cuda()
    batch = {"image": torch.rand(2, 3, 41, 47, device="cuda")}
    expected = model(batch)
    with torch.autocast("cuda", torch.bfloat16):
        assert (model(batch).float() - expected).norm() < 0.05 * expected.norm()


def test_the_same_batch_gives_the_same_bits():
    model, batch = picture_model().cuda(), {"image": torch.rand(2, 3, 41, 47, device="cuda")}
    found = []
    for _ in range(2):
        model.zero_grad()
        model(batch).square().sum().backward()
        found.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))
