"""The report page in a browser, for the tests of what it shows."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import Page, browser
from page_payloads import PAYLOAD

from perceiver.explain.page import write_page


@pytest.fixture(scope="session")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    driver = browser(tmp_path_factory.mktemp("profile"))
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "page.html"
    write_page(PAYLOAD, path)
    return path


@pytest.fixture
def show(driver: Any, tmp_path: Path) -> Callable[..., Page]:
    """Opens the page of another payload."""

    def opened(payload: dict[str, Any], **how: Any) -> Page:
        write_page(payload, tmp_path / "page.html")
        page = Page(driver, tmp_path / "page.html")
        page.open(**how)
        return page

    return opened


@pytest.fixture
def page(driver: Any, file: Path) -> Iterator[Page]:
    """The page as opened on a desk; the test fails if the browser logged an error meanwhile."""
    page = Page(driver, file)
    page.errors()
    page.open()
    yield page
    assert page.errors() == []
