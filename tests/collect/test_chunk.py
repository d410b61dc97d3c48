import random

import pandas as pd
import pytest
from tokenizers import Tokenizer

from ragsmith.collect.chunk import PASSAGE_COLUMNS, chunk_documents
from ragsmith.collect.documents import Document, document_table


def cut(text: str, markup: str = "markdown", tokenizer: Tokenizer | None = None, **settings: int) -> pd.DataFrame:
    documents = document_table([Document("folder", "a.md", "Guide", text, markup)])
    return chunk_documents(documents, tokenizer, **{"max_tokens": 32, "overlap": 4, "min_characters": 5} | settings)


def assert_exact(passages: pd.DataFrame, text: str) -> None:
    for passage in passages.itertuples(index=False):
        assert passage.text == text[passage.start : passage.end] != ""


TEXTS = {
    "headings": "# Guide\n\nIntro text.\n\n## Setup\n\nRun `make`.\n",
    "fences": "# Guide\n\n```\n# no heading\nprint('x')\n```\n\n## Next\n\nMore text here.\n",
    "crlf": "# Guide\r\n\r\nIntro text.\r\n\r\n## Setup\r\n\r\nRun make now.\r\n",
    "unicode": "# Führung 😀\n\nDas Maß ist größer.\n\n## 漢字\n\n漢字と仮名です。👩‍👩‍👧 é e\u0301\n"
    + "wörter 漢字 😀 " * 80,
    "no headings": "Just one line of text.\n\nAnd another one.",
    "long": "# Guide\n\n" + "\n\n".join(f"Paragraph {n} says something about number {n}." for n in range(60)),
}


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize("with_tokenizer", [False, True])
def test_each_passage_is_an_exact_slice_of_its_document(name: str, with_tokenizer: bool, tokenizer: Tokenizer) -> None:
    passages = cut(TEXTS[name], tokenizer=tokenizer if with_tokenizer else None)
    assert_exact(passages, TEXTS[name])
    assert list(passages.columns) == PASSAGE_COLUMNS
    assert passages["passage_id"].is_unique and passages["start"].is_monotonic_increasing


def test_random_documents_are_cut_into_exact_short_slices(tokenizer: Tokenizer) -> None:
    counting = Tokenizer.from_str(tokenizer.to_str())
    counting.no_truncation()
    counting.no_padding()
    draw = random.Random(3)
    alphabet = [
        "# A",
        "## B",
        "```",
        "word",
        "Wörter",
        "漢字",
        "😀",
        "e\u0301",
        "x" * 90,
        "   ",
        "\t",
        "- item",
        "\u2028",
    ]
    for _ in range(60):
        text = "some text " + "".join(
            draw.choice(alphabet) + draw.choice([" ", "\n", "\n\n", "\r\n"]) for _ in range(draw.randint(1, 120))
        )
        passages = cut(text, draw.choice(["markdown", "plain"]), tokenizer, max_tokens=16, overlap=draw.choice([0, 5]))
        assert_exact(passages, text)
        counts = [len(counting.encode(piece, add_special_tokens=False).ids) for piece in passages["text"]]
        assert max(counts) <= 16


def test_a_section_up_to_the_limit_stays_whole_and_keeps_its_headings_in_its_title() -> None:
    passages = cut("# Guide\n\nIntro text.\n\n## Setup\n\nRun make.\n\n### On Linux\n\nUse apt.\n")
    assert passages["title"].tolist() == ["Guide", "Guide > Setup", "Guide > Setup > On Linux"]
    assert passages["text"].tolist() == ["Guide\n\nIntro text.", "Setup\n\nRun make.", "On Linux\n\nUse apt."]


def test_a_qualified_name_is_not_repeated_after_its_module() -> None:
    documents = document_table(
        [Document("s", "u", "shutil", "# shutil\n\n## shutil.move(a, b)\n\nMove it.", "markdown")]
    )
    assert chunk_documents(documents, None, 32, 0, 5)["title"].tolist() == ["shutil.move"]


def test_pieces_of_a_long_section_cover_it_and_share_the_overlap() -> None:
    text = " ".join(f"word{n:03}" for n in range(200))
    without = cut(text, "plain", overlap=0)
    shared = cut(text, "plain", overlap=8)
    assert " ".join(without["text"]) == text
    assert set(shared["title"]) == {"Guide"}
    for before, after in zip(shared["end"], shared["start"][1:], strict=False):
        assert 8 <= before - after <= 32  # two to eight tokens of four characters


def test_lone_headings_and_short_pieces_are_left_out() -> None:
    passages = cut("# A heading alone\n\n## And a closed one ##\n\n## C\n\nHas text.\n\n## D\n\nx", min_characters=6)
    assert passages["text"].tolist() == ["C\n\nHas text."]


def test_the_model_s_own_truncation_does_not_hide_a_long_text(tokenizer: Tokenizer) -> None:
    assert tokenizer.truncation is not None
    text = "word " * 400
    passages = cut(text, "plain", tokenizer, max_tokens=150, overlap=0)
    assert passages["end"].max() == len(text.strip()) and len(passages) == 3
    assert tokenizer.truncation is not None  # and it is left as it was


def test_a_line_without_spaces_is_not_one_passage_though_it_is_one_token(tokenizer: Tokenizer) -> None:
    text = "x" * 300_000
    passages = cut(text, "plain", tokenizer, max_tokens=64, overlap=0)
    assert_exact(passages, text)
    assert passages["text"].str.len().max() == 16 * 64 and "".join(passages["text"]) == text


@pytest.mark.parametrize("separator", [" ", "\n"])
def test_a_text_longer_than_a_stretch_loses_nothing_at_the_seams(separator: str) -> None:
    text = separator.join(f"word{n}" for n in range(15_000))
    assert len(text) > 100_000
    passages = cut(text, "plain", max_tokens=2000, overlap=0)
    assert_exact(passages, text)
    assert " ".join(passages["text"]).split() == text.split()


def test_an_id_changes_with_the_text_and_only_with_it() -> None:
    before, same, after = (cut(f"# Guide\n\nUse {word} for it.")["passage_id"][0] for word in ("a", "a", "b"))
    assert before == same != after


def test_the_page_is_the_last_that_begins_at_or_before_the_passage() -> None:
    documents = document_table([Document("f", "a", "Guide", "first page\n# B\nsecond page", "markdown")])
    documents.at[0, "pages"] = [0, 11]
    assert chunk_documents(documents, None, 32, 0, 5)["page"].tolist() == [1, 2]


def test_an_overlap_as_long_as_a_passage_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"overlap \(32\) must be below max_tokens \(32\)"):
        cut("text " * 100, overlap=32)


@pytest.mark.parametrize("text", ["", "   \n", "# Only a heading"])
def test_documents_without_any_passage_are_an_error(text: str) -> None:
    with pytest.raises(ValueError, match="No passage is left"):
        cut(text)
