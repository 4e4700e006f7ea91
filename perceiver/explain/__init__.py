"""Explaining: how attention combined the modalities, and whether that picture is true."""

from perceiver.explain.ablation import without
from perceiver.explain.callback import ModalityReport
from perceiver.explain.page import write_page
from perceiver.explain.reconstruction import Reconstruction
from perceiver.explain.table import remarks, tables

__all__ = ["ModalityReport", "Reconstruction", "remarks", "tables", "without", "write_page"]
