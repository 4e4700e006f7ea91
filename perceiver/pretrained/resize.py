"""Arrays of another size made of those that were learned: longer texts, finer grids, more latents.

Fourier positions have no weights, and need nothing.
"""

from collections.abc import Callable

from torch import Tensor, nn
from torch.nn import functional as F

from perceiver.encoder import LatentArray
from perceiver.positions import LearnedGrid, LearnedPositions, stretched
from perceiver.queries import LearnedQueries


def keep_first(module: nn.Module, learned: Tensor, fresh: Tensor) -> Tensor | None:
    """The first rows as learned, as many as there is room for; the rest as they start."""
    if learned.shape[1:] != fresh.shape[1:]:
        return None
    rows = min(len(learned), len(fresh))
    result = fresh.clone()
    result[:rows] = learned[:rows]
    return result


def stretch_row(module: nn.Module, learned: Tensor, fresh: Tensor) -> Tensor | None:
    """A table of places in a row, stretched over more or fewer: first and last place stay, linear in between."""
    if learned.shape[1:] != fresh.shape[1:]:
        return None
    return F.interpolate(learned.T[None], size=len(fresh), mode="linear", align_corners=True)[0].T


def stretch_grid(module: nn.Module, learned: Tensor, fresh: Tensor) -> Tensor | None:
    """A table of rows and columns, stretched to others with the same ratio, as `LearnedGrid` does for a picture of another size."""
    if learned.shape[1:] != fresh.shape[1:] or not isinstance(module, LearnedGrid):
        return None
    rows, columns = module.size
    scale = (len(learned) / (rows * columns)) ** 0.5
    size = round(rows * scale), round(columns * scale)
    return stretched(learned, size, module.size) if size[0] * size[1] == len(learned) else None


RESIZE: dict[type[nn.Module], Callable[[nn.Module, Tensor, Tensor], Tensor | None]] = {
    LatentArray: keep_first,
    LearnedPositions: stretch_row,
    LearnedQueries: stretch_row,
    LearnedGrid: stretch_grid,
}


def resized(model: nn.Module, name: str, learned: Tensor, fresh: Tensor) -> Tensor | None:
    """A learned array in the shape of a fresh one; None where there is no sensible way.

    Args:
        model: that the weight is of.
        name: of the weight.
        learned: the array in the source.
        fresh: the array in the model.
    """
    parent, _, leaf = name.rpartition(".")
    module = model.get_submodule(parent)
    how = RESIZE.get(type(module)) if leaf == "weight" else None
    return None if how is None else how(module, learned.to(fresh), fresh)
