"""The start of a training from weights that exist: all of them, or some parts, and a table of what became of each part."""

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from perceiver.parts import check_parts, chosen, part_of
from perceiver.pretrained.load_table import LEFT, LOADED, MISSHAPEN, MISSING, NEW, RESIZED, UNUSED, DoesNotFit, LoadTable, Weight
from perceiver.pretrained.resize import resized
from perceiver.pretrained.sources import source_weights


class InitFrom:
    """Gives a model the weights of another, part by part. Parts are named as in `perceiver.parts`.

    Args:
        source: a checkpoint, a folder, or a name on the hub; see `perceiver.pretrained.sources.source_weights`.
        load: parts that are wanted; without it, all that the model has.
        new: parts that start anew where the source has nothing that fits. A new task has a new head and new queries.
        resize: parts whose arrays may change shape: position tables are stretched, and of the latents the first stay. See
            `perceiver.pretrained.resize`.
        rename: parts that are called otherwise in the source: `{"adapters.photo": "adapters.image"}`.
        semantics: of published weights; see `perceiver.from_pretrained`.
    """

    def __init__(
        self,
        source: str,
        *,
        load: Sequence[str] | None = None,
        new: Sequence[str] = ("heads", "queries"),
        resize: Sequence[str] = (),
        rename: Mapping[str, str] | None = None,
        semantics: str = "hf",
    ) -> None:
        self.source = source
        self.load = load
        self.new = tuple(new)
        self.resize = tuple(resize)
        self.rename = dict(rename or {})
        self.semantics = semantics

    def __call__(self, model: nn.Module) -> LoadTable:
        """Loads the weights into the model, all that are wanted or none.

        Raises:
            ValueError: when the source cannot be read, a name is no part of the model, or a weight that is wanted is missing or has another
                shape, and its part may neither start anew nor be resized. The message ends with the table.
        """
        weights = source_weights(self.source, self.semantics)
        return transfer(model, weights, load=self.load, new=self.new, resize=self.resize, rename=self.rename, source=self.source)


def transfer(
    model: nn.Module,
    weights: Mapping[str, Tensor],
    *,
    load: Sequence[str] | None = None,
    new: Sequence[str] = (),
    resize: Sequence[str] = (),
    rename: Mapping[str, str] | None = None,
    source: str = "another model",
) -> LoadTable:
    """`InitFrom` with weights that are at hand.

    Raises:
        ValueError: see `InitFrom`.
    """
    state = model.state_dict()
    parts = [part_of(name) for name in state]
    check_parts([*(load or ()), *resize, *(rename or {})], parts)
    theirs = renamed(weights, rename or {})
    outcomes, wrong, taken = [], [], {}
    for name, mine in state.items():
        part, found = part_of(name), theirs.get(name)
        after, before = tuple(mine.shape), None if found is None else tuple(found.shape)
        if load is not None and not chosen(part, load):
            outcome = LEFT
        elif found is not None and before == after:
            outcome, taken[name] = LOADED, found
        elif found is not None and chosen(part, resize) and (fitted := resized(model, name, found, mine)) is not None:
            outcome, taken[name] = RESIZED, fitted
        elif chosen(part, new):
            outcome = NEW
        else:
            outcome = MISSING if found is None else MISSHAPEN
            wrong.append(part)
        outcomes.append(Weight(name, outcome, before, after))
    outcomes += [Weight(name, UNUSED, tuple(weight.shape), None) for name, weight in theirs.items() if name not in state]
    table = LoadTable(source, outcomes)
    if wrong:
        raise DoesNotFit(
            f"{', '.join(dict.fromkeys(wrong))} of the model cannot be loaded from {source}: name such parts in `new` (they start anew), "
            "in `resize` or `rename`, or choose others with `load`",
            table,
        )
    if not taken:
        raise DoesNotFit(f"nothing of the model is in {source}: is it a checkpoint of another kind of model?", table)
    model.load_state_dict(state | taken)
    return table


def renamed(weights: Mapping[str, Tensor], rename: Mapping[str, str]) -> dict[str, Tensor]:
    """The source's weights under the model's names, where parts are called otherwise.

    Raises:
        ValueError: when the source has no such part.
    """
    check_parts(rename.values(), [part_of(name) for name in weights])
    found = dict(weights)
    for mine, theirs in rename.items():
        for name, weight in weights.items():
            if chosen(part_of(name), [theirs]):
                found.pop(name, None)
                found[_in_part(name, theirs, mine)] = weight
    return found


def _in_part(name: str, theirs: str, mine: str) -> str:
    """The name that a weight of one part has in another of the same kind: the last word of the part is a word of the name."""
    if theirs.rsplit(".", 1)[0] != mine.rsplit(".", 1)[0] or "." not in mine:
        raise ValueError(f"{theirs!r} cannot be renamed to {mine!r}: they must be of one kind, such as adapters.image and adapters.photo")
    old, new = theirs.rsplit(".", 1)[1], mine.rsplit(".", 1)[1]
    words = name.split(".")
    words[words.index(old)] = new
    return ".".join(words)
