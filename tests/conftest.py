"""Every test is also a shape test: jaxtyping's signatures are enforced wherever the suite calls the library.

Set JAXTYPING_DISABLE=1 for the tests that compile, which the hook would break.
"""

import os

from jaxtyping import install_import_hook

if not os.environ.get("JAXTYPING_DISABLE"):
    install_import_hook("perceiver", "beartype.beartype")

import pytest  # noqa: E402
import torch  # noqa: E402


@pytest.fixture(autouse=True)
def reproducible() -> None:
    """One thread, and the same random numbers for each test."""
    torch.set_num_threads(1)
    torch.manual_seed(20261121)
