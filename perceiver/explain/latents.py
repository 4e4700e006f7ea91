"""Latents by depth: how many directions they really use, and whether they become one and the same.

Attention alone makes rows alike, doubly exponentially with depth; residuals and MLPs work against it (Dong et al. 2021, "Attention is Not All You
Need: Pure Attention Loses Rank Doubly Exponentially with Depth"). A high rank is no merit in itself: random latents have one. So each stands beside
that of the model before training, and beside the most that there could be.

Letters: b rows of a batch, n latents, d their width, r rows of a matrix.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from jaxtyping import Float
from torch import Tensor, nn

from perceiver.blocks import CrossBlock, SelfBlock
from perceiver.explain.examples import Examples
from perceiver.explain.measure import Measure, Price, Verdict, bootstrap, not_applicable
from perceiver.explain.subject import Subject
from perceiver.explain.wording import judged

LOW = 0.05  # of the most that there could be
SAME = 0.01  # relative residual


def effective_rank(x: Float[Tensor, "*b r d"]) -> Float[Tensor, "*b"]:
    """exp(- sum p log p) with p the singular values over their sum, of centred rows (Roy & Vetterli 2007; Garrido et al. 2023, "RankMe").

    It is at most min(r - 1, d), since centring takes one direction away; zero where all rows are the same.
    """
    centred = x.double() - x.double().mean(-2, keepdim=True)
    values = torch.linalg.svdvals(centred)
    # What is left of equal rows is rounding, which has a rank of its own.
    values = values.masked_fill(values <= values.amax(-1, keepdim=True) * 1e-9, 0)
    total = values.sum(-1)
    alive = total > 1e-9 * x.double().flatten(-2).norm(dim=-1).clamp_min(1e-30)
    share = values / total.clamp_min(1e-300)[..., None]
    return torch.where(alive, torch.special.entr(share).sum(-1).exp(), 0.0).to(x.dtype)


def relative_residual(x: Float[Tensor, "*b n d"]) -> Float[Tensor, "*b"]:
    """How far rows are from being the same: the composite norm sqrt(|.|_1 |.|_inf) of what is left after their mean, over that of all (Dong et al.
    2021, section 2). 0 = all rows are the same."""
    return composite_norm(x - x.mean(-2, keepdim=True)) / composite_norm(x).clamp_min(1e-30)


def composite_norm(x: Float[Tensor, "*b n d"]) -> Float[Tensor, "*b"]:
    """sqrt of the greatest column sum times the greatest row sum, of absolute values."""
    return (x.abs().sum(-2).amax(-1) * x.abs().sum(-1).amax(-1)).sqrt()


@contextmanager
def latents_by_depth(model: nn.Module) -> Iterator[dict[str, Tensor]]:
    """Records the latents behind each block of an encoder, by its name with the number of its run, in the order of a forward pass. An encoder is what
    is called so, or has `latents`."""
    found: dict[str, Tensor] = {}
    runs = Counter[str]()

    def hook(block: nn.Module, args: object, output: Tensor, *, name: str) -> None:
        runs[name] += 1
        found[f"{name} ({runs[name]})" if runs[name] > 1 else name] = output.detach()

    def named(name: str):  # type: ignore[no-untyped-def]
        return lambda block, args, output: hook(block, args, output, name=name)

    encoders = tuple(f"{name}." for name, part in model.named_modules() if name == "encoder" or (name and hasattr(part, "latents")))
    blocks = {name: block for name, block in model.named_modules() if isinstance(block, CrossBlock | SelfBlock) and name.startswith(encoders)}
    handles = [block.register_forward_hook(named(name)) for name, block in blocks.items()]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def depth_of(subject: Subject, examples: Examples, twin: nn.Module | None = None) -> dict[str, Float[Tensor, "b n d"]]:
    """The latents of all rows behind each block."""
    model, ask = (subject.model, subject.scores) if twin is None else (twin, subject.asked_of(twin))
    parts: list[dict[str, Tensor]] = []
    for batch, count in examples.batches(subject.device):
        with latents_by_depth(model) as found, torch.no_grad():
            ask(batch)
        subject.charge(0 if twin is None else count)
        parts.append({name: latents[:count].cpu() for name, latents in found.items()})
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def measures(subject: Subject, examples: Mapping[str, Examples], twin: nn.Module | None) -> list[Measure]:
    """Effective rank and relative residual of the latents behind each block, for each dataset."""
    made: list[Measure] = []
    for dataset, some in examples.items():
        with subject.priced(len(some)) as spent:
            depth = depth_of(subject, some)
            before = {} if twin is None else depth_of(subject, some, twin)
            price = spent()
        if not depth:
            reason = "no latents were found: this model has no part called `encoder`, or with `latents`, whose blocks are CrossBlock or SelfBlock"
            made.append(not_applicable("effective rank", reason, n=len(some), of={"dataset": dataset}))
            continue
        for name, latents in depth.items():
            of = {"dataset": dataset, "layer": name}
            n, d = latents.shape[1:]
            rank, other = effective_rank(latents), before.get(name)
            most = float(min(n - 1, d))
            reference = {"most": most} | ({} if other is None else {"untrained": float(effective_rank(other).mean())})
            value = float(rank.mean())
            reason = f"the {n} latents of a row use {value:.1f} of the {most:.0f} directions that they could"
            sure = bootstrap(rank)
            verdict, reason = judged(sure, len(rank), "warning" if value < LOW * most else "ok", reason)
            made.append(Measure("effective rank", value, len(rank), sure, reference, verdict, reason, of, price))
            made.append(_over_rows(latents, other, of, price))
            residual = relative_residual(latents)
            reference = {} if other is None else {"untrained": float(relative_residual(other).mean())}
            same = float(residual.mean()) < SAME
            reason = "all latents are the same: attention has collapsed" if same else "0 = all latents of a row are the same"
            sure = bootstrap(residual)
            verdict, reason = judged(sure, len(residual), "warning" if same else "ok", reason)
            made.append(Measure("residual", float(residual.mean()), len(residual), sure, reference, verdict, reason, of, price))
    return made


def _over_rows(latents: Float[Tensor, "b n d"], other: Tensor | None, of: dict[str, str], price: Price) -> Measure:
    """The effective rank of the mean latent over rows: in how many directions rows differ. It needs four times as many rows as it is."""
    means = latents.mean(1)
    rank = float(effective_rank(means))
    rows, most = len(means), float(min(len(means) - 1, means.shape[1]))
    if rows < 4 * rank:
        return not_applicable(
            "effective rank over rows", f"{rows} rows are too few to measure a rank of {rank:.0f}: four times as many are needed", n=rows, of=of
        )
    reference = {"most": most} | ({} if other is None else {"untrained": float(effective_rank(other.mean(1)))})
    verdict: Verdict = "warning" if rank < LOW * most else "ok"
    return Measure("effective rank over rows", rank, rows, None, reference, verdict, f"rows differ in {rank:.1f} of {most:.0f} directions", of, price)
