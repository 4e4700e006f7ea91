"""Cases: what fuzzing tries, counted."""

import time
from collections import Counter
from collections.abc import Callable
from functools import wraps
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis.strategies import SearchStrategy

SECONDS = 10.0  # of computing, for one case: what takes longer hangs
tried: Counter[str] = Counter()  # cases, since the process began


def fuzz(cases: int, *, seconds: float = SECONDS, **drawn: SearchStrategy[Any]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Marks a property that is to hold for many drawn cases, the same ones each time.

    Args:
        cases: how many.
        seconds: of computing, the most that one may take. What waits without computing ends with the time of the test.
        drawn: what is drawn for each, by the test's arguments.
    """
    slow_or_large = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example]
    limits = settings(max_examples=cases, deadline=None, derandomize=True, suppress_health_check=slow_or_large)

    def mark(test: Callable[..., None]) -> Callable[..., None]:
        @wraps(test)
        def counted(*fixtures: Any, **named: Any) -> None:
            tried["cases"] += 1
            before = time.process_time()
            test(*fixtures, **named)
            took = time.process_time() - before
            assert took < seconds, f"it took {took:.1f} s"

        marked = limits(given(**drawn)(counted))
        # A warning is for a user to read, and would pass for an error here.
        for one in (pytest.mark.slow, pytest.mark.timeout(1_200), pytest.mark.filterwarnings("ignore")):
            marked = one(marked)
        return marked

    return mark


def check_told(error: Exception, name: str) -> None:
    """Makes sure that an error names what is wrong, in one line that a terminal can show."""
    message = str(error)
    shown = ascii(message[:2_000])  # what cannot be encoded would end the worker that reports it
    if name not in message or "\n" in message or len(message) >= 1_000 or message.encode(errors="replace").decode() != message:
        raise AssertionError(f"{type(error).__name__}: {shown}") from None
