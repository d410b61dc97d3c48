import time

import pytest

from ragsmith.evaluate.question_kinds import answer_type, content_words, question_word


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("What is a generator?", "what"),
        ("WHAT'S NEW", "what"),
        ("Which module copies files?", "which"),
        ("In which module is it?", "which"),
        ("How do I copy a file?", "how"),
        ("How many bytes does it take?", "how many"),
        ("How long does it wait?", "how many"),
        ("How?", "how"),
        ("Where is the log?", "where"),
        ("Since when is it there?", "when"),
        ("Whose idea was it?", "who"),
        ("To whom was it sent?", "who"),
        ("Why does it fail?", "why"),
        ("Can I turn it off?", "can/is/does"),
        ("Isn't it slow?", "can/is/does"),
        ("If it fails, how do I see it?", "how"),  # the first clause asks nothing
        ("I have a file. Where do I put it?", "where"),
        ("Escape special characters in HTML", "other"),
        ("Nobody knows how", "other"),  # inside a clause
        ("Was ist ein Iterator?", "other"),
        ("¿Qué es un iterador?", "other"),
        ("文件在哪里", "other"),
        ("", "other"),
        (" \t?!\u202e", "other"),
    ],
)
def test_a_question_is_told_by_its_first_words(question, expected):
    assert question_word(question) == expected


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("42", "number"), ("-3.5e-7", "number"), ("1,024 MB", "number"), ("1 000 000", "number"), ("0x1F", "number"),
        ("$20", "number"), ("5 %", "number"), ("3 days", "number"), ("٣", "number"),
        ("2024-02-29", "date"), ("29.2.2024", "date"), ("3rd of May 1999", "date"), ("Sept. 11, 2001", "date"),
        ("March 1999", "date"), ("10:30 pm", "date"), ("1990s", "date"), ("19th century", "date"), ("44 BC", "date"),
        ("os.path.join", "identifier or code"), ("copy()", "identifier or code"), ("disk_usage", "identifier or code"),
        ("NamedTuple", "identifier or code"), ("--verbose", "identifier or code"), ("**", "identifier or code"),
        ("for i in range(10):", "identifier or code"), ("/etc/hosts", "identifier or code"),
        ("Paris", "one word"), ("well-known", "one word"), ("U.S.", "one word"), ("Ωmega", "one word"),
        ("the global interpreter lock", "phrase"), ("a lock.", "phrase"),
        ("It holds one lock.", "sentence"), ("one two three four five six seven eight nine ten eleven twelve 13",
                                             "sentence"),
        ("東京", "other"), ("กรุงเทพ", "other"), ("", "other"), (" \n", "other"),
    ],
)  # fmt: skip
def test_an_answer_is_told_by_its_shape(answer, expected):
    assert answer_type(answer) == expected


def test_a_year_is_a_date_where_the_question_asks_for_one():
    assert answer_type("1945", "When did it end?") == answer_type("1945", "What year was it?") == "date"
    assert answer_type("1945", "How many were there?") == answer_type("2048") == "number"


def test_content_words_are_those_that_say_what_it_is_about():
    assert content_words("How do I copy a file with shutil.copy_tree?") == {"copy", "file", "shutil", "tree"}
    assert content_words("What is it?") == content_words("文件在哪里") == content_words("") == set()


def test_long_and_nasty_texts_take_no_time():
    begun = time.perf_counter()
    for piece in ("/a", "a.", "1,", "9 ", "x_", "'", "$", "jan ", "\u202e", "how, "):
        for text in (piece * 50_000, "1" + piece * 50_000, piece * 50_000 + "!"):
            answer_type(text, text)
            content_words(text)
    assert time.perf_counter() - begun < 20
