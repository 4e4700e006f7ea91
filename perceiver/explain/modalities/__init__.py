"""Modalities: what each one is worth to a model. It is asked with every set of them once, and with some of them exchanged."""

from perceiver.explain.modalities.coalitions import Coalitions, coalitions
from perceiver.explain.modalities.diagnosis import diagnose_view

__all__ = ["Coalitions", "coalitions", "diagnose_view"]
