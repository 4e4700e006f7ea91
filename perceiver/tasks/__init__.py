"""Tasks: what a model is trained for, as LightningModules."""

from perceiver.tasks.classification import Classification
from perceiver.tasks.optim import param_groups, warmup_cosine

__all__ = ["Classification", "param_groups", "warmup_cosine"]
