"""The modality report of a test: accuracy without each modality, attention mass by modality, and a page to look at."""

from collections import defaultdict
from collections.abc import Sequence
from datetime import date
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from rich.console import Console
from torch import Tensor

from perceiver.adapters import Inputs
from perceiver.adapters.presence import removable, without
from perceiver.explain.attention.passage import label
from perceiver.explain.examples import Examples, taken_apart
from perceiver.explain.page import write_page
from perceiver.explain.samples import samples
from perceiver.explain.subject import Subject
from perceiver.explain.table import by_dataset, names_of, remarks, tables
from perceiver.explain.views import Plain, view_of
from perceiver.run_folder import RunFolder
from perceiver.soft_weights import record_mass


class ModalityReport(Callback):
    """During a test, asks the model again without each modality and records where its attention went.

    At the end it adds `test/accuracy_without_<modality>/<dataset>`, `test/loss_without_<modality>/<dataset>`,
    `test/mass_<modality>/<dataset>` (mean over the layers, heads and latents), `test/layer_mass/<layer>/<modality>/<dataset>`,
    `test/token_share_<modality>/<dataset>` and `test/rows/<dataset>` to the run's results, prints them as tables, and writes `table.txt` and
    `report.html` to the run folder. The task has `datasets`, `class_counts`, `judge` and `probabilities`, as those of `perceiver.tasks` do.

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
        self.samples: list[Plain] = []
        self.shown: set[str] = set()

    def on_test_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: dict[str, Tensor], batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Asks again without each modality, and records the mass."""
        task: Any = pl_module
        inputs = task.model.inputs
        tokens, size = inputs(batch)
        dataset = batch.get("dataset", torch.zeros(size, dtype=torch.long))
        names = [task.datasets[int(d)] for d in dataset]
        counts = batch.get("target_mask", torch.ones(size, dtype=torch.bool))  # rows that only fill a rank's last batch do not
        counted = [name for name, has_target in zip(names, counts.tolist(), strict=True) if has_target]
        for modality in removable(batch, tokens):
            losses, right = task.judge(without(batch, modality))
            self._add(f"test/accuracy_without_{modality}", counted, right[counts])
            self._add(f"test/loss_without_{modality}", counted, losses[counts])
        with record_mass(task, self.layers) as records:
            task(batch)
        for modality in tokens:
            readers = [(record.layer, record.mass[modality].mean(-1)[counts]) for record in records if modality in record.mass]
            for layer, mass in readers:
                self._add(f"test/layer_mass/{label(layer)}/{modality}", counted, mass)
            self._add(f"test/mass_{modality}", counted, torch.stack([mass for _, mass in readers]).sum(0) / len(records))
        valid = {name: t.attendable(size).sum(1) for name, t in tokens.items()}
        total = torch.stack(list(valid.values())).sum(0).clamp_min(1)
        for modality, count in valid.items():
            self._add(f"test/token_share_{modality}", counted, (count / total)[counts])
        self._show(trainer, task, batch, names)

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

    def _add(self, key: str, names: list[str], values: Tensor) -> None:
        """Adds one value a row to the mean below a key, dataset by dataset."""
        for i, value in enumerate(values.tolist()):
            self.sums[f"{key}/{names[i]}"] += value
            self.counts[f"{key}/{names[i]}"] += 1

    def on_test_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Adds to the results, and publishes them."""
        sums, counts = self._of_all_ranks()
        if not trainer.is_global_zero:
            return
        folder = RunFolder(trainer.default_root_dir)
        tested = {key: float(value) for key, value in trainer.callback_metrics.items() if key.startswith("test/")}
        rows = {f"test/rows/{key.split('/')[-1]}": count for key, count in counts.items() if key.startswith("test/token_share_")}
        folder.update_metrics(tested | rows | {key: total / counts[key] for key, total in sums.items()})
        self.publish(pl_module, folder)

    def _of_all_ranks(self) -> tuple[dict[str, float], dict[str, float]]:
        """Sums and counts of all ranks together."""
        if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
            return self.sums, self.counts
        parts: list[Any] = [None] * torch.distributed.get_world_size()
        torch.distributed.all_gather_object(parts, (dict(self.sums), dict(self.counts)))
        keys = sorted({key for sums, _ in parts for key in sums})
        return {key: sum(s.get(key, 0.0) for s, _ in parts) for key in keys}, {key: sum(c.get(key, 0.0) for _, c in parts) for key in keys}

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
