"""The same properties on a CUDA device; run with `pytest -m gpu`."""

import pytest
import torch
from builders import ROWS, presence_table, raw_entries, small_perceiver_io, whole_batch

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
