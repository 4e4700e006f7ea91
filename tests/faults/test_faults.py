"""Every fault is survived, and the guide's table is what was found."""

import json

import pytest

from tests.faults.page import FOUND, PAGE, page
from tests.faults.scoreboard import attempt, rows

ALL = range(1, 31)


def test_every_fault_is_a_row():
    assert sorted(rows()) == list(ALL)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("number", ALL)
def test_a_fault_is_survived(number):
    outcome = attempt(number, rows()[number], "ours")
    assert outcome.outcome == "pass", outcome.said


def test_the_guide_shows_what_was_found():
    found = json.loads(FOUND.read_text())
    assert page(PAGE.read_text(), found) == PAGE.read_text()
    assert {(one["row"], one["outcome"]) for one in found["outcomes"] if one["subject"] == "ours"} == {(number, "pass") for number in ALL}
