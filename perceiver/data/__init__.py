"""Data: datasets and LightningDataModules, and the batch that everything meets in."""

from perceiver.data.batch import collate
from perceiver.data.quickstart import Quickstart

__all__ = ["Quickstart", "collate"]
