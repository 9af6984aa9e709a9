"""Normalizers of numbers and dates, against num2words."""

# ruff: noqa: RUF001

import random

import num2words
import pytest

from kseq.text import DatesToWords, NumbersToWords, ReplaceDates, ReplaceNumbers
from tests.text.test_normalizers import decoded

LEAP = "February twenty-ninth, two thousand February twenty-ninth, twenty twenty-four"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("5 -5 −5 +5", "# # # +#"),
        ("3-4, x-5, (-6)", "#-#, x-#, (#)"),
        ("1,234.5 1.234,5 1'234 0.5", "# # # #"),
        ("1.2.3 1,2,3 12,34.5", "1.2.3 1,2,3 12,34.5"),
        ("B2B 5kg x_1 21st 2nd", "B2B 5kg x_1 # #"),
        (".5 -.5 $.50 wait...5 p.5 x-.5", "# # $# wait...# p.# x-.#"),
        ("3人が3.5kg 第3章 3คน", "#人が3.5kg 第#章 #คน"),
        ("v2.0 p.5 a1,234b, a1, 2", "v2.0 p.# a1,234b, a1, #"),
        ("३४ ٣٫ $5, 5% 10:30.", "# #٫ $#, #% #:#."),
    ],
)
def test_numbers_to_placeholders(text, expected):
    assert ReplaceNumbers(placeholder="#")(text).numpy().decode() == expected


def test_english_words_are_those_of_num2words():
    generator = random.Random(5)
    numbers = [*range(200), *(generator.randrange(10 ** generator.randrange(1, 16)) for _ in range(500))]
    numbers += [10**power + more for power in range(3, 15) for more in (0, 1, 99, 100, 1000)]
    normalizer = NumbersToWords()
    for form in ("{}", "{:,}", "00{}"):
        got = decoded(normalizer([form.format(number) for number in numbers]))
        assert got == [num2words.num2words(number) for number in numbers]
    got = decoded(normalizer([f"{number}th" for number in numbers]))
    assert got == [num2words.num2words(number, to="ordinal") for number in numbers]
    # num2words rounds longer decimals.
    decimals = [f"-{number}.{generator.randrange(10**3):03}" for number in numbers if 0 < number < 10**6]
    assert decoded(normalizer(decimals)) == [num2words.num2words(each) for each in decimals]


@pytest.mark.parametrize("language", ["de", "fr", "ru", "ja", "ar"])
def test_words_of_other_languages_are_those_of_num2words(language):
    normalizer = NumbersToWords(language=language, largest=120)
    numbers = [*range(121), -1, -15]
    expected = [num2words.num2words(number, lang=language) for number in numbers]
    assert decoded(normalizer(list(map(str, numbers)))) == expected
    assert normalizer("121 1,5 12 x").numpy().decode() == f"121 1,5 {expected[12]} x"


def test_languages_that_num2words_knows_in_part():
    words = num2words.num2words(12, lang="pl")
    assert NumbersToWords(language="pl", largest=20)("12 -12").numpy().decode() == f"{words} -12"
    with pytest.raises(ValueError, match="cannot write 1100 in the language 'am'"):
        NumbersToWords(language="am")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1000000000000000 99999999999999999999", "1000000000000000 99999999999999999999"),
        ("-0.5 2.0 3.50", "minus zero point five two three point five"),
        ("3-4 5kg 1.2.3 $5", "three-four 5kg 1.2.3 $five"),
        ("21ST 0th ३", "twenty-first zeroth ३"),
        ("0,123 000,123 0123", "0,123 000,123 one hundred and twenty-three"),
        (".5 $.50 -.5 ...5", "zero point five $zero point five minus zero point five ...five"),
        ("-0 -0.0 -0th", "zero zero zeroth"),
    ],
)
def test_what_numbers_to_words_leave_and_read(text, expected):
    assert NumbersToWords()(text).numpy().decode() == expected


@pytest.mark.parametrize(
    "wrong", [{"language": "xx"}, {"largest": -1}, {"largest": 10**15}, {"language": "de", "largest": 100_000}]
)
def test_refuses_unknown_languages_and_bounds(wrong):
    with pytest.raises(ValueError, match=f"{list(wrong.values())[-1]:,}" if "largest" in wrong else "'xx'"):
        NumbersToWords(**wrong)


def test_numbers_to_words_name_the_missing_package(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "num2words", None)
    for make in (NumbersToWords, DatesToWords):
        with pytest.raises(ImportError, match=r'pip install "kseq\[language\]"'):
            make()


@pytest.mark.parametrize(
    ("text", "placeholders", "words"),
    [
        ("2019-05-03.", "#.", "May third, twenty nineteen."),
        ("(2019/5/3)", "(#)", "(May third, twenty nineteen)"),
        ("12/31/1999 31.12.1999", "# #", "December thirty-first, nineteen ninety-nine " * 2),
        ("3/5/2019", "#", "March fifth, twenty nineteen"),
        ("3/5/19 2019年5月3日x", "# 2019年5月3日x", "3/5/19 2019年5月3日x"),
        ("今日は2019年5月3日です。", "今日は#です。", "今日はMay third, twenty nineteenです。"),
        ("12019年5月3日 2019年2月30日", "12019年5月3日 2019年2月30日", "12019年5月3日 2019年2月30日"),
        ("2019-05-03T10:00Z", "# 10:00Z", "May third, twenty nineteen 10:00Z"),
        ("May 3,2019", "#", "May third, twenty nineteen"),
        ("3  May 2019", "#", "May third, twenty nineteen"),
        ("You may 3 times march 10 miles", "You may 3 times march 10 miles", "You may 3 times march 10 miles"),
        ("3 may 2019, may 3rd", "#, #", "May third, twenty nineteen, May third"),
        ("3 of may, 3rd march", "#, #", "May third, March third"),
        ("march 3 2019 3 of march, 2019", "# #", " ".join(["March third, twenty nineteen"] * 2)),
        ("3 march 2019, 3 march", "#, 3 march", "March third, twenty nineteen, 3 march"),
        ("31/02/2019 2/30/19 31.4.2019", "31/02/2019 2/30/19 31.4.2019", "31/02/2019 2/30/19 31.4.2019"),
        ("2019-02-29 29.2.1900 June 31", "2019-02-29 29.2.1900 June 31", "2019-02-29 29.2.1900 June 31"),
        ("31st of Nov 2001, Feb 30, 2019", "31st of Nov 2001, Feb 30, 2019", "31st of Nov 2001, Feb 30, 2019"),
        ("Feb 29, 2019 29 Feb 2019", "Feb 29, 2019 29 Feb 2019", "Feb 29, 2019 29 Feb 2019"),
        ("Feb 3019 29/2/2000 29 Feb 2024", "# # #", "Feb 3019 " + LEAP),
        ("2019年5月3日", "#", "May third, twenty nineteen"),
        ("3rd of MAY, 1805, 3. May", "#, #", "May third, eighteen oh-five, May third"),
        ("Sept. 3rd 2001 sep 3", "# #", "September third, two thousand and one September third"),
        ("May 12, 2019", "#", "May twelfth, twenty nineteen"),
        ("May 31st 2019 12 May 2019", "# #", "May thirty-first, twenty nineteen May twelfth, twenty nineteen"),
        ("May 2019 may", "# may", "May twenty nineteen may"),
        ("May 3, 2019, 5", "#, 5", "May third, twenty nineteen, 5"),
        ("192.3.5.2019 3 Maybe May 3,000", "192.3.5.2019 3 Maybe May 3,000", "192.3.5.2019 3 Maybe May 3,000"),
        ("2019-13-03 32/1/2019 0999-01-01", "2019-13-03 32/1/2019 #", "2019-13-03 32/1/2019 0999-01-01"),
        ("|2019|5|3", "|2019|5|3", "|2019|5|3"),
    ],
)
def test_dates(text, placeholders, words):
    assert ReplaceDates(placeholder="#")(text).numpy().decode() == placeholders
    assert DatesToWords()(text).numpy().decode() == words.strip()


def test_dates_of_other_months_and_orders():
    assert (
        ReplaceDates(months=["März", "Mai"])("3. märz 2019, MÄRZ 5, May 3").numpy().decode() == "<date>, <date>, May 3"
    )
    assert ReplaceDates(months=["mai"])("Le 1er mai 2019, 31 Mai").numpy().decode() == "Le <date>, <date>"
    assert ReplaceDates(months={"mai", "juin", "juillet"}).months == ("juillet", "juin", "mai")
    assert DatesToWords(order="DMY")("3/5/2019 5/13/2019").numpy().decode() == (
        "May third, twenty nineteen May thirteenth, twenty nineteen"
    )
