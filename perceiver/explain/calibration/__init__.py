"""Calibration: how often answers are right, and whether the model is as sure of them as it should be."""

from perceiver.explain.calibration.diagnosis import diagnose_predictions
from perceiver.explain.calibration.error import brier, calibration_error, confidence
from perceiver.explain.calibration.selective import aurc, risk_coverage
from perceiver.explain.calibration.temperature import fit_temperature, scaled

__all__ = ["aurc", "brier", "calibration_error", "confidence", "diagnose_predictions", "fit_temperature", "risk_coverage", "scaled"]
