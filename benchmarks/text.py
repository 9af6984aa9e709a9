"""Tokens a second of each tokenizer in a tf.data pipeline, beside the libraries called from Python.

Texts are lines of a file, by default English captions; vocabularies have 4,000 ids and are trained on them. Each line
of the table is the median of several passes over all texts, in batches of 1024, with two parallel calls of `map`. The
last column is the median time that an exported tokenizer takes for the first text alone, in a TensorFlow 1 session as
TensorFlow Serving has it.
"""

import argparse
import gzip
import importlib.metadata
import os
import pathlib
import statistics
import tempfile
import time

import sentencepiece
import tensorflow as tf
import tokenizers

import kseq

SIZE = 4000
PASSES = 5
CALLS = 300


def median_rate(tokens: int, run) -> float:
    """Return the median of tokens a second over several calls of `run`."""
    run()
    seconds = []
    for _ in range(PASSES):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return tokens / statistics.median(seconds)


def in_pipeline(tokenizer, texts):
    # The library gets a list that is ready, and so does the tokenizer.
    batches = tf.data.Dataset.from_tensor_slices(texts).batch(1024).cache()
    return list_of(batches.map(tokenizer, num_parallel_calls=2).prefetch(2))


def list_of(dataset):
    def run():
        for _ in dataset:
            pass

    return run


def served_microseconds(tokenizer, text):
    """Return the median time of one text in a session of the exported tokenizer."""
    module = tf.Module()
    module.tokenizer = tokenizer
    module.serve = tf.function(
        lambda text: {"ids": tokenizer(text)[0]}, input_signature=[tf.TensorSpec([None], tf.string, name="text")]
    )
    seconds = []
    with tempfile.TemporaryDirectory() as folder:
        tf.saved_model.save(module, folder, signatures=module.serve)
        with tf.Graph().as_default(), tf.compat.v1.Session() as session:
            loaded = tf.compat.v1.saved_model.load(session, ["serve"], folder)
            signature = loaded.signature_def["serving_default"]
            ask = session.make_callable(signature.outputs["ids"].name, [signature.inputs["text"].name])
            for _ in range(CALLS):
                start = time.perf_counter()
                ask([text])
                seconds.append(time.perf_counter() - start)
    return 1e6 * statistics.median(seconds)


def of_library(tokenizer, splitter, model):
    theirs = tokenizers.Tokenizer(model)
    theirs.pre_tokenizer = splitter
    return theirs.encode_batch


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--texts", type=pathlib.Path, default="../shared/data/multi30k/train.en.gz")
    parser.add_argument("--lines", type=int, default=10_000)
    options = parser.parse_args()
    with gzip.open(options.texts, "rt", encoding="utf-8") as file:
        texts = file.read().splitlines()[: options.lines]
    names = ("tensorflow", "tensorflow-text", "sentencepiece", "tokenizers")
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in names)
    print(f"{os.cpu_count()} processors, {len(texts)} texts, {versions}\n")

    text = kseq.text
    train = {"texts": texts, "vocabulary_size": SIZE, "progress": False}
    unigram = text.SentencePieceTokenizer.train(**train)
    pieces = text.SentencePieceTokenizer.train(**train, kind="bpe")
    pairs, words = text.BytePairTokenizer.train(**train), text.WordPieceTokenizer.train(**train)
    ids = {each: {token: place for place, token in enumerate(each.vocabulary.strings)} for each in (pairs, words)}
    merges = [tuple(merge.split(" ")) for merge in pairs.get_config()["merges"]]
    rivals = {
        unigram: sentencepiece.SentencePieceProcessor(model_proto=unigram._model).encode,
        pieces: sentencepiece.SentencePieceProcessor(model_proto=pieces._model).encode,
        pairs: of_library(
            pairs,
            tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False),
            tokenizers.models.BPE(vocab=ids[pairs], merges=merges),
        ),
        words: of_library(
            words,
            tokenizers.pre_tokenizers.BertPreTokenizer(),
            tokenizers.models.WordPiece(ids[words], unk_token="<unk>"),
        ),
    }
    tested = {
        "SentencePiece, unigram": unigram,
        "SentencePiece, byte pairs": pieces,
        "byte pairs": pairs,
        "word pieces": words,
        "bytes": text.ByteTokenizer(),
        "characters": text.CharacterTokenizer().adapt(texts),
        "words": text.WordTokenizer().adapt(texts),
        "words of Unicode": text.UnicodeWordTokenizer().adapt(texts),
    }
    print(f"{'tokens a second':28}{'kseq':>12}{'library':>12}{'ratio':>8}{'served, us':>12}")
    for name, tokenizer in tested.items():
        tokens = int(tf.size(tokenizer.tokenize(texts).flat_values))
        ours = median_rate(tokens, in_pipeline(tokenizer, texts))
        line = f"{name:28}{ours:12,.0f}"
        if tokenizer in rivals:
            theirs = median_rate(tokens, lambda of=rivals[tokenizer]: of(texts))
            line += f"{theirs:12,.0f}{ours / theirs:8.2f}"
        print(f"{line:60}{served_microseconds(tokenizer, texts[0]):12.0f}")


if __name__ == "__main__":
    main()
