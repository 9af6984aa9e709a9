import keras
import pytest

from kseq.text import SpecialTokens


def test_ids_follow_the_order():
    tokens = SpecialTokens(unknown="?")
    assert tokens.strings == ("<pad>", "?", "<s>", "</s>")
    assert (tokens.pad_id, tokens.unk_id, tokens.bos_id, tokens.eos_id) == (0, 1, 2, 3)
    assert len(tokens) == 4


def test_serialises():
    tokens = SpecialTokens(begin="[CLS]")
    assert keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(tokens)) == tokens


@pytest.mark.parametrize("wrong", [{"pad": "</s>"}, {"unknown": ""}])
def test_refuses_equal_and_empty(wrong):
    with pytest.raises(ValueError, match="four different, non-empty strings"):
        SpecialTokens(**wrong)


@pytest.mark.parametrize("wrong", [{"pad_id": 3}, {"unk_id": -1}, {"eos_id": 2**31}])
def test_refuses_equal_and_negative_ids(wrong):
    with pytest.raises(ValueError, match="four different ids from 0 on"):
        SpecialTokens(**wrong)


def test_an_earlier_file_has_no_ids():
    old = {"pad": "_", "unknown": "?", "begin": "<s>", "end": "</s>"}
    assert SpecialTokens.from_config(old).ids == (0, 1, 2, 3)
