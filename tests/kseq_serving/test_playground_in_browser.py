"""Playground in a headless browser: typing, pressing buttons and reading the results."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.common.keys import Keys

from kseq_serving.protocol.protos import SavedModel
from tests.kseq_serving import toy_models
from tests.kseq_serving.clients import ServerProcess
from tests.kseq_serving.playground_page import MARKS, Page, open_browser, open_page

pytestmark = MARKS


def name_method(folder: Path, name: str) -> None:
    """Set the method of each signature to its name, as exports of TensorFlow 1 do."""
    path = folder / "saved_model.pb"
    model = SavedModel.FromString(path.read_bytes())
    model.meta_graphs[0].signature_def[name].method_name = f"tensorflow/serving/{name}"
    path.write_bytes(model.SerializeToString())


@pytest.fixture(scope="module")
def address(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of the page, on a server of a text model and others."""
    folder = tmp_path_factory.mktemp("playground")
    toy_models.save_speller(folder / "speller" / "1")
    toy_models.save_examples(folder / "examples" / "1")
    name_method(folder / "examples" / "1", "classify")
    paths = {"a/b": folder / "speller", "examples": folder / "examples", "toy": models / "toy"}
    paths["versioned"] = models / "versioned"
    config = folder / "models.config"
    entries = "".join(
        f'config {{ name: "{name}" base_path: "{path}" model_platform: "tensorflow" '
        "model_version_policy { all {} } }\n"
        for name, path in paths.items()
    )
    config.write_text(f"model_config_list {{\n{entries}}}\n")
    server = ServerProcess(folder / "log", f"--model_config_file={config}", "--enable_playground")
    try:
        yield f"http://localhost:{server.wait_ready().rest_port}/"
    finally:
        server.stop()


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    with open_browser(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


# Contrast of a cell's text with its shade, by the formula of WCAG 2, for the weights 0, 0.01, ... 1.
CONTRASTS = """
const done = arguments[0];
const luminance = (colour) => {
  const canvas = new OffscreenCanvas(1, 1).getContext("2d");
  canvas.fillStyle = colour;
  canvas.fillRect(0, 0, 1, 1);
  const [red, green, blue] = [...canvas.getImageData(0, 0, 1, 1).data].map((value) => {
    const share = value / 255;
    return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
};
import("/playground/heat_map.js").then(({ heatMap }) => {
  const map = heatMap([Array.from({ length: 101 }, (_, percent) => percent / 100)]);
  document.getElementById("attention").replaceChildren(map);
  document.getElementById("answer").hidden = false;
  done([...map.querySelectorAll("tbody td")].map((cell) => {
    const { color, backgroundColor } = getComputedStyle(cell);
    const [dark, light] = [luminance(color), luminance(backgroundColor)].sort((a, b) => a - b);
    return (light + 0.05) / (dark + 0.05);
  }));
});
"""


@pytest.fixture
def page(browser: webdriver.Chrome, address: str) -> Iterator[Page]:
    with open_page(browser, address) as page:
        yield page


def test_a_text_its_n_best_and_its_attention(page: Page):
    page.type("text", "né a")
    page.ask()
    assert page.n_best() == [["#", "text", "score"], ["1", "a én", "-0.2500"], ["2", "NÉ A", "-1.5000"]]
    assert page.heat_map() == [
        ["", "n", "é", "␣", "a"],
        ["a", "", "", "", "75"],
        ["␣", "", "", "75", ""],
        ["é", "", "75", "", ""],
        ["n", "75", "", "", ""],
    ]
    assert page.shade(1, 4) == page.shade(4, 1) != page.shade(1, 1) == page.shade(3, 4)
    assert page.texts("#progress")[0].startswith("answered in ")
    assert page.texts("#attention h2") == ["What text 1 attended to"]

    page.find("input[type=radio]")[0].send_keys(Keys.ARROW_DOWN)
    assert page.texts("#attention h2") == ["What text 2 attended to"]
    assert page.heat_map()[1] == ["N", "100", "", "", ""]
    assert page.shade(1, 1) == page.shade(4, 4) != page.shade(1, 2)


def test_hypotheses_that_there_are_not_are_left_out(page: Page):
    page.type("text", "")
    page.ask()
    assert page.n_best() == [["#", "text", "score"], ["1", "", "-0.2500"]]
    assert page.find(".heat, input[type=radio]") == []


def test_what_was_typed_stays_where_it_fits(page: Page):
    page.type("text", "abc")
    page.choose("signature", "plain")
    assert page.find("textarea")[0].get_property("value") == "abc"
    page.choose("model", "toy")
    page.type("x", "[1.5]")
    page.choose("signature", "divide")  # its input x takes integers
    assert page.find("textarea")[0].get_property("value") == "[0]"


def test_the_keyboard_is_enough(page: Page):
    assert page.browser.switch_to.active_element == page.type("text", "ab")
    page.type("text", "ab").send_keys(Keys.SHIFT, Keys.ENTER)
    page.browser.switch_to.active_element.send_keys("c", Keys.ENTER)
    page.wait_for_answer()
    assert page.heat_map()[0] == ["", "a", "b", "⏎", "c"]
    assert page.browser.switch_to.active_element.get_property("value") == "ab\nc"


@pytest.mark.parametrize("text", ["<img src=x onerror=alert(1)>", "</td><script>alert(1)</script>", "&amp;"])
def test_markup_is_shown_as_it_was_written(page: Page, text: str):
    page.choose("signature", "plain")
    page.type("text", text)
    page.ask()
    assert page.texts(".best .text") == [text[::-1], text.upper()]
    assert page.find("#answer img, #answer script") == []


@pytest.mark.parametrize("signature", ["unnamed", "ids"])
def test_attention_without_names_is_numbered(page: Page, signature: str):
    page.choose("signature", signature)
    page.type("text", "abc")
    page.ask()
    assert page.heat_map() == [["", "1", "2", "3"], ["1", "", "", "75"], ["2", "", "75", ""], ["3", "75", "", ""]]


def test_an_answer_without_attention_is_a_table(page: Page):
    page.choose("signature", "plain")
    page.type("text", "abc")
    page.ask()
    assert page.n_best() == [["#", "text", "score"], ["1", "cba", "-0.2500"], ["2", "ABC", "-1.5000"]]
    assert page.find(".heat, input[type=radio]") == []


def test_names_and_versions_come_from_the_server(page: Page):
    assert page.choices("model") == ["a/b", "examples", "toy", "versioned"]
    assert page.choices("signature") == ["ids", "plain", "serving_default", "unnamed"]
    page.choose("model", "versioned")
    assert page.choices("version") == ["latest (2)", "2", "1"]
    page.choose("version", "1")
    page.type("x", "[1.5]")
    page.ask()
    assert page.received() == '{"outputs":[16.0]}'


def test_other_models_take_and_give_json(page: Page):
    page.choose("model", "toy")
    page.choose("signature", "pair")
    assert [box.get_property("value") for box in page.find("textarea")] == ["[0.0]", "[0]"]
    page.type("a", "[1.5, NaN]")
    page.type("b", "[2, 1000000000]")
    page.ask()
    assert page.received() == '{"outputs":{"sum":[3.5,NaN],"twice":[4,2000000000]}}'
    assert page.find("#whole")[0].get_property("open")
    assert page.find(".best, .heat") == []


def test_examples_are_classified(page: Page):
    page.choose("model", "examples")
    page.choose("signature", "classify")
    page.type("examples", '[{"x": 1.5}, {"x": 0.25}]')
    page.ask()
    assert page.received() == '{"results":[[["low",1.5],["high",3.0]],[["low",0.25],["high",0.5]]]}'


@pytest.mark.parametrize(
    ("signature", "name", "typed", "said"),
    [
        ("divide", "x", "[0]", "Integer division by zero"),
        ("pair", "b", "[1,]", "JSON Parse error: Invalid value. at offset: 58"),
        ("pair", "b", '["a"]', 'JSON Value: "a" Type: String is not of expected type: int32'),
    ],
)
def test_the_servers_errors_are_shown(page: Page, signature: str, name: str, typed: str, said: str):
    page.choose("model", "toy")
    page.choose("signature", signature)
    page.type(name, typed)
    page.ask()
    title, text = page.failure()
    assert title == "The server answered 400 Bad Request"
    assert said in text
    assert not page.find("#answer")[0].is_displayed()

    page.type(name, "[1]")
    page.ask()
    assert page.failure() == []
    assert page.find("#answer")[0].is_displayed()


def test_a_server_that_is_gone_is_said(page: Page):
    conditions = {"offline": True, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
    page.browser.execute_cdp_cmd("Network.enable", {})
    page.browser.execute_cdp_cmd("Network.emulateNetworkConditions", conditions)
    page.ask()
    page.browser.execute_cdp_cmd("Network.emulateNetworkConditions", conditions | {"offline": False})
    assert page.failure() == ["The server cannot be reached", "Failed to fetch"]
    (logged,) = page.browser.get_log("browser")
    assert "ERR_INTERNET_DISCONNECTED" in logged["message"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_can_be_read(page: Page, scheme: str):
    """In the light and the dark theme, and on a phone, where the heat map scrolls but the page does not."""
    page.browser.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    )
    page.browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": 360, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    )
    contrasts = page.browser.execute_async_script(CONTRASTS)
    width = page.browser.execute_script("return document.documentElement.scrollWidth")
    red = int(re.findall(r"\d+", page.find("body")[0].value_of_css_property("background-color"))[0])
    page.browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    page.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {})
    assert (red > 128) == (scheme == "light")
    assert width <= 360
    assert len(contrasts) == 101
    assert min(contrasts) >= 4.5
