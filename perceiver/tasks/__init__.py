"""Tasks: what a model is trained for, as LightningModules."""

from perceiver.tasks.autoencoding import Autoencoding
from perceiver.tasks.balance import BalanceModalities
from perceiver.tasks.classification import Classification
from perceiver.tasks.fine_tuning import FineTuning
from perceiver.tasks.flow_estimation import FlowEstimation
from perceiver.tasks.lora import LoRA
from perceiver.tasks.masked_language import MaskedLanguage
from perceiver.tasks.micro_batches import MicroBatches
from perceiver.tasks.multitask import Multitask
from perceiver.tasks.objectives import OBJECTIVES, ClassObjective, MaskedBytesObjective, Objective
from perceiver.tasks.optim import param_groups, warmup_cosine
from perceiver.tasks.pretrained_model import pretrained_model
from perceiver.tasks.task import Task

__all__ = [
    "OBJECTIVES",
    "Autoencoding",
    "BalanceModalities",
    "ClassObjective",
    "Classification",
    "FineTuning",
    "FlowEstimation",
    "LoRA",
    "MaskedBytesObjective",
    "MaskedLanguage",
    "MicroBatches",
    "Multitask",
    "Objective",
    "Task",
    "param_groups",
    "pretrained_model",
    "warmup_cosine",
]
