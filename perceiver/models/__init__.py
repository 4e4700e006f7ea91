"""Compositions of the parts: whole models, and the controls that they are measured against."""

from perceiver.models.late_fusion import LateFusion
from perceiver.models.mean_pool import MeanPool
from perceiver.models.multitask import MultitaskPerceiver, Readout
from perceiver.models.perceiver import Perceiver
from perceiver.models.perceiver_io import PerceiverIO

__all__ = ["LateFusion", "MeanPool", "MultitaskPerceiver", "Perceiver", "PerceiverIO", "Readout"]
