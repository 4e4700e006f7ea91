"""Compositions of the parts: whole models, and the controls that they are measured against."""

from perceiver.models.controls import ConcatMLP, GatedFusion, LateFusion, LowRankFusion, Majority, MeanPool, TransformerBaseline
from perceiver.models.multitask import MultitaskPerceiver, Readout
from perceiver.models.perceiver import Perceiver
from perceiver.models.perceiver_io import PerceiverIO

__all__ = [
    "ConcatMLP",
    "GatedFusion",
    "LateFusion",
    "LowRankFusion",
    "Majority",
    "MeanPool",
    "MultitaskPerceiver",
    "Perceiver",
    "PerceiverIO",
    "Readout",
    "TransformerBaseline",
]
