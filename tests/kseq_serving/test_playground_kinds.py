"""The playground's forms for each kind of input and answer, and the card of a model, in a headless browser."""

import base64
from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium import webdriver

from tests.kseq_serving import playground_models, toy_models
from tests.kseq_serving.clients import ServerProcess
from tests.kseq_serving.playground_page import MARKS, Page, open_browser, open_page

pytestmark = MARKS


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("kinds")
    playground_models.save_gallery(folder / "gallery" / "1")
    toy_models.save_version(folder / "plain" / "1", 1)
    playground_models.write_card(folder / "plain" / "1", '{"titel": "x"}')
    config = folder / "models.config"
    entries = "".join(
        f'config {{ name: "{name}" base_path: "{folder / name}" model_platform: "tensorflow" }}\n'
        for name in ("gallery", "plain")
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


@pytest.fixture
def page(browser: webdriver.Chrome, address: str) -> Iterator[Page]:
    with open_page(browser, address) as page:
        yield page


def values(page: Page) -> list[str]:
    return [box.get_property("value") for box in page.find("textarea")]


def press(page: Page, example: str) -> None:
    next(button for button in page.find(".example") if button.text == example).click()
    page.wait_for_answer()


def test_the_card_is_shown_and_its_first_example_is_typed(page: Page):
    assert page.texts("#title") == ["Gallery <b>of kinds</b>"]
    assert page.texts("#description") == ["Finds the capitals in a text."]
    assert page.texts(".example") == ["Ada met Alan", "words", "a picture"]
    assert values(page) == ["Ada met Alan"]
    assert page.texts("#summary")[0].startswith("text → scores: numbers (?, ?), tags: text (?, ?)")
    assert page.browser.title == "Gallery <b>of kinds</b> - kseq-serve playground"


def test_tags_stand_beside_their_tokens(page: Page):
    page.ask()
    assert page.table("tags") == [
        ["token", "tag", "score"],
        ["Ada", "NAME", "0.7500"],
        ["met", "WORD", "0.5000"],
        ["Alan", "NAME", "0.7500"],
    ]


def test_a_refused_row_shows_the_reason_alone(page: Page):
    page.type("text", "")
    page.ask()
    assert page.texts(".refusal") == ["The model refuses this input\nThe text is empty."]
    assert page.find("#best table") == []
    page.type("text", "Ada")
    page.ask()
    assert page.find(".refusal") == []


def test_refused_rows_are_numbered(page: Page):
    page.choose("signature", "features")
    page.type("features", "[[[1, 2, 3]], [[1, 2, NaN]]]")
    page.ask()
    assert page.texts(".refusal p") == ["row 2: features has NaN"]
    assert page.table("values")[1] == ["vectors", "(2, 3)", "[2,3,4]"]


def test_an_example_of_another_signature_is_asked(page: Page):
    press(page, "words")
    assert values(page) == ['["New York","is","Big"]']
    assert page.table("tags") == [["token", "tag"], ["New York", "1"], ["is", "0"], ["Big", "1"]]


def test_words_are_typed_with_spaces(page: Page):
    page.choose("signature", "words")
    page.type("words", "Ada  met")
    page.ask()
    assert page.table("tags") == [["token", "tag"], ["Ada", "1"], ["met", "0"]]


def test_a_file_is_picked_and_seen(page: Page, tmp_path: Path):
    press(page, "a picture")
    assert [row[:2] for row in page.table("classes")] == [
        ["class", "probability"],
        ["red", "0.9000"],
        ["blue", "0.1000"],
    ]
    assert page.find(".preview")[0].get_property("naturalWidth") == 8

    file = tmp_path / "blue.png"
    file.write_bytes(playground_models.BLUE)
    page.find("input[type=file]")[0].send_keys(str(file))
    page.ask()
    assert page.table("classes")[1][:2] == ["blue", "0.9000"]
    assert f'"b64": "{base64.b64encode(playground_models.BLUE).decode()}"'.replace(" ", "") in page.sent()


def test_every_other_signature_answers_at_once(page: Page):
    page.choose("signature", "features")
    assert [value.count("[0.0, 0.0, 0.0]") for value in values(page)] == [4, 0]
    assert values(page)[1] == ""  # the lengths are counted
    page.ask()
    assert page.table("values") == [["output", "shape", "first row"], ["vectors", "(1, 3)", "[4,4,4]"]]
    page.choose("signature", "pixels")
    assert values(page) == [""]
    page.ask()
    assert page.table("values")[1] == ["mean", "(1)", "0"]
    page.choose("signature", "ids")
    page.ask()
    assert page.table("values")[1] == ["sum", "(1)", "4"]


def test_a_model_without_a_card_has_its_name(page: Page):
    page.choose("model", "plain")
    assert page.texts("#title") == ["plain"]
    assert page.find(".example") == []
    assert page.texts("#problem") == [
        "assets.extra/kseq_playground.json is not used: it has an unknown member 'titel'; known are title, "
        "description, examples"
    ]
    page.ask()
    assert page.table("values")[1] == ["y", "(1)", "1"]
