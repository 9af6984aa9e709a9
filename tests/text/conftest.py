import random

import pytest

SPACES = [
    "\u00a0",
    "\u3000",
    "\u2028",
    "\u2029",
    "\u0085",
    "\x1c",
    "\x1f",
    "\u1680",
    "\u202f",
    "\t",
    "\n",
    "\r\n",
    "\v",
]

WELL_FORMED = [
    "",
    " ",
    " \t\n ",
    "".join(SPACES),
    *(f"{space}a{space}{space}b{space}" for space in SPACES),
    "zero\u200bwidth \ufeffmark",
    "e\u0301 \u00e9 \u1e9b\u0323 a\u0328\u0301",  # combining marks, composed and not
    "\u0301leading mark",
    "\u00a8 \u00b4",  # NFKC writes these as a space and a mark
    "\ufb01ne \uff26\uff55\uff4c\uff4c \u2460 \u33a1",  # compatibility forms
    "\U0001f469\u200d\U0001f469\u200d\U0001f467 \U0001f1eb\U0001f1f7 \u2764\ufe0f",  # emoji: joined, a flag, a variant
    "\u05e9\u05dc\u05d5\u05dd \u0627\u0644\u0639\u0631\u0628\u064a\u0629 \u200fx",  # right to left
    "\u4e2d\u6587\u3002\u65e5\u672c\u8a9e\uff9e \ud55c\uae00 \u1112\u1161\u11ab",
    "\u0130\u0131I\u1e9e\u00df \u03a3\u0391\u03a3. \u01c5",  # casing that is special
    "NUL\x00Inside\x00",
    "\x00",
    "\\ \\n \\x0A \\frac{a}{b}",
    "<pad> <unk> <s> </s>",
    "\ufffd \ufdd0 \uffff \U0010ffff",
    "Very " * 5000 + "long",
]

ILL_FORMED = [
    b"\xff\xfeabc",
    b"caf\xe9",
    b"\xc3",
    b"a\xed\xa0\x80b",  # a surrogate
    b"\xf0\x9f\x98",  # cut off
    b"\xc0\x80",  # overlong
    b"\xf4\x90\x80\x80 beyond",
    bytes(range(256)),
]


@pytest.fixture(scope="session")
def nasty_texts() -> list[bytes]:
    generator = random.Random(0)
    alphabet = "".join(WELL_FORMED[:-1])
    mixed = ["".join(generator.choices(alphabet, k=generator.randint(1, 30))) for _ in range(200)]
    return [text.encode() for text in [*WELL_FORMED, *mixed]] + ILL_FORMED


@pytest.fixture(scope="session")
def readable_texts(nasty_texts: list[bytes]) -> list[str]:
    """The difficult texts as Python decodes them."""
    return [text.decode("utf-8", "replace") for text in nasty_texts]
