"""Schemes of tags: which sequences they allow."""

import itertools
import re

import numpy as np
import pytest

from kseq.tag_schemes import SCHEMES, allowed_transitions, span_rules

# The sequences of prefixes that each scheme allows, if there is one type.
ALLOWED = {
    "BIO": r"(O|BI*)*",
    "BIOES": r"(O|S|BI*E)*",
    "BILOU": r"(O|U|BI*L)*",
    "IOB1": r"(O|I+(BI*)*)*",
    "IO": r"[IO]*",
}


@pytest.mark.parametrize("scheme", ALLOWED)
def test_exactly_the_sequences_of_the_scheme_are_allowed(scheme):
    letters = "O" + SCHEMES[scheme]
    names = ["O", *(f"{letter}-X" for letter in SCHEMES[scheme])]
    allowed = allowed_transitions(names, scheme)
    for length in range(1, 5):
        for tags in itertools.product(range(len(letters)), repeat=length):
            steps = all(allowed.transitions[pair] for pair in itertools.pairwise(tags))
            got = steps and allowed.start[tags[0]] and allowed.end[tags[-1]]
            assert got == bool(re.fullmatch(ALLOWED[scheme], "".join(letters[tag] for tag in tags))), tags


def test_no_span_changes_its_type():
    names = ["O", "B-X", "I-X", "B-Y", "I-Y"]
    transitions = allowed_transitions(names, "BIO").transitions
    assert [names[tag] for tag in np.flatnonzero(transitions[:, 4])] == ["B-Y", "I-Y"]
    assert [names[tag] for tag in np.flatnonzero(transitions[:, 3])] == names


def test_a_prefix_alone_is_a_tag_of_one_type():
    assert span_rules(["B", "I"], "BIO").type_names == ("_",)
    assert not allowed_transitions(["B", "I"], "BIO").start[1]


@pytest.mark.parametrize(
    ("names", "scheme", "message"),
    [
        (["O", "B-X"], "BOI", r"scheme='BOI', but the schemes are \['BILOU', 'BIO', 'BIOES', 'IO', 'IOB1'\]"),
        (["O", "PER"], "BIO", r"names\[1\] is 'PER', but the tags of BIO are 'O' and 'B-TYPE', 'I-TYPE'"),
        (["O", "S-X"], "BIO", r"names\[1\] is 'S-X', but the tags of BIO"),
        (["O", "B-"], "BIO", r"names\[1\] is 'B-'"),
        (["O", "I-X"], "BIO", r"names\[1\] is 'I-X', but no sequence of these names that BIO allows contains it"),
        (["O", "B-X", "I-X"], "BIOES", r"names\[1\] is 'B-X', but no sequence"),
        ("BIO", "BIO", r"names='BIO', but a scheme needs a list"),
        ([], "BIO", r"names=\[\], but a scheme needs a list"),
    ],
)
def test_names_outside_the_scheme_are_refused(names, scheme, message):
    with pytest.raises(ValueError, match=message):
        allowed_transitions(names, scheme)


def test_modes_that_do_not_exist_are_refused():
    with pytest.raises(ValueError, match="mode='loose', but there are the modes None"):
        span_rules(["O", "B-X"], "BIO", "loose")
    with pytest.raises(ValueError, match='mode="strict", but IO has no strict mode'):
        span_rules(["O", "I-X"], "IO", "strict")
