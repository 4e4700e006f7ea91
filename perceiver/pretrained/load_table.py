"""What loaded, what did not, and what changed shape: the table that a start from other weights always gives."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Size

from perceiver.parts import part_of

LOADED, RESIZED, NEW, LEFT, UNUSED = "loaded", "resized", "starts anew", "not asked for", "only in the source"
MISSING, MISSHAPEN = "MISSING in the source", "OF ANOTHER SHAPE"
CHANGES_SHOWN = 3


@dataclass(frozen=True)
class Weight:
    """What became of one weight.

    Attributes:
        name: in the model, or in the source where the model has none.
        outcome: one of the words of the table.
        before: its shape in the source.
        after: its shape in the model.
    """

    name: str
    outcome: str
    before: tuple[int, ...] | None
    after: tuple[int, ...] | None

    @property
    def change(self) -> str:
        """The change of shape, where there is one."""
        if self.before is None or self.after is None or self.before == self.after:
            return ""
        return f"{self.name.rsplit('.', 1)[-1]} {_shape(self.before)} -> {_shape(self.after)}"


class LoadTable:
    """What became of each part; `str` gives the table.

    Args:
        source: where the weights came from.
        weights: what became of each.
    """

    def __init__(self, source: str, weights: Sequence[Weight]) -> None:
        self.source = source
        self.weights = tuple(weights)

    def outcomes(self) -> dict[tuple[str, str], list[Weight]]:
        """Weights by part and outcome."""
        found = defaultdict(list)
        for weight in self.weights:
            found[part_of(weight.name), weight.outcome].append(weight)
        return dict(found)

    def __str__(self) -> str:
        rows = [("part", "weights", "numbers", "")]
        for (part, outcome), weights in self.outcomes().items():
            numbers = sum(Size(weight.after or weight.before or ()).numel() for weight in weights)
            changes = [weight.change for weight in weights if weight.change][:CHANGES_SHOWN]
            rows.append((part, str(len(weights)), f"{numbers:,}", f"{outcome}: {', '.join(changes)}" if changes else outcome))
        widths = [max(len(row[column]) for row in rows) for column in range(3)]
        lines = [f"{a:{widths[0]}}  {b:>{widths[1]}}  {c:>{widths[2]}}  {d}".rstrip() for a, b, c, d in rows]
        return "\n".join([f"weights from {self.source}", *lines])


class DoesNotFit(ValueError):
    """Weights that do not fit a model; the message ends with the table.

    Args:
        why: in one line.
        table: what would have become of each part.
    """

    def __init__(self, why: str, table: LoadTable) -> None:
        super().__init__(f"{why}\n{table}")


def _shape(sizes: tuple[int, ...]) -> str:
    return " x ".join(map(str, sizes)) or "one number"
