"""The card of a model, as the export writes it and the server reads it."""

import numpy as np
import pytest

import kseq
from kseq.export.playground_card import playground_card, write_card
from kseq_serving.rest.playground_card import read


def test_the_server_reads_what_the_export_writes(tmp_path):
    examples = ["3 mai", {"text": "10 août"}]
    write_card(tmp_path, playground_card("Dates", "Writes dates as ISO 8601.", examples, ["text"]))
    assert read(str(tmp_path)) == {
        "title": "Dates",
        "description": "Writes dates as ISO 8601.",
        "examples": [{"inputs": {"text": "3 mai"}}, {"inputs": {"text": "10 août"}}],
    }


def test_examples_may_have_names(tmp_path):
    examples = {"French": "3 mai", "without accents": {"text": "10 aout"}}
    write_card(tmp_path, playground_card(None, None, examples, ["text"]))
    assert read(str(tmp_path))["examples"] == [
        {"name": "French", "inputs": {"text": "3 mai"}},
        {"name": "without accents", "inputs": {"text": "10 aout"}},
    ]
    with pytest.raises(ValueError, match=r"examples\['French'\] = 3 lacks the inputs \['factor', 'text'\]"):
        playground_card(None, None, {"French": 3}, ["text", "factor"])
    for name in ("", " ", 1, None):
        with pytest.raises(ValueError, match=f"examples has the name {name!r}, but a name is a text"):
            kseq.ExportOptions(examples={name: "3 mai"})


def test_arrays_and_files_become_json(tmp_path):
    card = playground_card(None, None, [{"features": np.ones((1, 2)), "image_bytes": b"\x01"}], ["features"])
    write_card(tmp_path, card)
    assert read(str(tmp_path)) == {"examples": [{"inputs": {"features": [[1, 1]], "image_bytes": {"b64": "AQ=="}}}]}


def test_without_content_there_is_no_card(tmp_path):
    write_card(tmp_path, playground_card(None, None, [], ["text"]))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("example", ["text", {"features": [1]}])
def test_an_example_has_all_inputs(example):
    with pytest.raises(ValueError, match=r"examples\[0\] = .* lacks the inputs \[.*'factor'.*\] of a request"):
        playground_card(None, None, [example], ["features", "factor"])


def test_a_single_text_is_no_list_of_examples():
    with pytest.raises(ValueError, match="must be a list of examples"):
        kseq.ExportOptions(examples="3 mai")
