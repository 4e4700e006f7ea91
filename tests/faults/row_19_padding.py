"""NaN stands where a batch is padded."""

from pathlib import Path

import torch
from torch import Tensor

from tests.faults.scoreboard import Fell
from tests.faults.subjects.faulty_modalities import Batch, batch_of, model, outcome, published, same, samples

FAULT = "NaN in a padded position"
EXPECTED = "no effect on any output or gradient"
NOT_APPLICABLE = dict.fromkeys(("lightning", "accelerate"), "it has no attention of its own")


def ours(folder: Path) -> str:
    """Sounds and texts of different lengths, masked pixels, and entries of rows that lack a modality."""
    source, changed = samples(folder), 0
    for pixels in (False, True):
        built = model(pixels)
        batch = whole(batch_of(source, 0, 1, 2, 3, 4))
        batch["image_mask"] = torch.rand(batch["image"].shape[0], *batch["image"].shape[2:], generator=torch.Generator().manual_seed(2)) < 0.7
        wanted = outcome(built, padded(batch, 0.0))
        for junk in (torch.nan, torch.inf, 3e38):
            spoiled = padded(batch, junk)
            changed = sum(int((~value.isfinite()).sum()) for value in spoiled.values() if value.is_floating_point()) or changed
            if not same(outcome(built, spoiled), wanted):
                raise Fell(f"{junk} behind a mask changes an output or a gradient")
    return f"{changed} numbers behind masks were NaN, and outputs and gradients are the same, bit by bit"


def whole(batch: Batch) -> Batch:
    """The same batch with an entry for each row, also where it lacks the modality."""
    found = dict(batch)
    for name in ("image", "audio", "text"):
        present = batch[f"{name}_present"]
        for key in (name, f"{name}_length"):
            if key in batch:
                found[key] = batch[key].new_zeros(len(present), *batch[key].shape[1:])
                found[key][present] = batch[key]
    return found


def padded(batch: Batch, junk: float) -> Batch:
    """The same batch with a number wherever nothing is to be read; ids that are no ids, in texts."""
    found = {name: value.clone() for name, value in batch.items()}
    found["image"][~batch["image_mask"][:, None].expand_as(batch["image"])] = junk
    for name in ("audio", "text"):
        behind: Tensor = torch.arange(batch[name].shape[-1]) >= batch[f"{name}_length"][:, None]
        value = junk if found[name].is_floating_point() else -(10**9)
        found[name][behind[:, None].expand_as(batch[name]) if batch[name].ndim == 3 else behind] = value
    for name in ("image", "audio", "text"):
        value = junk if found[name].is_floating_point() else -(10**9)
        found[name][~batch[f"{name}_present"]] = value
    return found


def transformers(folder: Path) -> str:
    """`PerceiverModel` with NaN in an input that is masked."""
    mask = torch.tensor([[1, 1, 1], [1, 1, 0]])
    inputs = torch.randn(2, 3, 8, generator=torch.Generator().manual_seed(1))
    inputs[1, 2] = torch.nan
    if not bool((found := published(inputs, mask)).isfinite().all()):
        raise Fell(f"NaN in a masked input of PerceiverModel makes {int((~found.isfinite()).sum())} of {found.numel()} latent numbers NaN")
    return "NaN in a masked input changes nothing"
