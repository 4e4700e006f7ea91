"""The control without fusion: one model a modality, each alone with its input; their answers are averaged.

Letters: b batch, o output queries, k outputs.
"""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn

from perceiver.adapters.inputs import num_rows
from perceiver.models.model import Model


class LateFusion(Model):
    """The mean of the logits of single-modality models, over the modalities that a row has.

    Args:
        models: by modality; each reads that entry of the batch and no other.
    """

    def __init__(self, models: dict[str, nn.Module]) -> None:
        super().__init__()
        self.models = nn.ModuleDict(models)

    def forward(self, batch: Mapping[str, Tensor]) -> Float[Tensor, "b ... k"]:
        """Outputs for each row.

        Raises:
            ValueError: when no row has a modality of these models.
        """
        size = num_rows(batch, self.models)
        total, count = None, None
        for name, model in self.models.items():
            present = batch.get(f"{name}_present")
            if name not in batch or (present is not None and not present.any()):
                continue
            own = {key: value for key, value in batch.items() if key == name or key in (f"{name}_present", f"{name}_length", f"{name}_mask")}
            logits = model(own)
            has = torch.ones(size, device=logits.device) if present is None else present.to(logits.dtype)
            has = has.view(-1, *[1] * (logits.ndim - 1))
            total = logits * has if total is None else total + logits * has
            count = has if count is None else count + has
        if total is None or count is None:
            raise ValueError(f"no row of the batch has one of {', '.join(self.models)}: check its keys and presence vectors")
        return total / count.clamp_min(1)
