"""The playground in a headless browser, with the actions and views of a user, for the tests of its page."""

import contextlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import Select, WebDriverWait

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
MARKS = [
    pytest.mark.server,
    pytest.mark.skipif(
        not CHROMIUM or not DRIVER,
        reason="chromium and chromedriver are not installed (Debian: chromium chromium-driver)",
    ),
]
SWITCHES = (
    "--headless",
    "--no-sandbox",  # root cannot use the sandbox
    "--disable-gpu",
    "--disable-dev-shm-usage",  # containers have little of it
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1000,900",
)
WAIT_S = 20.0


@contextlib.contextmanager
def open_browser(profile: Path) -> Iterator[webdriver.Chrome]:
    """Start a browser with an empty profile folder, and end it at the end of the `with` block."""
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for switch in (*SWITCHES, f"--user-data-dir={profile}"):
        options.add_argument(switch)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
    try:
        yield driver
    finally:
        driver.quit()


@contextlib.contextmanager
def open_page(browser: webdriver.Chrome, address: str) -> Iterator["Page"]:
    """Open the page, and check at the end of the `with` block that the browser logged no error."""
    yield Page(browser, address)
    # The log lists violations of the content security policy, and errors of scripts.
    logged = [entry for entry in browser.get_log("browser") if "status of 4" not in entry["message"]]
    assert logged == []


class Page:
    """Page with the actions and views of a user."""

    def __init__(self, browser: webdriver.Chrome, address: str):
        self.browser = browser
        browser.get_log("browser")  # discard the log of the page before
        browser.get(address)
        self.wait(lambda: self.button.is_enabled())

    def wait(self, condition: Callable[[], object]) -> None:
        WebDriverWait(self.browser, WAIT_S).until(lambda _: condition())

    def find(self, selector: str) -> list[WebElement]:
        return self.browser.find_elements(By.CSS_SELECTOR, selector)

    def texts(self, selector: str) -> list[str]:
        return [found.text for found in self.find(selector)]

    @property
    def button(self) -> WebElement:
        return self.find("#ask")[0]

    def choose(self, name: str, label: str) -> None:
        Select(self.find(f"#{name}")[0]).select_by_visible_text(label)
        self.wait(lambda: self.button.is_enabled() and self.texts("#progress") == [""])

    def choices(self, name: str) -> list[str]:
        return [option.text for option in Select(self.find(f"#{name}")[0]).options]

    def type(self, label: str, text: str) -> WebElement:
        (box,) = self.browser.find_elements(By.XPATH, f"//label[span = '{label}']//textarea")
        box.clear()
        box.send_keys(text)
        return box

    def ask(self) -> None:
        self.button.click()
        self.wait_for_answer()

    def wait_for_answer(self) -> None:
        self.wait(lambda: self.texts("#progress") != ["waiting …"])

    def failure(self) -> list[str]:
        return self.texts("#failure h2") + self.texts("#failure pre")

    def received(self) -> str:
        """Return the whole answer, without white space."""
        return "".join(self.find("#received")[0].get_property("textContent").split())

    def n_best(self) -> list[list[str]]:
        return self.table("best")

    def table(self, name: str) -> list[list[str]]:
        """Return the texts of the table of that class, with its heads."""
        return [
            [cell.text for cell in row.find_elements(By.CSS_SELECTOR, "th, td")] for row in self.find(f".{name} tr")
        ]

    def sent(self) -> str:
        """Return the whole request, without white space."""
        return "".join(self.find("#sent")[0].get_property("textContent").split())

    def heat_map(self) -> list[list[str]]:
        return self.table("heat")

    def shade(self, row: int, column: int) -> str:
        cell = self.find(f".heat tbody tr:nth-child({row}) td:nth-of-type({column})")[0]
        return cell.value_of_css_property("background-color")
