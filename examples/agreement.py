"""Agreement: a simple RNN, a GRU and an LSTM choose a verb by its subject, which stands many words before it.

usage: python examples/agreement.py [--distances 2 8 16 32] [--epochs 12] [--output build/models/agreement]

"the flights from the story ... were" has the plural subject "flights" and, up to many words later, the verb "were".
Between them stand singular and plural nouns that are not the subject. At each distance each network is trained on 2000
generated sentences. Then the script draws over the distance the share of right verbs in new sentences, and, before
training, the norm of the derivative of the last state by the state d words before, and exports the LSTM of the longest
distance. Up to 16 words all are right. At 32 words the simple RNN, whose orthogonal kernel keeps the norm at 0.9, has
100 % right; the GRU (norm 8e-7) 48 % and the LSTM (0.01) 53 %, no more than by chance. Trains for about
three minutes on two cores. Needs `pip install "kseq[text,serving,plots]"`.

References: Y. Bengio, P. Simard, P. Frasconi, 1994; T. Linzen, E. Dupoux, Y. Goldberg, "Assessing the ability of LSTMs
to learn syntax-sensitive dependencies", 2016.
"""

import argparse
import os
import pathlib

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from matplotlib.figure import Figure

import kseq

NOUNS = (("flight", "flights"), ("letter", "letters"), ("child", "children"), ("road", "roads"), ("story", "stories"))
BETWEEN = ("from the {}", "near a {}", "with old {}", "of the {}", "that the {} saw", "behind two {}")
VERBS = ("was", "were")
CELLS = {"SimpleRNN": kseq.cells.SimpleRNNCell, "GRU": kseq.cells.GRUCell, "LSTM": kseq.cells.LSTMCell}


def make_sentence(distance, random):
    """Return a sentence up to its verb, which is `distance` words after the subject, and the verb."""
    plural = int(random.integers(2))
    words = ["the", NOUNS[random.integers(len(NOUNS))][plural]]
    while len(words) < distance + 1:
        noun = NOUNS[random.integers(len(NOUNS))][random.integers(2)]
        words += BETWEEN[random.integers(len(BETWEEN))].format(noun).split()
    return " ".join(words[: distance + 1]), VERBS[plural]


def make_rows(count, distance, tokenizer, random):
    """Return the rows of sentences of one length, and their texts."""
    texts, verbs = zip(*(make_sentence(distance, random) for _ in range(count)), strict=True)
    rows = kseq.training.labelled_texts(tokenizer, VERBS, list(texts), list(verbs))
    lengths = np.full(count, distance + 1, "int32")
    return {"source": np.array(rows["source"]), "source_lengths": lengths, "labels": np.array(rows["labels"])}, texts


def train(cell, distance, tokenizer, options):
    """Train a classifier of sentences, and return it with the share of right verbs and the norms by distance."""
    keras.utils.set_random_seed(options.seed)
    random = np.random.default_rng([options.seed, distance])
    rows, _ = make_rows(options.sentences, distance, tokenizer, random)
    new, texts = make_rows(500, distance, tokenizer, random)
    encoder = kseq.models.Encoder(tokenizer.vocabulary_size, 16, cell(options.units), bidirectional=False)
    model = kseq.models.SequenceClassifier(encoder, len(VERBS), source_tokenizer=tokenizer, class_names=VERBS)
    model.compile(keras.optimizers.Adam(options.learning_rate, global_clipnorm=1.0))
    # At the start of training, since it decides whether the network can learn at this distance.
    few = {name: new[name][:4] for name in ("source", "source_lengths")}
    monitor = kseq.training.RecurrenceMonitor(few, every=options.epochs + 1)
    model.fit(rows, batch_size=50, epochs=options.epochs, callbacks=[monitor])
    right = np.argmax(model.predict(new, batch_size=250, verbose=0), axis=-1) == new["labels"]
    (report,) = monitor.reports.values()
    return model, 100 * float(np.mean(right)), report.norms, texts[:3]


def draw(accuracies, norms, distances, path):
    """Draw the shares of right verbs of each network, and the norms in a picture of their own."""
    figure = Figure(figsize=(6, 3.6), layout="constrained")
    axes = figure.subplots()
    for name, values in accuracies.items():
        axes.plot(distances, values, marker="o", label=name)
    axes.axhline(50, color="black", linewidth=0.8)
    axes.set_xlabel("words from the subject to the verb")
    axes.set_ylabel("right verbs in %")
    axes.legend()
    figure.savefig(path.with_name(f"{path.name}-accuracy.png"))
    kseq.plots.gradient_decay(norms, title="before training").savefig(path.with_name(f"{path.name}-gradients.png"))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--distances", type=int, nargs="+", default=[2, 8, 16, 32])
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--sentences", type=int, default=2000)
    parser.add_argument("--units", type=int, default=32)
    parser.add_argument("--learning_rate", type=float, default=3e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=pathlib.Path, default=pathlib.Path("build/models/agreement"))
    options = parser.parse_args()
    options.output.parent.mkdir(parents=True, exist_ok=True)
    words = {word for pair in NOUNS for word in pair} | set(" ".join(BETWEEN).replace("{}", "").split())
    tokenizer = kseq.text.WordTokenizer().adapt([" ".join(sorted(words))])

    accuracies, norms = {name: [] for name in CELLS}, {}
    for distance in sorted(options.distances):
        for name, cell in CELLS.items():
            print(f"{name}, {distance} words:")
            model, right, norms[name], texts = train(cell, distance, tokenizer, options)
            accuracies[name].append(right)
            flow = kseq.training.gradient_flow(norms[name])
            print(f"  right verbs: {right:.1f} %; the gradient over {flow.distance} words has norm {flow.norm:.1e}")
    draw(accuracies, norms, sorted(options.distances), options.output)
    for text in texts:
        print(f"  {text} ... {model.classify(text)[0][0]}")
    longest = max(options.distances) + 1
    kseq.export_saved_model(model, options.output, buckets=(longest,), batch_sizes=(1, 16), examples=list(texts))
    print(f"Pictures are {options.output}-accuracy.png and {options.output}-gradients.png. To serve the LSTM:")
    print(f"kseq-serve --model_name=agreement --model_base_path={options.output.resolve()} --rest_api_port=8501")


if __name__ == "__main__":
    main()
