"""The tokenizers of the contract tests, by the names of their classes, and texts in many scripts."""

# ruff: noqa: RUF001

import functools
import random

import kseq
from kseq.text import TextNormalizer, Tokenizer

# The first article of the Universal Declaration of Human Rights, or its beginning.
SCRIPTS = [
    "All human beings are born free and equal in dignity and rights. Don't they?  Yes!",
    "Tous les êtres humains naissent libres et égaux en dignité et en droits.",
    "Alle Menschen sind frei und gleich an Würde und Rechten geboren.",
    "Όλοι οι άνθρωποι γεννιούνται ελεύθεροι και ίσοι στην αξιοπρέπεια και τα δικαιώματα.",
    "Все люди рождаются свободными и равными в своем достоинстве и правах.",
    "يولد جميع الناس أحرارًا متساوين في الكرامة والحقوق.",
    "כל בני האדם נולדו בני חורין ושווים בערכם ובזכויותיהם.",
    "सभी मनुष्यों को गौरव और अधिकारों के मामले में जन्मजात स्वतन्त्रता और समानता प्राप्त है।",
    "সমস্ত মানুষ স্বাধীনভাবে সমান মর্যাদা এবং অধিকার নিয়ে জন্মগ্রহণ করে।",
    "மனிதப் பிறிவியினர் சகலரும் சுதந்திரமாகவே பிறக்கின்றனர்.",
    "มนุษย์ทั้งหลายเกิดมามีอิสระและเสมอภาคกันในเกียรติศักดิ์และสิทธิ",
    "人人生而自由,在尊严和权利上一律平等。",
    "すべての人間は、生まれながらにして自由であり、かつ、尊厳と権利とについて平等である。",
    "모든 인간은 태어날 때부터 자유로우며 그 존엄과 권리에 있어 동등하다.",
    "ყველა ადამიანი იბადება თავისუფალი და თანასწორი თავისი ღირსებითა და უფლებებით.",
    "Բոլոր մարդիկ ծնվում են ազատ ու հավասար իրենց արժանապատվությամբ և իրավունքներով։",
    "የሰው ልጅ ሁሉ ሲወለድ ነጻና በክብርና በመብትም እኩልነት ያለው ነው።",
]


def random_texts(count: int) -> list[str]:
    """Return texts of random code points, some of them from the whole of Unicode, many white space and marks."""
    generator = random.Random(7)
    blocks = [(0, 0x80), (0x20, 0x30), (0x80, 0x600), (0x600, 0x3000), (0x3000, 0xD800), (0xE000, 0x110000)]
    return [
        "".join(chr(generator.randrange(*generator.choice(blocks))) for _ in range(generator.randrange(1, 30)))
        for _ in range(count)
    ]


# The normalizer changes texts, but not the number of characters of most.
OPTIONS = {"normalizer": TextNormalizer(form="NFC", collapse_whitespace=False, strip=False), "add_eos": True}
MAKERS = {
    "ByteTokenizer": lambda: kseq.text.ByteTokenizer(**OPTIONS),
    "BytePairTokenizer": lambda: kseq.text.BytePairTokenizer.train(SCRIPTS, 400, progress=False, **OPTIONS),
    "CharacterTokenizer": lambda: kseq.text.CharacterTokenizer(**OPTIONS).adapt(SCRIPTS),
    "SentencePieceTokenizer": lambda: kseq.text.SentencePieceTokenizer.train(SCRIPTS, 640, progress=False, **OPTIONS),
    "UnicodeWordTokenizer": lambda: kseq.text.UnicodeWordTokenizer(**OPTIONS).adapt(SCRIPTS),
    "WordPieceTokenizer": lambda: kseq.text.WordPieceTokenizer.train(
        SCRIPTS, 700, progress=False, max_bytes_per_word=1000, **OPTIONS
    ),
    "WordTokenizer": lambda: kseq.text.WordTokenizer(**OPTIONS).adapt(SCRIPTS),
}
LOSSLESS = ("ByteTokenizer", "BytePairTokenizer", "SentencePieceTokenizer")


@functools.cache
def made(name: str) -> Tokenizer:
    """Return the tokenizer of the class `name`, made once for all tests."""
    return MAKERS[name]()
