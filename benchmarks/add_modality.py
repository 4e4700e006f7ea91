"""A model that knows pictures alone learns to hear: `add_modality`, with what it knew frozen, and then with everything learning.

    python benchmarks/add_modality.py

1. MNIST alone, as `python benchmarks/fine_tuning.py tune mnist scratch 0` trains it;
2. an adapter for sounds and a task for spoken digits are added, and only they learn; the answers about pictures must be the same bits;
3. all of it learns, on both, ten times more slowly.
"""

import json
from datetime import date
from pathlib import Path
from typing import Any

import lightning as L
import torch
from fine_tuning import RUNS, config, tune
from jsonargparse import ArgumentParser
from torch import Tensor

import perceiver
from perceiver.data import MixedDataModule
from perceiver.models import MultitaskPerceiver
from perceiver.parts import part_of
from perceiver.tasks import FineTuning, Multitask

PICTURES = RUNS / "mnist_scratch_0/checkpoints/best.ckpt"
RECORDED = Path("benchmarks/results/add_modality.json")
STEPS = {"frozen": 1_200, "all": 600}


def made(kind: type, content: dict[str, Any]) -> Any:
    """An object of a configuration."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(kind, "made")
    return parser.instantiate(parser.parse_object({"made": content})).made


def data(*names: str) -> MixedDataModule:
    """Some of the datasets, as `configs/mixed.yaml` has them."""
    return made(MixedDataModule, config(list(names), sum(STEPS.values()), RUNS, 0)["data"])


def hearing() -> perceiver.Adapter:
    """The adapter for sounds, as `configs/mixed.yaml` has it."""
    return made(
        perceiver.Adapter, config(["spoken_digits"], sum(STEPS.values()), RUNS, 0)["model"]["init_args"]["model"]["init_args"]["adapters"]["audio"]
    )


def answers(model: MultitaskPerceiver) -> Tensor:
    """What the model says about each of MNIST's pictures for the test."""
    module = data("mnist")
    module.setup("test")
    with torch.inference_mode():
        return torch.cat([model.eval()({"image": batch["image"]}, ["mnist"])["mnist"] for batch in module.test_dataloader()])


def fit(model: MultitaskPerceiver, module: MixedDataModule, steps: int, tasks: dict[str, Any], **training: Any) -> None:
    """Trains for some steps."""
    options = {"logger": False, "enable_checkpointing": False, "enable_model_summary": False, "enable_progress_bar": False, "limit_val_batches": 0}
    trainer = L.Trainer(accelerator="cpu", max_steps=steps, max_epochs=-1, gradient_clip_val=1.0, **options)
    trainer.fit(Multitask(model, tasks, warmup_steps=100, **training), module)


def accuracies(model: MultitaskPerceiver) -> dict[str, float]:
    """Test accuracy of each task that the model has."""
    found = {}
    for name in model.readouts:
        module = data(name)
        trainer = L.Trainer(accelerator="cpu", logger=False, enable_progress_bar=False)
        (told,) = trainer.test(Multitask(model, module.tasks), module, verbose=False)
        found[name] = told[f"test/accuracy/{name}"]
    return found


def main() -> None:
    """Trains, checks, tells."""
    L.seed_everything(0)
    tune("mnist", "scratch", 0)
    model = perceiver.from_pretrained(PICTURES)
    assert isinstance(model, MultitaskPerceiver)
    before, old = answers(model), {part_of(name) for name in model.state_dict()}
    told: dict[str, Any] = {"date": date.today().isoformat(), "pictures alone": accuracies(model)}
    model.add_modality("audio", hearing())
    told["the same bits before training"] = torch.equal(answers(model), before)
    sounds = data("spoken_digits")
    fit(model, sounds, STEPS["frozen"], sounds.tasks, learning_rate=2e-3, fine_tuning=FineTuning(freeze=dict.fromkeys(old)))
    told["the new parts have learned"] = accuracies(model)
    told["the same bits after training"] = torch.equal(answers(model), before)
    model.requires_grad_(True)
    both = data("mnist", "spoken_digits")
    fit(model, both, STEPS["all"], both.tasks, learning_rate=2e-4)
    told["all has learned"] = accuracies(model)
    RECORDED.write_text(json.dumps(told, indent=1) + "\n")
    print(json.dumps(told, indent=1))


if __name__ == "__main__":
    main()
