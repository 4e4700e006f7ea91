"""Ablation: what a model answers when a modality is taken away."""

from perceiver.adapters.presence import removable, without

__all__ = ["removable", "without"]
