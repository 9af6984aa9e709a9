"""The examples that tag words and classify texts at small sizes, in a process beside the others."""

import gzip
import os
import re
import subprocess
import sys

import pytest

import kseq
from tests.examples.test_examples import ROOT, run

pytestmark = pytest.mark.server
EWT = ROOT.parent / "shared" / "data" / "ud_ewt"
NCBI = ROOT.parent / "shared" / "data" / "ncbi_disease"
TREC = ROOT.parent / "shared" / "data" / "trec"

TREEBANK = """\
# text = The dogs don't bark
1\tThe\tthe\tDET\t_\t_\t2\tdet\t_\t_
2\tdogs\tdog\tNOUN\t_\t_\t5\tnsubj\t_\t_
3-4\tdon't\t_\t_\t_\t_\t_\t_\t_\t_
3\tdo\tdo\tAUX\t_\t_\t5\taux\t_\t_
4\tn't\tnot\tPART\t_\t_\t5\tadvmod\t_\t_
5\tbark\tbark\tVERB\t_\t_\t0\troot\t_\t_

# text = Cats sleep
1\tCats\tcat\tNOUN\t_\t_\t2\tnsubj\t_\t_
2\tsleep\tsleep\tVERB\t_\t_\t0\troot\t_\t_
2.1\tsoundly\tsoundly\tADV\t_\t_\t_\t_\t_\t_

"""


@pytest.mark.long
def test_tagging_of_a_handful_of_sentences(tmp_path):
    (tmp_path / "tst-ud-train.conllu").write_text(TREEBANK * 16, encoding="utf-8")
    (tmp_path / "tst-ud-dev.conllu").write_text(TREEBANK * 2, encoding="utf-8")
    small = ["--epochs=12", "--units=16", "--dropout=0", "--batch_size=8", f"--output={tmp_path}/tags"]
    output = run("tagging.py", *small, f"--data={tmp_path}")
    assert "REST and gRPC equal the model's own answers." in output
    assert f"--model_name=tags --model_base_path={tmp_path}/tags" in output
    assert "dev: 100.00 % of 14 tags are right, after" in output
    assert "  The/DET dogs/NOUN do/AUX n't/PART bark/VERB\n  Cats/NOUN sleep/VERB\n" in output


@pytest.mark.slow
@pytest.mark.skipif(not EWT.is_dir(), reason=f"the treebank UD English EWT is not at {os.path.relpath(EWT, ROOT)}")
def test_tagging_reaches_its_accuracy(tmp_path):
    """The most frequent tag of each word has 88 %; taggers of this kind, trained without other data, 93 to 95 %."""
    output = run("tagging.py", f"--data={EWT}", f"--output={tmp_path}/tags")
    (accuracy,) = re.findall(r"dev: (\d+\.\d\d) % of 25147 tags are right", output)
    assert float(accuracy) >= 93.0


DISEASES = [("Familial", "B-Disease"), ("polyposis", "I-Disease"), ("(", "O"), ("FAP", "B-Disease"), (")", "O")]


@pytest.mark.long
def test_named_entities_of_a_handful_of_sentences(tmp_path):
    rows = "\n".join("\t".join(pair) for pair in DISEASES) + "\n\nno\tO\ndisease\tO\n\n"
    (tmp_path / "train.tsv").write_text(rows * 8, encoding="utf-8")
    (tmp_path / "devel.tsv").write_text(rows, encoding="utf-8")
    small = ["--epochs=12", "--units=12", "--seeds=1", "--batch_size=4", f"--output={tmp_path}/diseases"]
    output = run("named_entities.py", *small, f"--data={tmp_path}")
    assert re.search(r"seed 0: F1 on devel \d+\.\d\d without a CRF, \d+\.\d\d with it: [+-]\d+\.\d\d", output)
    assert re.search(r"worth of the CRF: -?\d+\.\d\d \(standard deviation 0\.00\)\npublished: 84 to 86", output)
    assert "REST and gRPC equal the model's own answers." in output
    assert f"--model_name=diseases --model_base_path={tmp_path}/diseases" in output


@pytest.mark.slow
@pytest.mark.skipif(not NCBI.is_dir(), reason=f"the NCBI disease corpus is not at {os.path.relpath(NCBI, ROOT)}")
def test_named_entities_reach_their_f1(tmp_path):
    """With pretrained vectors, published models of this kind have 84 to 86 on the test set."""
    output = run("named_entities.py", f"--data={NCBI}", f"--output={tmp_path}/diseases")
    assert float(re.search(r"with a CRF: (\d+\.\d\d)", output)[1]) >= 80.0
    assert float(re.search(r"worth of the CRF: (-?\d+\.\d\d)", output)[1]) > 0.0


@pytest.mark.long
def test_questions_of_two_kinds(tmp_path):
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    lines = [f"HUM:ind Who is {name} ?\nNUM:date When was {name} born ?\n" for name in ("Ada", "Bob", "Cé", "Dan")]
    (tmp_path / "train.txt").write_text("".join(lines) * 8, encoding="iso-8859-1")
    arguments = [f"--data={tmp_path}", f"--output={tmp_path}/questions", "--batch_size=8", "--learning_rate=0.01"]
    output = run("questions.py", "--epochs=8", "--units=8", "--seeds", "0", "1", *arguments)
    assert re.search(r"SequenceClassifier: 100.0 % of 6 held-out questions right \(100.0 to 100.0\)", output)
    assert re.search(r"logistic regression: 100.0 % of 6", output)
    assert re.search(r"Who is \S+ \? -> HUM \(\d\.\d\d\), NUM|When was \S+ born \? -> NUM", output)
    assert re.search(r"kseq-serve --model_name=questions .*\n.*questions:classify", output)
    assert (tmp_path / "questions" / "1" / "assets" / "class_names.txt").read_text() == "HUM\nNUM\n"


@pytest.mark.long
def test_questions_with_word_vectors_of_more_texts(tmp_path):
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    lines = [f"HUM:ind Who is {name} ?\nNUM:date When was {name} born ?\n" for name in ("Ada", "Bob")]
    (tmp_path / "train.txt").write_text("".join(lines) * 8, encoding="iso-8859-1")
    (tmp_path / "more.gz").write_bytes(gzip.compress("Who was it? Zoë!\nWhen was Zoë there?\n".encode()))
    (tmp_path / "more.conllu").write_text("# text = Zoë was there.\n1\tZoë\t_\n", encoding="utf-8")
    arguments = [f"--data={tmp_path}", f"--output={tmp_path}/questions", "--epochs=1", "--units=4", "--seeds", "0"]
    output = run("questions.py", *arguments, "--texts", str(tmp_path / "more.gz"), str(tmp_path / "more.conllu"))
    assert re.search(r"SequenceClassifier: \d+.\d % of 3 held-out questions right", output)
    served = kseq.load_saved_model(tmp_path / "questions")
    # In no question, and of equal characters to the model, which knows an "o" alone; one of them is in the texts.
    known, unknown, other = served(text=["Zoë", "Xoï", "Qoô"])["probabilities"]
    assert (unknown == other).all()
    assert (known != other).any()


@pytest.mark.long
def test_questions_from_a_pretrained_language_model(tmp_path):
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    lines = [f"HUM:ind Who is {name} ?\nNUM:date When was {name} born ?\n" for name in ("Ada", "Bob")]
    (tmp_path / "train.txt").write_text("".join(lines) * 8, encoding="iso-8859-1")
    words = kseq.text.WordTokenizer(normalizer=kseq.text.TextNormalizer(case="lower"))
    words.adapt(["who is ada ?", "when was ada born ?"])
    encoder = kseq.models.Encoder(words.vocabulary_size, 6, kseq.cells.LSTMCell(6), bidirectional=False)
    language = kseq.models.LanguageModel(encoder, tokenizer=words)
    language.build()
    language.save(tmp_path / "language.keras")
    arguments = [f"--data={tmp_path}", f"--output={tmp_path}/questions", f"--pretrained={tmp_path}/language.keras"]
    output = run("questions.py", "--epochs=1", "--units=4", "--seeds", "0", *arguments)
    assert re.search(r"SequenceClassifier: \d+.\d % of 3 held-out questions right", output)
    served = kseq.load_saved_model(tmp_path / "questions")
    assert not any(served(text=["Who is Ada ?"])["error"])


@pytest.mark.slow
@pytest.mark.skipif(not TREC.is_dir(), reason=f"TREC's questions are not at {os.path.relpath(TREC, ROOT)}")
def test_questions_are_classified(tmp_path):
    """A share of 545 questions has a standard error of 1.4; the mean of three seeds one of 0.8."""
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    output = run("questions.py", f"--data={TREC}", f"--output={tmp_path}/questions")
    own, linear = (
        float(re.findall(rf"{label}: (\d+\.\d) % of 545", output)[0])
        for label in ("SequenceClassifier", "logistic regression")
    )
    assert own >= 87.0
    assert own > linear


@pytest.mark.long
def test_sentiment_of_a_handful_of_texts(tmp_path):
    (tmp_path / "texts.tsv").write_text("A good film\tpositive\nA bad film\tnegative\n" * 30, encoding="utf-8")
    arguments = [f"--data={tmp_path}/texts.tsv", f"--output={tmp_path}/sentiment"]
    output = run("sentiment.py", "--epochs=20", "--units=8", "--dropout=0", "--learning_rate=0.02", *arguments)
    assert re.search(r"100.0 % of 6 held-out texts are right; the most frequent label has \d+\.\d %", output)
    assert re.search(r"'A (good|bad) film' -> (positive|negative) \(\d\.\d\d\)", output)
    assert re.search(r"kseq-serve --model_name=sentiment .*\n.*sentiment:predict", output)
    (tmp_path / "texts.tsv").write_text("no label\n", encoding="utf-8")
    result = subprocess.run(
        [sys.executable, "examples/sentiment.py", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert "line 1: expected text<TAB>label, but the line is 'no label'" in result.stderr
