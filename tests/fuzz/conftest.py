"""Fuzzing: drawn cases without end, of which each must come out right, or with an error of ours that says what is wrong.

Never may one end the interpreter, hang, or give a wrong answer. `python -m pytest tests/fuzz -m slow` tells how many cases were tried.
"""

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.builders import without_shape_checks
from tests.fuzz.cases import tried

COUNT = "fuzzed cases"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Gives a test of many cases more time than others have; a case has a limit of its own."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.timeout(1500))


@pytest.fixture(autouse=True)
def counted(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Lets what is wrong through to the library's own errors, and tells how many cases a test tried.

    Nothing waits for the disk: what is at stake is what is read, and not whether it is there when the power fails.
    """
    monkeypatch.setattr(os, "fsync", lambda opened: None)
    before = tried["cases"]
    with without_shape_checks():
        yield
    request.node.user_properties.append((COUNT, tried["cases"] - before))


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for the files of all cases, each of which is written over the one before."""
    return tmp_path_factory.mktemp("fuzz")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Tells how many cases were tried, in all and by file; with `--numprocesses`, too."""
    found: Counter[str] = Counter()
    for report in (one for reports in terminalreporter.stats.values() for one in reports if getattr(one, "when", None) == "teardown"):
        for name, value in report.user_properties:
            if name == COUNT:
                found[Path(report.nodeid.partition("::")[0]).stem] += value
    if found:
        terminalreporter.write_line(f"fuzzed cases: {sum(found.values())} ({', '.join(f'{name} {cases}' for name, cases in sorted(found.items()))})")
