"""Tables of a run's results: what the model knows, what it knows without each modality, and where its attention went.

Everything is read from the flat results of `metrics.json`:

    test/accuracy/<dataset>                     the model
    test/accuracy_without_<modality>/<dataset>  the same model, with a modality taken away
    test/baseline_<name>/<dataset>              a control, trained on the same budget
    test/mass_<modality>/<dataset>              attention mass, mean over cross-attend layers, heads and latents
    test/layer_mass/<layer>/<modality>/<dataset> the same, layer by layer
    test/token_share_<modality>/<dataset>       the mass that uniform attention would give
"""

from collections.abc import Mapping, Sequence
from itertools import combinations

from rich.table import Table

Results = Mapping[str, float]
CLEAR = 0.1  # accuracies closer than this are not called different


def by_dataset(results: Results, prefix: str, datasets: Sequence[str]) -> dict[str, float]:
    """The results below a prefix, for the datasets that have one."""
    return {name: results[f"{prefix}/{name}"] for name in datasets if f"{prefix}/{name}" in results}


def names_of(results: Results, kind: str) -> list[str]:
    """The modalities or controls that there are results of a kind for, such as `accuracy_without_` or `baseline_`."""
    prefix = f"test/{kind}"
    return list(dict.fromkeys(key.removeprefix(prefix).split("/")[0] for key in results if key.startswith(prefix)))


def tables(results: Results, datasets: Sequence[str]) -> list[Table]:
    """Accuracy of the model, without each modality and of the controls; and attention mass by modality."""
    accuracy = Table("", *datasets, title="Test accuracy, %")
    rows = {"full model": "test/accuracy"}
    rows |= {f"without {name}": f"test/accuracy_without_{name}" for name in names_of(results, "accuracy_without_")}
    rows |= {f"control: {name}": f"test/baseline_{name}" for name in names_of(results, "baseline_")}
    for label, prefix in rows.items():
        values = by_dataset(results, prefix, datasets)
        accuracy.add_row(label, *(f"{100 * values[name]:.1f}" if name in values else "-" for name in datasets))
    mass = Table("", *datasets, title="Attention mass by modality, %")
    for name in names_of(results, "mass_"):
        rows = {name: f"test/mass_{name}", "  if uniform": f"test/token_share_{name}"}
        rows |= {f"  in {layer}": f"test/layer_mass/{layer}/{name}" for layer in names_of(results, "layer_mass/")}
        for label, prefix in rows.items():
            values = by_dataset(results, prefix, datasets)
            mass.add_row(label, *(f"{100 * values[d]:.1f}" if d in values else "-" for d in datasets))
    return [accuracy, mass]


def remarks(results: Results, datasets: Sequence[str]) -> list[str]:
    """Does a modality's attention mass move with what the modality is worth? One plain sentence for each.

    Datasets are compared two by two. Only pairs count in which taking the modality away costs clearly more in one than
    in the other (by more than ten points); the picture agrees where the mass is higher there, too.
    """
    full = by_dataset(results, "test/accuracy", datasets)
    sentences = []
    for modality in names_of(results, "mass_"):
        rest = by_dataset(results, f"test/accuracy_without_{modality}", datasets)
        mass = by_dataset(results, f"test/mass_{modality}", datasets)
        loss = {name: full[name] - rest[name] for name in rest if name in full and name in mass}
        pairs = [(a, b) if loss[a] > loss[b] else (b, a) for a, b in combinations(loss, 2) if abs(loss[a] - loss[b]) > CLEAR]
        against = [(a, b) for a, b in pairs if mass[a] <= mass[b]]
        if not loss:
            sentences.append(f"{modality}: nothing can be answered without it, so its attention mass cannot be checked against its worth.")
        elif len(loss) == 1:
            sentences.append(
                f"{modality}: {next(iter(loss))} alone can be answered without it, and there is nothing to compare: "
                "its attention mass cannot be checked against its worth."
            )
        elif not pairs:
            sentences.append(
                f"{modality}: taking it away costs about the same everywhere, so its attention mass cannot be checked against its worth."
            )
        elif not against:
            sentences.append(
                f"{modality}: wherever taking it away costs more, its attention mass is higher, too ({len(pairs)} of {len(pairs)} comparisons)."
            )
        else:
            a, b = max(against, key=lambda pair: mass[pair[1]] - mass[pair[0]])
            sentences.append(
                f"{modality}: attention mass and worth go together in {len(pairs) - len(against)} of {len(pairs)} comparisons. They part most for "
                f"{a} and {b}: taking it away costs {100 * loss[a]:.0f} and {100 * loss[b]:.0f} points, "
                f"the mass is {100 * mass[a]:.1f} and {100 * mass[b]:.1f} %."
            )
    return sentences
