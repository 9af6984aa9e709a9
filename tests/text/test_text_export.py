"""Tokenizers in a SavedModel, loaded as TensorFlow Serving loads it."""

import pathlib

import keras
import numpy as np
import pytest
import tensorflow as tf

from kseq.text import CharacterTokenizer, TextNormalizer, Vocabulary, WordTokenizer


@pytest.fixture(scope="module")
def exported(tmp_path_factory, nasty_texts) -> tuple[pathlib.Path, dict[str, np.ndarray]]:
    """A moved export whose source files are deleted, and the answers it must give."""
    folder = tmp_path_factory.mktemp("export")
    CharacterTokenizer().adapt(nasty_texts).vocabulary.save(folder / "characters.txt")
    source = CharacterTokenizer(
        Vocabulary.from_file(folder / "characters.txt"), normalizer=TextNormalizer(form="NFC"), add_eos=True
    )
    target = WordTokenizer(normalizer=TextNormalizer(case="fold")).adapt(nasty_texts, min_count=2)
    (folder / "characters.txt").unlink()

    def serve(text):
        ids, lengths = source(text)
        return {
            "text": source.detokenize(ids),
            "ids": ids,
            "lengths": lengths,
            # Three hypotheses per row, as from a beam search.
            "words": target.detokenize(tf.stack([target(text)[0]] * 3, axis=1)),
        }

    archive = keras.export.ExportArchive()
    archive.track(source)
    archive.track(target)
    archive.add_endpoint("serving_default", serve, input_signature=[tf.TensorSpec([None], tf.string, name="text")])
    archive.write_out(folder / "before", verbose=False)
    answers = {name: value.numpy() for name, value in serve(tf.constant(nasty_texts)).items()}
    source_files = [pathlib.Path(tokenizer.vocabulary._lines._initializer._filename.asset_path.numpy().decode())
                    for tokenizer in (source, target)]  # fmt: skip
    for file in source_files:
        file.unlink()
    return (folder / "before").rename(folder / "after"), answers


@pytest.mark.long
def test_vocabularies_are_assets(exported):
    path, _ = exported
    assets = sorted(file.name for file in (path / "assets").iterdir())
    assert len(assets) == 2  # one for each tokenizer, although each has two tables
    assert all(name.startswith("vocabulary-") for name in assets)


@pytest.mark.long
def test_session_of_tensorflow_1_answers_equally(exported, nasty_texts):
    path, answers = exported
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        signature = tf.compat.v1.saved_model.load(session, ["serve"], str(path)).signature_def["serving_default"]
        outputs = {name: info.name for name, info in signature.outputs.items()}
        got = session.run(outputs, {signature.inputs["text"].name: nasty_texts})
        nothing = session.run(outputs, {signature.inputs["text"].name: []})
    for name, expected in answers.items():
        np.testing.assert_array_equal(got[name], expected)
    assert nothing["text"].shape == (0,)
    assert nothing["words"].shape == (0, 3)


@pytest.mark.long
def test_loaded_in_python_answers_equally(exported, nasty_texts):
    path, answers = exported
    got = tf.saved_model.load(path).signatures["serving_default"](text=tf.constant(nasty_texts))
    for name, expected in answers.items():
        np.testing.assert_array_equal(got[name].numpy(), expected)


@pytest.mark.long
@pytest.mark.every_backend
def test_works_beside_every_backend(tmp_path):
    tokenizer = CharacterTokenizer(normalizer=TextNormalizer(case="lower", strip=False, collapse_whitespace=False))
    tokenizer.adapt(["ab", "\n"])
    tokenizer = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(tokenizer))
    serve = tf.function(lambda text: tokenizer.detokenize(tokenizer(text)[0]))
    assert serve(tf.constant(["AB\n", ""])).numpy().tolist() == [b"ab\n", b""]
    archive = keras.export.ExportArchive()
    archive.track(tokenizer)
    archive.add_endpoint("serve", serve)
    archive.write_out(tmp_path / "model", verbose=False)
    loaded = tf.saved_model.load(tmp_path / "model")
    assert loaded.serve(tf.constant(["AB\n", ""])).numpy().tolist() == [b"ab\n", b""]
