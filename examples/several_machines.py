"""Several machines: they train one model together, and go on where they were after one of them has failed.

usage: on each machine, with its own --index: python examples/several_machines.py --hosts a:2222 b:2222 --index 0

Sorts the letters of words: "dcba" -> "abcd". Each process trains on its share of every batch, so that the losses are
those of one process with the whole batch (run it without --hosts). Every --save_every steps, the first process writes
the state of the training to --state, a folder that all machines see. When a process ends, the others end with an error
soon after; start all of them again, and they go on with the last state. `serving/deploy/training` has the manifests
with which Kubernetes does so. Trains under a `MultiWorkerMirroredStrategy` of TensorFlow. Needs `pip install
"kseq[text]"`.
"""

import argparse
import contextlib
import json
import os
import pathlib
import random
import time

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def join(hosts, index):
    """Return the context in which the model is made; before anything is computed."""
    import tensorflow as tf

    task = {"type": "worker", "index": index}
    os.environ["TF_CONFIG"] = json.dumps({"cluster": {"worker": hosts}, "task": task})
    return tf.distribute.MultiWorkerMirroredStrategy().scope()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hosts", nargs="*", default=[], help="host:port of each process, the same list for all")
    parser.add_argument("--index", type=int, default=0, help="the place of this process in --hosts")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--words", type=int, default=20_000)
    parser.add_argument("--units", type=int, default=96)
    parser.add_argument("--batch_size", type=int, default=64, help="rows of all processes together")
    parser.add_argument("--save_every", type=int, default=50)
    parser.add_argument("--state", type=pathlib.Path, default=pathlib.Path("build/models/several_machines"))
    options = parser.parse_args()
    count = max(1, len(options.hosts))
    scope = join(options.hosts, options.index) if count > 1 else contextlib.nullcontext()

    import keras

    import kseq

    keras.utils.set_random_seed(0)
    generator = random.Random(0)
    words = ["".join(generator.choices("abcdefgh", k=generator.randint(1, 8))) for _ in range(options.words)]
    letters = kseq.text.CharacterTokenizer(add_bos=True, add_eos=True).adapt(["abcdefgh"])

    def make():
        model = kseq.models.Seq2Seq(
            kseq.models.Encoder(letters.vocabulary_size, 32, kseq.cells.GRUCell(options.units)),
            kseq.models.Decoder(letters.vocabulary_size, 32, kseq.cells.GRUCell(options.units)),
            source_tokenizer=letters, target_tokenizer=letters,
        )  # fmt: skip
        model.build()
        model.compile(keras.optimizers.Adam(3e-3, clipnorm=1.0))
        return model

    def train(model):
        batches = kseq.training.bucket_by_length(
            kseq.training.text_pairs(letters, letters, words, ["".join(sorted(word)) for word in words]),
            batch_size=options.batch_size // count, buckets=(6, 10), shuffle=True, seed=0, shard=(options.index, count),
        )  # fmt: skip
        resume = kseq.training.ExactResume(options.state, batches, every_steps=options.save_every)
        ends = []  # of the epochs
        clock = keras.callbacks.LambdaCallback(on_epoch_end=lambda *_: ends.append(time.perf_counter()))
        verbose = 2 if options.index else 1
        history = model.fit(batches, epochs=options.epochs, callbacks=[resume, clock], verbose=verbose)
        print("loss of each epoch:", *(f"{loss:.6f}" for loss in history.history["loss"]), flush=True)
        if len(ends) > 1:
            print(f"{len(words) / (ends[-1] - ends[-2]):.0f} words a second in the last epoch", flush=True)

    with scope:
        model = make()
    train(model)
    if options.index == 0:
        asked = ["dcba", "hag", "ebbehca"]
        for word, answer in zip(asked, model.translate(asked), strict=True):
            print(f"{word} -> {answer}")


if __name__ == "__main__":
    main()
