"""A report page in a browser without a window."""

import shutil
from pathlib import Path
from typing import Any

import pytest

FLAGS = (
    "--headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run "
    "--disable-background-networking --disable-component-update --disable-sync"
)


class Page:
    """The page in a browser."""

    def __init__(self, driver: Any, path: Path) -> None:
        self.driver = driver
        self.address = path.as_uri()

    def open(self, width: int = 1280, scheme: str = "light", height: int = 900) -> None:
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False})
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]})
        self.driver.get(self.address)

    def js(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(script, *arguments)

    def click(self, selector: str) -> None:
        self.js(
            "const found = document.querySelectorAll(arguments[0]); if (found.length !== 1) throw Error(found.length); found[0].click()", selector
        )

    def text(self, selector: str) -> str:
        return str(self.js("return document.querySelector(arguments[0]).textContent", selector))

    def texts(self, selector: str) -> list[str]:
        return list(self.js("return [...document.querySelectorAll(arguments[0])].map((each) => each.textContent)", selector))

    def count(self, selector: str) -> int:
        return int(self.js("return document.querySelectorAll(arguments[0]).length", selector))

    def shown(self, selector: str) -> bool:
        return bool(self.js("return document.querySelector(arguments[0]).checkVisibility({ visibilityProperty: true })", selector))

    def drawing(self, modality: str) -> str:
        """All pixels of the map of a modality."""
        return str(self.js("return document.querySelector(`[data-modality=${arguments[0]}] canvas`).toDataURL()", modality))

    def drawings(self) -> list[str]:
        """All pixels of all maps of a sample."""
        return list(self.js("return [...document.querySelectorAll('#inputs canvas')].map((each) => each.toDataURL())"))

    def tints(self) -> list[str]:
        return list(self.js("return [...document.querySelectorAll('.bytes span')].map((each) => getComputedStyle(each).backgroundColor)"))

    def marks(self) -> tuple[list[str], list[str]]:
        """All that the highlighter changes."""
        return self.drawings(), self.tints()

    def bottom(self, selector: str) -> float:
        return float(self.js("return document.querySelector(arguments[0]).getBoundingClientRect().bottom", selector))

    def open_all(self) -> None:
        self.js("for (const each of document.querySelectorAll('details')) each.open = true")

    def press(self, key: str) -> None:
        from selenium.webdriver import ActionChains, Keys

        ActionChains(self.driver, duration=0).send_keys(getattr(Keys, key)).perform()

    def errors(self) -> list[str]:
        return [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] == "SEVERE"]


def browser(profile: Path) -> Any:
    """A driver of Chromium; the test is skipped where there is none."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    binary, service = shutil.which("chromium"), shutil.which("chromedriver")
    if binary is None or service is None:
        pytest.skip("chromium and chromedriver are not installed")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for flag in (*FLAGS.split(), f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    return webdriver.Chrome(options=options, service=webdriver.ChromeService(service))
