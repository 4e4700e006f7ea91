"""Mixtures: which rows come when, from which dataset, and how they become batches."""
