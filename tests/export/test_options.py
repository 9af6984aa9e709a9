"""The options of an export, as one object or as keywords of the call."""

import dataclasses

import pytest

import kseq
from kseq.export.options import ExportSwitches, with_switches

ALL = {
    "too_long": "error",
    "seed_input": True,
    "replace_unknown": True,
    "alignments": True,
    "one_step": True,
    "warmup": False,
    "serving_config": False,
    "verbose": False,
}


def test_every_field_is_a_keyword_of_the_call():
    assert [field.name for field in dataclasses.fields(kseq.ExportOptions)] == list(ExportSwitches.__annotations__)
    assert with_switches(None, ALL) == kseq.ExportOptions(**ALL)
    for name, value in ALL.items():
        assert getattr(with_switches(None, {name: value}), name) == value != getattr(kseq.ExportOptions(), name)


def test_keywords_replace_fields_of_the_options():
    options = kseq.ExportOptions(alignments=True, warmup=False)
    assert with_switches(options, {"warmup": True}) == kseq.ExportOptions(alignments=True, warmup=True)
    assert with_switches(options, {}) == options


def test_an_unknown_keyword_is_refused(tmp_path):
    with pytest.raises(
        TypeError, match=r"unknown arguments \['warm_up'\]. Did you mean \['warmup'\]\? The fields of ExportOptions are"
    ):
        kseq.export_saved_model(object(), tmp_path / "m", warm_up=False)
    with pytest.raises(TypeError, match=r"Did you mean \['buckets'\]\?"):
        kseq.export_saved_model(object(), tmp_path / "m", bucket=[8])


@pytest.mark.long
def test_options_reach_the_exported_files(export_small, tmp_path):
    folder = export_small(tmp_path / "m", options=kseq.ExportOptions(warmup=False, one_step=True), serving_config=False)
    assert [path.name for path in (tmp_path / "m").iterdir()] == ["1"]
    assert not (folder / "assets.extra").exists()
    assert kseq.load_saved_model(folder, signature_name="serving_start") is not None
