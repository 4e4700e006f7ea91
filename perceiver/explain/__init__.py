"""Explaining: how attention combined the modalities, and whether that picture is true."""

from perceiver.adapters.presence import without
from perceiver.explain.callback import ModalityReport
from perceiver.explain.examination import report
from perceiver.explain.findings import Report
from perceiver.explain.measure import Diagnosis, Measure
from perceiver.explain.monitor import AttentionMonitor
from perceiver.explain.page import write_page
from perceiver.explain.reconstruction import Reconstruction
from perceiver.explain.subject import Subject
from perceiver.explain.table import remarks, tables

__all__ = [
    "AttentionMonitor",
    "Diagnosis",
    "Measure",
    "ModalityReport",
    "Reconstruction",
    "Report",
    "Subject",
    "remarks",
    "report",
    "tables",
    "without",
    "write_page",
]
