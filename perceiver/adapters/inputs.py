"""Inputs: a batch in which any row may lack any modality becomes tokens of one width, by modality.

Each modality has its adapter and one linear map to the common width, whose bias says which modality it is: to add a
modality is to add one of each, and no shape of the trunk changes.

Letters: B rows of the batch, b rows that have the modality.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

import torch
from jaxtyping import Bool, Int
from torch import Tensor, nn

from perceiver.adapters.adapter import Adapter
from perceiver.description import Described, describable
from perceiver.tokens import Tokens, lengths_to_mask

Batch = Mapping[str, Tensor]

# What may stand beside a modality's name, what it has to be, and whether a tensor is that.
ENTRIES: tuple[tuple[str, str, Callable[[Tensor], bool]], ...] = (
    ("", "a tensor whose first axis is the rows", lambda entry: entry.ndim > 0),
    ("_present", "one bool a row", lambda entry: entry.ndim == 1 and entry.dtype == torch.bool),
    ("_length", "one whole number a row", lambda entry: entry.ndim == 1 and entry.dtype in (torch.int64, torch.int32, torch.int16, torch.uint8)),
    ("_mask", "bools, True for each place of a row that is valid", lambda entry: entry.ndim > 1 and entry.dtype == torch.bool),
)


class ModalityDropout(Described):
    """In training, hides whole modalities from a row, but never all that it has.

    Args:
        probability: that a modality is hidden from a row.

    Raises:
        ValueError: when the probability is not in [0, 1).
    """

    def __init__(self, probability: float) -> None:
        super().__init__()
        if not 0 <= probability < 1:
            raise ValueError(f"probability={probability}: give a number in [0, 1)")
        self.probability = probability

    def forward(self, present: dict[str, Bool[Tensor, " B"]]) -> dict[str, Bool[Tensor, " B"]]:
        """The presence that is left. Where the draw would hide everything, one of the row's modalities stays, each equally likely."""
        if not self.training or not present:
            return present
        had = torch.stack(list(present.values()))
        draw = torch.rand(had.shape, device=had.device).masked_fill(~had, -1.0)
        luckiest = torch.zeros_like(had).scatter_(0, draw.argmax(0, keepdim=True), True)
        kept = had & ((draw >= self.probability) | luckiest)
        return dict(zip(present, kept, strict=True))


@describable
def projection(adapter: Adapter, dim: int) -> nn.Linear:
    """A linear map to the common width in which data and position start with equal weight, each with variance 1/2.

    The usual initialisation gives every channel the same weight. A pixel patch of 4 channels beside 18 channels of
    position is then nearly all position, and a model that also hears sound (160 channels) learns to listen long before
    it learns to look.
    """
    linear = nn.Linear(adapter.feature_dim + adapter.position_dim, dim)
    features, positions = linear.weight.data.split([adapter.feature_dim, adapter.position_dim], 1)
    for part in (features, positions):
        nn.init.normal_(part, std=(2 * max(part.shape[1], 1)) ** -0.5)
    nn.init.trunc_normal_(linear.bias, std=0.02, a=-0.04, b=0.04)
    return linear


@describable
def projection_by_channel(adapter: Adapter, dim: int) -> nn.Linear:
    """A linear map to the common width in which every channel starts with equal weight, be it data or position: the usual initialisation.

    What has few channels of data is then hard to hear; see `projection`.
    """
    linear = nn.Linear(adapter.feature_dim + adapter.position_dim, dim)
    nn.init.normal_(linear.weight, std=linear.in_features**-0.5)
    nn.init.trunc_normal_(linear.bias, std=0.02, a=-0.04, b=0.04)
    return linear


@describable
def projection_if_needed(adapter: Adapter, dim: int) -> nn.Linear | None:
    """No map where data beside position have the common width already, as in the published Perceivers; else `projection`."""
    return None if adapter.feature_dim + adapter.position_dim == dim else projection(adapter, dim)


class Inputs(Described):
    """Adapters, and one projection each to the common width.

    A batch is a flat mapping. For an adapter called `sound` it may hold

    - `sound`: the raw entry, either one a row, or only of the rows that have it, in their order;
    - `sound_present` (B, bool): which rows have it; without it all rows do, or none when `sound` is not there;
    - `sound_length` (int: places from the first on; below 0 is none, beyond the end is all) or `sound_mask` (bool) beside the raw entry, where
      entries vary in length.

    Args:
        adapters: by the name of the batch entry that each one takes; their order is the order of the tokens.
        dim: the common width.
        project: makes the map to the common width from `(adapter, dim)`; see `projection_if_needed`.
        modality_dropout: hides modalities in training.
    """

    def __init__(
        self,
        adapters: Mapping[str, Adapter],
        dim: int,
        *,
        project: Callable[[Adapter, int], nn.Linear | None] = projection,
        modality_dropout: ModalityDropout | None = None,
    ) -> None:
        super().__init__()
        if not adapters:
            raise ValueError("a model needs at least one adapter")
        self.dim = dim
        self.project = project
        self.adapters = nn.ModuleDict()
        self.projections = nn.ModuleDict()
        for name, adapter in adapters.items():
            self.add(name, adapter)
        self.modality_dropout = modality_dropout

    def add(self, name: str, adapter: Adapter) -> None:
        """Adds a modality, behind the others.

        Raises:
            ValueError: when the name is taken.
        """
        if name in self.adapters:
            raise ValueError(f"there is an adapter for {name!r} already: choose another name, or remove it first")
        self.adapters[name] = adapter
        if (linear := self.project(adapter, self.dim)) is not None:
            self.projections[name] = linear

    def remove(self, name: str) -> None:
        """Takes a modality away, with all that was learned for it alone.

        Raises:
            ValueError: when there is no such modality, or no other.
        """
        if name not in self.adapters or len(self.adapters) == 1:
            raise ValueError(f"{name!r} cannot be removed: this model reads {', '.join(self.adapters)}, and must read at least one modality")
        del self.adapters[name]
        if name in self.projections:
            del self.projections[name]

    def forward(self, batch: Batch) -> tuple[dict[str, Tokens], int]:
        """Tokens of each modality that some row has, and the number of rows.

        Raises:
            ValueError: when entries disagree about the number of rows, or no row has any modality of this model.
        """
        size = num_rows(batch, self.adapters)
        had = {name: batch.get(f"{name}_present") for name in self.adapters if name in batch}
        kept = had
        if self.modality_dropout is not None and self.training:
            kept = self.modality_dropout({name: everywhere(batch[name], size) if p is None else p for name, p in had.items()})
        segments = {}
        for name in had:
            payload, mask, rows = select_rows(batch, name, had[name], kept[name], size)
            if rows is None or len(rows):
                tokens, project = self.adapters[name](payload, mask), self._projection(name)
                if project is not None and tokens.features.dtype == torch.float64 != project.weight.dtype:
                    raise ValueError(f"{name!r} is in double precision, and the model in {project.weight.dtype}: give float32")
                segments[name] = replace(tokens, rows=rows, project=project)
        if not segments:
            raise ValueError(
                f"no row of the batch has a modality of this model, which reads {', '.join(self.adapters)}; "
                f"the batch holds {', '.join(batch) or 'nothing'}: check its keys and presence vectors"
            )
        return segments, size

    def _projection(self, name: str) -> nn.Linear | None:
        return self.projections[name] if name in self.projections else None  # type: ignore[return-value]


def everywhere(payload: Tensor, size: int) -> Bool[Tensor, " B"]:
    """A presence vector that says yes for each row."""
    return torch.ones(size, dtype=torch.bool, device=payload.device)


def num_rows(batch: Batch, names: Iterable[str]) -> int:
    """The number of rows of a batch: that of its presence vectors, or of the raw entries of modalities that have none.

    Raises:
        ValueError: when they differ, or are none.
    """
    names = list(names)
    for name in names:
        check_entries(batch, name)
        present = batch.get(f"{name}_present")
        if name not in batch and present is not None and present.any():
            raise ValueError(
                f"{name}_present says that {int(present.sum())} rows have {name!r}, but the batch holds no such entry, only {', '.join(batch)}"
            )
    sizes = {key: len(batch[key]) for name in names for key in [f"{name}_present" if f"{name}_present" in batch else name] if key in batch}
    if len(set(sizes.values())) > 1:
        raise ValueError(f"entries disagree about the number of rows: {sizes}")
    return next(iter(sizes.values()), 0)


def check_entries(batch: Batch, name: str) -> None:
    """Refuses what is no entry of a modality, or does not say what stands beside one.

    Raises:
        ValueError: naming the key, what it holds, and what it should.
    """
    for key, wanted, fits in ((name + suffix, wanted, fits) for suffix, wanted, fits in ENTRIES if name + suffix in batch):
        entry = batch[key]
        if not (isinstance(entry, Tensor) and fits(entry)):
            found = f"{entry.dtype} of {tuple(entry.shape)}" if isinstance(entry, Tensor) else type(entry).__name__
            raise ValueError(f"{key!r} is {found}: give {wanted}")


def select_rows(
    batch: Batch, name: str, had: Bool[Tensor, " B"] | None, kept: Bool[Tensor, " B"] | None, size: int
) -> tuple[Tensor, Bool[Tensor, "b ..."] | None, Int[Tensor, " b"] | None]:
    """Raw entry and mask of the rows that keep a modality, and which rows they are (None = all of them).

    Raises:
        ValueError: when the raw entry has neither one row for each row of the batch nor one for each that has the modality.
    """
    payload = batch[name]
    owners = size if had is None else int(had.sum())
    if len(payload) not in (size, owners):
        raise ValueError(
            f"{name!r} has {len(payload)} entries, but the batch has {size} rows, {owners} of them with {name!r}: "
            "give one entry a row, or one for each row that has it"
        )
    mask = batch.get(f"{name}_mask")
    beside = f"{name}_mask"
    if mask is None and f"{name}_length" in batch:
        beside = f"{name}_length"
        mask = lengths_to_mask(batch[beside], payload.shape[-1])
    if mask is not None and len(mask) != len(payload):
        raise ValueError(f"{beside!r} has {len(mask)} rows, but {name!r} has {len(payload)} entries: give both for the same rows")
    if kept is None:
        return payload, mask, None
    rows = kept.nonzero().flatten()
    if len(rows) == len(payload) == size:
        return payload, mask, None
    source = rows if had is None or len(payload) == size else (had.cumsum(0) - 1)[rows]
    return payload[source], None if mask is None else mask[source], rows
