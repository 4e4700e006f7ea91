"""A modality is absent: no row has it, or all that a row has of it is masked."""

from pathlib import Path

import torch
from torch import Tensor

from perceiver.soft_weights import record_attention, record_mass
from perceiver.softmax import attend, soft_weights
from tests.faults.scoreboard import Fell
from tests.faults.subjects.faulty_modalities import batch_of, model, outcome, published, same, samples

FAULT = "a modality is absent, or masked from end to end"
EXPECTED = "it adds exactly nothing, and no NaN; diagnostics change nothing"
NOT_APPLICABLE = dict.fromkeys(("lightning", "accelerate"), "it has no attention of its own")


def ours(folder: Path) -> str:
    """Samples of a table with empty cells; rows without a key; random masks against sums in float64."""
    source = samples(folder)
    for pixels in (False, True):
        built = model(pixels)
        mixed = batch_of(source, 0, 1, 2, 3, 4)
        with_sound, without = batch_of(source, 0, 3), {name: value for name, value in batch_of(source, 1, 2).items() if not name.startswith("audio")}
        absent = without | {"audio_present": torch.tensor([False, False])}
        wanted = outcome(built, without)
        for junk in (0.0, 5.0, torch.inf, torch.nan):
            there = absent | {"audio": torch.full((2, 1, 700), junk), "audio_length": torch.tensor([700, 500])}
            expect(same(outcome(built, there), wanted), f"a sound of {junk} that no row has changes something")
            empty = without | {"audio": torch.full((2, 1, 700), junk), "audio_length": torch.tensor([0, 0])}
            found, gradients = outcome(built, empty)
            expect(torch.allclose(found, wanted[0], rtol=1e-5, atol=1e-6), f"a sound of length 0 that holds {junk} changes something")
            heard = {name: one for name, one in gradients.items() if "projections.audio" in name or "adapters.audio" in name}
            expect(all(bool((one == 0).all()) for one in heard.values()), f"from a sound of length 0 that holds {junk} something is learned")
        expect(same(outcome(built, absent), wanted), "the presence vector of what no row has changes something")
        alone = torch.cat([outcome(built, batch_of(source, number))[0] for number in range(5)])
        expect(torch.allclose(outcome(built, mixed)[0], alone, rtol=1e-4, atol=1e-5), "a row depends on what others of its batch have")
        for batch in (mixed, with_sound, absent, without):
            check_diagnostics(built, batch)
    check_attention()
    return "nothing added, bit by bit; attention agrees with float64 in 60 masks, those of rows without a key among them"


def expect(right: bool, wrong: str) -> None:
    """Falls when something is not right."""
    if not right:
        raise Fell(wrong)


def check_diagnostics(built: torch.nn.Module, batch: dict[str, Tensor]) -> None:
    """Records weights and masses: outputs stay the same, all are numbers, and a row that lacks a modality gives it nothing."""
    wanted = outcome(built, batch)
    with record_attention(built) as maps, record_mass(built) as masses:
        expect(same(outcome(built, batch), wanted), "recording the attention changes something")
    for one in (*maps, *masses):
        for name, mass in one.mass.items():
            expect(bool(mass.isfinite().all()), f"the recorded mass of {name} is not finite")
            if (present := batch.get(f"{name}_present")) is not None:
                expect(bool((mass[~present] == 0).all()), f"{name} gets attention in rows without it")
    expect(all(bool(one.isfinite().all()) for found in maps for one in found.weights.values()), "a recorded weight is not finite")


def check_attention() -> None:
    """Compares attention with sums in float64 under random masks, of which some leave a query, or a row, without a key."""
    draw = torch.Generator().manual_seed(3)
    for number in range(60):
        b, h, n, m, e, w = 2, 3, 5, 1 + number % 7, 11, 13
        q, k, v = (torch.randn(shape, generator=draw) for shape in ((b, h, n, e), (b, h, m, e), (b, h, m, w)))
        mask = torch.rand(b, 1, n, m, generator=draw) < (0.0, 0.3, 0.7)[number % 3]
        q.requires_grad_(), k.requires_grad_(), v.requires_grad_()
        found = attend(q, k, v, mask)
        scores = (q.double() @ k.double().mT / e**0.5).exp() * mask
        wanted = scores @ v.double() / scores.sum(-1, keepdim=True).clamp_min(1e-300)
        expect(torch.allclose(found.double(), wanted, atol=1e-5), "attention disagrees with float64")
        dead = ~mask.any(-1).expand(b, h, n)
        expect(bool((found[dead] == 0).all()), "a query without a key reads something")
        expect(bool((soft_weights(q, k, mask)[dead] == 0).all()), "a query without a key has weights")
        expect(all(bool(one.isfinite().all()) for one in torch.autograd.grad(found.square().sum(), (q, k, v))), "a gradient is not finite")


def transformers(folder: Path) -> str:
    """`PerceiverModel` with all inputs of a row masked: what they hold must not matter."""
    mask = torch.tensor([[1, 1, 1], [0, 0, 0]])
    inputs, others = torch.randn(2, 2, 3, 8, generator=torch.Generator().manual_seed(1))
    found, other = published(inputs, mask), published(others, mask)
    if not bool(found.isfinite().all()):
        raise Fell("PerceiverModel gives NaN for a row whose inputs are all masked")
    if not torch.allclose(found[1], other[1], atol=1e-5):
        raise Fell(f"what is masked in a row changes the latents of PerceiverModel by up to {float((found - other)[1].abs().max()):.2g}")
    return "what is masked in a row changes nothing"
