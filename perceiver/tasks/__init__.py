"""Tasks: what a model is trained for, as LightningModules."""

from perceiver.tasks.classification import Classification
from perceiver.tasks.multitask import Multitask
from perceiver.tasks.objectives import OBJECTIVES, ClassObjective, MaskedBytesObjective, Objective
from perceiver.tasks.optim import param_groups, warmup_cosine

__all__ = ["OBJECTIVES", "ClassObjective", "Classification", "MaskedBytesObjective", "Multitask", "Objective", "param_groups", "warmup_cosine"]
