"""The Trainer of transformers, with a folder for each checkpoint."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import PreTrainedConfig, PreTrainedModel, Trainer, TrainerCallback, TrainingArguments, set_seed

from tests.faults.subjects.toy import Fate, Samples, arguments, network


class ToyConfig(PreTrainedConfig):
    """Nothing is left open but the dropout."""

    model_type = "toy"
    dropout: bool = False


class Toy(PreTrainedModel):
    """The small network as a model."""

    config_class = ToyConfig

    def __init__(self, config: ToyConfig) -> None:
        super().__init__(config)
        self.net = network(config.dropout)
        self.post_init()

    def _init_weights(self, module: Any) -> None:
        """As PyTorch made them."""

    def forward(self, rows: Tensor, labels: Tensor, ids: Tensor) -> dict[str, Tensor]:
        """The loss, and the ids for the note."""
        logits = self.net(rows)
        return {"loss": cross_entropy(logits, labels), "logits": logits, "ids": ids}


class NotingTrainer(Trainer):
    """The Trainer; a step is noted when its loss is known."""

    fate: Fate

    def compute_loss(self, *words: Any, **options: Any) -> Any:
        """The loss, noted."""
        loss, outputs = super().compute_loss(*words, **options | {"return_outputs": True})
        self.fate.step(self.state.global_step, loss, outputs["ids"])
        return (loss, outputs) if options.get("return_outputs") else loss


class BeforeSave(TrainerCallback):
    """Tells of a save that is to come."""

    def __init__(self, fate: Fate) -> None:
        self.fate = fate

    def on_step_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        """Tells the number of updates so far."""
        self.fate.before_save(state.global_step)


def main(words: Sequence[str]) -> None:
    """Trains."""
    asked = arguments(words)
    set_seed(1)
    fate = Fate(asked)
    settings = TrainingArguments(
        asked.checkpoints,
        max_steps=asked.steps,
        save_steps=asked.save_every,
        per_device_train_batch_size=asked.batch_size,
        dataloader_num_workers=asked.workers,
        use_cpu=True,
        disable_tqdm=True,
        **({"train_sampling_strategy": "sequential"} if asked.in_order else {}),
    )
    trainer = NotingTrainer(Toy(ToyConfig(dropout=asked.dropout)), settings, train_dataset=Samples(asked.noise), callbacks=[BeforeSave(fate)])
    trainer.fate = fate
    trainer.train(resume_from_checkpoint=True if asked.resume == "newest" else asked.resume)
