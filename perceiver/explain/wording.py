"""Wording: how a number and its interval are put in words, the same in every measure."""

from collections.abc import Sequence

from perceiver.explain.measure import FEW_ROWS, Verdict

Interval = tuple[float, float] | None
UNSURE = "not distinguishable from 0"
ROUNDING = 1e-9


def side(interval: Interval) -> int:
    """1 or -1 where the whole interval is above or below zero; 0 where it holds zero, or there is none."""
    if interval is None:
        return 0
    return int(interval[0] > ROUNDING) - int(interval[1] < -ROUNDING)


def points(share: float) -> str:
    """Hundredths."""
    found = round(100 * share)
    return f"{found} point{'' if abs(found) == 1 else 's'}"


def few(rows: int) -> str:
    """What to say of a number without an interval."""
    return f"{rows} row{'' if rows == 1 else 's'} {'is' if rows == 1 else 'are'} too few to say how sure this is; it takes {FEW_ROWS}"


def judged(interval: Interval, rows: int, verdict: Verdict, reason: str) -> tuple[Verdict, str]:
    """A verdict and its reason; where there is no interval, none but that the rows are too few."""
    return ("ok", few(rows)) if interval is None else (verdict, reason)


def listed(names: Sequence[str]) -> str:
    """`a`, `a and b`, or `a, b and c`."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def spelled(set_of_names: str) -> str:
    """A set of modalities, as `Coalitions.of` has it, in words."""
    return listed(set_of_names.split("+"))
