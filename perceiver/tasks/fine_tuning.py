"""Fine-tuning by part: what learns, from which step on, and how fast."""

from collections.abc import Mapping

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from perceiver.parts import check_parts, chosen, depths, part_of, parts_of


class FineTuning:
    """How fast each part of a model learns. Parts are named as in `perceiver.parts`.

    Args:
        freeze: parts that do not learn, each until a step from which on it does, or for good (None): `{"encoder": 500, "adapters": None}`.
        learning_rate: factors on the learning rate of parts; of two names for a part, the longer counts.
        layer_decay: a further factor for each layer that a part lies below the head (Clark et al. 2020, "ELECTRA", section 3.1;
            1 = none).

    Raises:
        ValueError: when a factor is negative, or a step is not positive.
    """

    def __init__(
        self, *, freeze: Mapping[str, int | None] | None = None, learning_rate: Mapping[str, float] | None = None, layer_decay: float = 1.0
    ) -> None:
        self.freeze = dict(freeze or {})
        self.learning_rate = dict(learning_rate or {})
        self.layer_decay = layer_decay
        for name, step in self.freeze.items():
            if step is not None and step < 1:
                raise ValueError(f"freeze: {name} until step {step}: give a positive step, or null to freeze it for good")
        for name, factor in {**self.learning_rate, "layer_decay": layer_decay}.items():
            if factor < 0:
                raise ValueError(f"a learning rate cannot be negative: {name} has the factor {factor}")

    def prepare(self, model: nn.Module) -> None:
        """Freezes what never learns: it has no gradients, and its batch norms keep their statistics.

        Raises:
            ValueError: when a name stands for no part of the model, or nothing is left to learn.
        """
        state = [part_of(name) for name in model.state_dict()]
        check_parts([*self.freeze, *self.learning_rate], state)
        forever = [name for name, step in self.freeze.items() if step is None]
        for name, parameter in model.named_parameters():
            if chosen(part_of(name), forever):
                parameter.requires_grad_(False)
        if not any(parameter.requires_grad for parameter in model.parameters()):
            raise ValueError(f"freeze: {', '.join(forever)} is all that the model has, and nothing is left to learn")

    def before_step(self, model: nn.Module, step: int) -> None:
        """Drops the gradients of parts that do not learn yet, before they are clipped or used.

        They are computed all the same: a part whose gradients came and went would leave the ranks of a distributed run apart.
        """
        waiting = self._frozen(step)
        if waiting:
            for name, parameter in model.named_parameters():
                if chosen(part_of(name), waiting):
                    parameter.grad = None

    def rest(self, model: nn.Module, step: int) -> None:
        """Keeps the statistics of batch norms in parts that do not learn."""
        frozen = self._frozen(step)
        for name, module in model.named_modules():
            if isinstance(module, _BatchNorm):
                module.train(model.training and not chosen(part_of(f"{name}.weight"), frozen))

    def factors(self, model: nn.Module) -> dict[str, float]:
        """The factor on the learning rate of each parameter, by its name."""
        depth = depths(model)
        top = max(depth.values(), default=0)
        found = {}
        for name, part in parts_of(model).items():
            named = max((key for key in self.learning_rate if chosen(part, [key])), key=len, default=None)
            factor = 1.0 if named is None else self.learning_rate[named]
            found[name] = factor * self.layer_decay ** (top - depth[part])
        return found

    def _frozen(self, step: int) -> list[str]:
        return [name for name, until in self.freeze.items() if until is None or step < until]
