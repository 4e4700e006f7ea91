"""The Trainer of transformers with its default settings, given what is broken, and meant ill."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.utils.data import Dataset
from transformers import AutoModel, PreTrainedConfig, PreTrainedModel, Trainer, TrainingArguments

from tests.faults.subjects.faulty_peers import STEPS, Judged, act, resume_from_bomb


class ToyConfig(PreTrainedConfig):
    """Nothing is left open."""

    model_type = "toy"


class Toy(PreTrainedModel):
    """A small network as a model."""

    config_class = ToyConfig

    def __init__(self, config: ToyConfig, network: Judged) -> None:
        super().__init__(config)
        self.network = network
        self.post_init()

    def _init_weights(self, module: Any) -> None:
        """As PyTorch made them."""

    def forward(self, rows: Tensor, labels: Tensor) -> dict[str, Tensor]:
        return {"loss": self.network(rows, labels)}


def train(
    folder: Path, network: Judged, rows: Dataset[Any], *, batch_size: int = 4, workers: int = 0, steps: int = STEPS, resume: str | None = None
) -> None:
    """Trains, and saves `checkpoint-10` at the end."""
    settings = TrainingArguments(
        str(folder),
        max_steps=steps,
        save_steps=STEPS,
        per_device_train_batch_size=batch_size,
        dataloader_num_workers=workers,
        use_cpu=True,
        disable_tqdm=True,
        logging_steps=1,
    )
    Trainer(Toy(ToyConfig(), network), settings, train_dataset=rows).train(resume_from_checkpoint=resume)


def main(words: Sequence[str]) -> None:
    """Does what is asked for."""
    match list(words):
        case ["load", folder]:
            AutoModel.from_pretrained(folder)
        case ["bomb", *rest]:
            resume_from_bomb(["resume", *rest], train)
        case _:
            act(words, train)


if __name__ == "__main__":
    main(sys.argv[1:])
