"""Budget: what each part of a report costs in forward passes over the rows, said before it is run, and left out where it is too dear.

A forward and a backward pass count as three.
"""

from collections.abc import Callable

from perceiver.explain.attention.gradients import STEPS
from perceiver.explain.faithfulness.diagnosis import PERMUTATIONS, RANDOM_ORDERS
from perceiver.explain.faithfulness.removal import FRACTIONS
from perceiver.explain.measure import Diagnosis, not_applicable
from perceiver.explain.modalities.interaction import SHUFFLES
from perceiver.explain.modalities.perceptual import LEAST

Tell = Callable[[str], None]
CURVES = 2 * len(FRACTIONS) + 1  # passes for each order of the tokens


class Budget:
    """Passes that are left.

    Args:
        passes: over the rows, for all of a report; without end when not given.
        tell: is told what is about to be done, and its price.

    Raises:
        ValueError: when it is not positive.
    """

    def __init__(self, passes: int | None, tell: Tell) -> None:
        if passes is not None and passes <= 0:
            raise ValueError(f"budget_passes={passes}: give a positive number of passes over the rows, or None for as many as it takes")
        self.left = passes
        self.tell = tell

    def affords(self, what: str, passes: int) -> bool:
        """Whether something can be paid; if so, it is."""
        if self.left is not None and passes > self.left:
            self.tell(f"{what}: left out, since it takes about {passes:.0f} passes and {self.left:.0f} are left")
            return False
        self.tell(f"{what}: about {passes:.0f} passes over the rows")
        if self.left is not None:
            self.left -= passes
        return True

    def left_out(self, key: str, title: str, passes: int) -> Diagnosis:
        """The diagnosis that was too dear."""
        reason = f"it takes about {passes:.0f} passes over the rows, and {self.left or 0:.0f} are left of the budget"
        return Diagnosis(key, title, "not applicable", f"Not measured: {reason}.", (not_applicable(key, reason),))


def attention_passes(modalities: int) -> int:
    """Surveys of the model and its twin, one more for each exchanged modality, and attention that is fixed or uniform, twice."""
    return 2 + modalities + 6


def worth_passes(modalities: int) -> int:
    """Exchanges, and one with the mean in the place of each modality, which is found in another."""
    return (LEAST + 2) * modalities


def simplification_passes(modalities: int) -> int:
    """Latents of the model and its twin, pairings of the rows, and exchanges where these find no interaction."""
    return 2 + SHUFFLES + LEAST * modalities


def faithfulness_passes(explanations: int) -> int:
    """Random orders, an order for each explanation, and dealing attention out anew."""
    return RANDOM_ORDERS * CURVES + explanations * (CURVES + 1) + PERMUTATIONS + 2


def integration_passes() -> int:
    """Integrated gradients beyond what each explanation takes."""
    return 3 * STEPS
