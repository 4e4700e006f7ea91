"""Controls: what a Perceiver is measured against, from no input at all to full attention between all tokens."""

from perceiver.models.controls.concat_mlp import ConcatMLP
from perceiver.models.controls.gated_fusion import GatedFusion
from perceiver.models.controls.late_fusion import LateFusion
from perceiver.models.controls.low_rank_fusion import LowRankFusion
from perceiver.models.controls.majority import Majority
from perceiver.models.controls.mean_pool import MeanPool
from perceiver.models.controls.transformer import TransformerBaseline

__all__ = ["ConcatMLP", "GatedFusion", "LateFusion", "LowRankFusion", "Majority", "MeanPool", "TransformerBaseline"]
