"""The modality report of a test: accuracy without each modality, attention mass by modality, and a page to look at."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from rich.console import Console
from torch import Tensor

from perceiver.adapters import Inputs
from perceiver.adapters.inputs import num_rows
from perceiver.adapters.presence import SUFFIXES, presence, without
from perceiver.explain.attention.passage import label, numbered
from perceiver.explain.examples import Examples, taken_apart
from perceiver.explain.page import write_page
from perceiver.explain.samples import samples
from perceiver.explain.subject import Subject
from perceiver.explain.table import by_dataset, names_of, remarks, tables
from perceiver.explain.views import Plain, view_of
from perceiver.ranks import from_all_ranks
from perceiver.run_folder import RunFolder
from perceiver.soft_weights import record_mass

Rows = Sequence[str | None]  # the dataset of each row; None for one that does not count


class ModalityReport(Callback):
    """During a test, asks the model again without each modality and records where its attention went.

    At the end it adds `test/accuracy_without_<modality>/<dataset>`, `test/loss_without_<modality>/<dataset>`,
    `test/mass_<modality>/<dataset>` (mean over the layers, heads and latents), `test/layer_mass/<layer>/<modality>/<dataset>`,
    `test/token_share_<modality>/<dataset>` and `test/rows/<dataset>` to the run's results, prints them as tables, and writes `table.txt` and
    `report.html` to the run folder. The task has `datasets`, `class_counts`, `judge` and `probabilities`, as those of `perceiver.tasks` do.

    Each figure is a mean over rows, however they were batched. A modality that a row lacks counts there as mass and share 0, and as the row's own
    loss and answer. Where a modality is all that a row has, or its own content is asked for (`<modality>_target`), the row does not count for the
    figures without it. Of a dataset in which no row has a modality there are no figures of it, and where none can do without it, none without it.

    Args:
        layers: beginnings of the names of the attention layers that read the inputs.
        num_samples: rows that the page shows, equally many from the first batch of each dataset that has classes.
        title: of the page.
    """

    def __init__(
        self, layers: Sequence[str] = ("model.encoder.cross",), num_samples: int = 24, title: str = "How the modalities were combined"
    ) -> None:
        self.layers = tuple(layers)
        self.num_samples = num_samples
        self.title = title

    def on_test_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Forgets an earlier test.

        Raises:
            ValueError: when the model has no `inputs` to take modalities from.
        """
        if not isinstance(getattr(pl_module.model, "inputs", None), Inputs):
            raise ValueError(f"a modality report needs a model whose `inputs` are perceiver.Inputs, and {type(pl_module.model).__name__} has none")
        self.sums: dict[str, float] = defaultdict(float)
        self.counts: dict[str, float] = defaultdict(float)
        self.told: set[str] = set()
        self.samples: list[Plain] = []
        self.shown: set[str] = set()

    def on_test_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: dict[str, Tensor], batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Asks again without each modality, and records the mass."""
        task: Any = pl_module
        size = num_rows(batch, task.model.inputs.adapters)
        dataset = batch.get("dataset", torch.zeros(size, dtype=torch.long))
        names = [task.datasets[int(d)] for d in dataset]
        counts = batch.get("target_mask", torch.ones(size, dtype=torch.bool)).tolist()  # rows that only fill a rank's last batch do not
        rows = [name if has_target else None for name, has_target in zip(names, counts, strict=True)]
        self._add("test/rows", rows, torch.ones(size), torch.ones(size, dtype=torch.bool))
        with trainer.precision_plugin.forward_context():
            self._take_away(task, batch, rows)
            self._weigh(task, batch, rows)
            self._show(trainer, task, batch, names)

    def _take_away(self, task: Any, batch: dict[str, Tensor], rows: Rows) -> None:
        """Losses and right answers without each modality."""
        has = having(batch, task.model.inputs.adapters)
        most = torch.stack(list(has.values())).sum(0)
        as_it_is: tuple[Tensor, Tensor] | None = None
        for modality, present in has.items():
            asked = asking(batch, modality, present)
            taken = present & (most > 1) & ~asked
            if taken.any():
                losses, right = task.judge(without_in(batch, modality, taken))
            else:
                losses, right = as_it_is = as_it_is or task.judge(batch)
            counted = [name if counts else None for name, counts in zip(rows, (taken | ~(present | asked)).tolist(), strict=True)]
            self._add(f"test/accuracy_without_{modality}", counted, right, taken)
            self._add(f"test/loss_without_{modality}", counted, losses, taken)

    def _weigh(self, task: Any, batch: dict[str, Tensor], rows: Rows) -> None:
        """Attention mass of each modality, and its share of the tokens."""
        with record_mass(task, self.layers) as records:
            task(batch)
        tokens, size = task.model.inputs(batch)
        valid = {name: one.attendable(size).sum(1).float() for name, one in tokens.items()}
        nothing = torch.zeros(size, device=next(iter(valid.values())).device)
        total = torch.stack(list(valid.values())).sum(0).clamp_min(1)
        layers = numbered([label(record.layer) for record in records])
        for modality, present in having(batch, task.model.inputs.adapters).items():
            masses = [record.mass[modality].float().mean(-1) if modality in record.mass else nothing for record in records]
            for layer, record, mass in zip(layers, records, masses, strict=True):
                self._add(f"test/layer_mass/{layer}/{modality}", rows, mass, present & (modality in record.mass))
            self._add(f"test/mass_{modality}", rows, torch.stack(masses).mean(0), present)
            self._add(f"test/token_share_{modality}", rows, valid.get(modality, nothing) / total, present)

    def _show(self, trainer: L.Trainer, task: Any, batch: dict[str, Tensor], names: list[str]) -> None:
        """Keeps rows for the page of each dataset with classes that this batch is the first one of."""
        fresh = [name for name in dict.fromkeys(names) if name not in self.shown and task.class_counts[name]]
        if not fresh:
            return
        self.shown.update(fresh)
        each = max(1, self.num_samples // sum(1 for number in task.class_counts.values() if number))
        subject = Subject(task, classes=getattr(getattr(trainer, "datamodule", None), "classes", None))
        rows, entries, ragged = taken_apart({key: value.cpu() for key, value in batch.items()}, subject.modalities)
        for dataset in fresh:
            mine = [row for row, name in zip(rows, names, strict=True) if name == dataset and any(modality in row for modality in subject.modalities)]
            if mine:
                some = Examples(tuple(mine[:each]), tuple(entries), tuple(ragged), dataset, mine[0])
                self.samples += samples(subject, some)

    def _add(self, key: str, rows: Rows, values: Tensor, telling: Tensor) -> None:
        """Adds one value a row to the mean below a key, dataset by dataset.

        Args:
            key: of the mean.
            rows: the dataset of each row; None for one that does not count.
            values: one a row.
            telling: rows which have that of which the key tells; a mean without one of them is not told.
        """
        for name, value, tells in zip(rows, values.tolist(), telling.tolist(), strict=True):
            if name is not None:
                self.sums[f"{key}/{name}"] += value
                self.counts[f"{key}/{name}"] += 1
                if tells:
                    self.told.add(f"{key}/{name}")

    def on_test_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Adds to the results, and publishes them."""
        means, rows = self._of_all_ranks()
        if not trainer.is_global_zero:
            return
        folder = RunFolder(trainer.default_root_dir)
        tested = {key: float(value) for key, value in trainer.callback_metrics.items() if key.startswith("test/")}
        folder.update_metrics(tested | means | rows)
        self.publish(pl_module, folder)

    def _of_all_ranks(self) -> tuple[dict[str, float], dict[str, float]]:
        """Means and numbers of rows of all ranks together."""
        parts = from_all_ranks((dict(self.sums), dict(self.counts), self.told))
        keys = sorted({key for _, _, told in parts for key in told})
        sums, counts = ({key: sum(part[which].get(key, 0.0) for part in parts) for key in keys} for which in (0, 1))
        rows = {key: count for key, count in counts.items() if key.startswith("test/rows/")}
        return {key: total / counts[key] for key, total in sums.items() if key not in rows}, rows

    def publish(self, task: Any, folder: RunFolder) -> None:
        """Prints the tables of all results so far, and writes them and the page to the run folder.

        Args:
            task: that was tested.
            folder: of the run.
        """
        results = folder.metrics()
        said = remarks(results, task.datasets)
        with open(folder.table, "w") as file:
            for console in (Console(), Console(file=file, width=120)):
                for table in tables(results, task.datasets):
                    console.print(table)
                for sentence in said:
                    console.print(f"- {sentence}", markup=False, highlight=False)
        write_page(self._payload(task, results, said), folder.report)
        Console().print(f"report: {folder.report}", markup=False, highlight=False)

    def _payload(self, task: Any, results: dict[str, float], said: list[str]) -> Plain:
        adapters, datasets = task.model.inputs.adapters, task.datasets
        parameters = sum(p.numel() for p in task.model.parameters())
        trained = f", {results['train/steps']:.0f} steps in {results['train/seconds']:.0f} s" if "train/seconds" in results else ""
        return {
            "title": self.title,
            "subtitle": f"{type(task.model).__name__} with {parameters:,} parameters{trained}; tested {date.today().isoformat()}",
            "modalities": [{"name": name, "view": view_of(adapter)} for name, adapter in adapters.items()],
            "layers": list(self.samples[0]["mass"]) if self.samples else [],
            "datasets": list(datasets),
            "accuracy": by_dataset(results, "test/accuracy", datasets),
            "accuracy_without": {n: by_dataset(results, f"test/accuracy_without_{n}", datasets) for n in names_of(results, "accuracy_without_")},
            "mass": {n: by_dataset(results, f"test/mass_{n}", datasets) for n in names_of(results, "mass_")},
            "token_share": {n: by_dataset(results, f"test/token_share_{n}", datasets) for n in names_of(results, "token_share_")},
            "baselines": {n: by_dataset(results, f"test/baseline_{n}", datasets) for n in names_of(results, "baseline_")},
            "remarks": said,
            "samples": self.samples,
        }


def having(batch: Mapping[str, Tensor], modalities: Iterable[str]) -> dict[str, Tensor]:
    """Which rows have each modality, (b); none has one that the batch knows nothing of."""
    modalities = list(modalities)
    known = {name: presence(batch, name) for name in modalities if name in batch or f"{name}_present" in batch}
    nobody = torch.zeros_like(next(iter(known.values())))
    return {name: known.get(name, nobody) for name in modalities}


def asking(batch: Mapping[str, Tensor], modality: str, present: Tensor) -> Tensor:
    """Which rows are asked for the content of a modality that some have, (b)."""
    key = f"{modality}_target"
    return presence(batch, key) if key in batch or f"{key}_present" in batch else torch.zeros_like(present)


def without_in(batch: Mapping[str, Tensor], modality: str, rows: Tensor) -> dict[str, Tensor]:
    """The same batch in which some of the rows that have a modality, (b), have it no more."""
    present = presence(batch, modality)
    left = present & ~rows
    if not left.any():
        return without(batch, modality)
    found = dict(batch) | {f"{modality}_present": left}
    if len(batch[modality]) != len(present):  # entries are there of the rows alone that have the modality
        found |= {key: batch[key][left[present]] for key in (modality + suffix for suffix in SUFFIXES) if key in batch}
    return found
