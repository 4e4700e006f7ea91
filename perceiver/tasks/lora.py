"""LoRA: small matrices beside the large ones learn, and the large ones stay (Hu et al. 2021), through `peft` (extra `peft`)."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from perceiver.parts import check_parts, chosen, part_of
from perceiver.tasks.fine_tuning import FineTuning


class LoRA(FineTuning):
    """Fine-tuning in which the attention of some parts learns by small matrices, some parts learn as a whole, and the rest is frozen.

    Args:
        rank: of the small matrices.
        alpha: what they add counts `alpha / rank` times.
        parts: whose queries, keys, values and outputs get them.
        whole: parts that learn as a whole, as far as the model has them; they are saved with the small matrices.
        dropout: in training, share of what the small matrices read that is zeroed.
        learning_rate: factors by part; see `FineTuning`.

    Raises:
        ValueError: when the rank is not positive.
    """

    def __init__(
        self,
        *,
        rank: int = 8,
        alpha: float = 16.0,
        parts: Sequence[str] = ("cross_attends", "stacks", "decoder"),
        whole: Sequence[str] = ("latents", "adapters", "queries", "heads"),
        dropout: float = 0.0,
        learning_rate: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__(learning_rate=learning_rate)
        if rank < 1:
            raise ValueError(f"rank={rank}: give at least 1")
        self.rank = rank
        self.alpha = alpha
        self.parts = tuple(parts)
        self.whole = tuple(whole)
        self.dropout = dropout
        self._tuned: Any = None

    def prepare(self, model: nn.Module) -> None:
        """Puts the small matrices into the model, which starts with the numbers that it had, and freezes the rest.

        Raises:
            ValueError: when a part has no attention, or the model has them already.
            ModuleNotFoundError: when `peft` is not installed.
        """
        try:
            import peft
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError("LoRA needs peft: pip install 'perceiver-lightning[peft]'") from error
        if any(".lora_A." in name for name, _ in model.named_parameters()):
            raise ValueError("the model has small matrices already: merge them first")
        targets = attention_maps(model)
        check_parts(self.parts, targets.values())
        config = peft.LoraConfig(
            r=self.rank,
            lora_alpha=self.alpha,  # type: ignore[arg-type]  # any number will do
            lora_dropout=self.dropout,
            target_modules=[name for name, part in targets.items() if chosen(part, self.parts)],
            modules_to_save=whole_modules(model, self.whole) or None,
        )
        self._tuned = peft.get_peft_model(model, config)  # it changes the model itself, and takes any module

    def save(self, folder: str | Path) -> None:
        """Writes what was learned in peft's format: small matrices and whole parts, without the model that they belong to.

        Raises:
            ValueError: when no model was prepared.
        """
        self._check_prepared()
        self._tuned.save_pretrained(str(folder))

    def merge(self) -> nn.Module:
        """The model with what was learned added to its matrices: of its own class again, to the same numbers but for rounding.

        Raises:
            ValueError: when no model was prepared.
        """
        self._check_prepared()
        model: nn.Module = self._tuned.merge_and_unload()
        self._tuned = None
        return model.requires_grad_(True)

    def _check_prepared(self) -> None:
        if self._tuned is None:
            raise ValueError("no model has these small matrices yet: train one, or call prepare(model)")


def attention_maps(model: nn.Module) -> dict[str, str]:
    """The parts of the linear maps of all attention, by their names."""
    return {
        name: part_of(f"{name}.weight")
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and name.rsplit(".", 2)[-2:-1] == ["attention"]
    }


def whole_modules(model: nn.Module, parts: Sequence[str]) -> list[str]:
    """The outermost modules, containers aside, that hold parameters of these parts and of no other."""
    names = [name for name, _ in model.named_parameters()]
    found: list[str] = []
    for module, what in model.named_modules():
        inside = [part_of(name) for name in names if name.startswith(f"{module}.")]
        is_new = not any(module.startswith(f"{outer}.") for outer in found)
        is_container = isinstance(what, nn.ModuleDict | nn.ModuleList)
        if module and inside and is_new and not is_container and all(chosen(part, parts) for part in inside):
            found.append(module)
    return found
