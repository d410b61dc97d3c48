import random
import time

import pytest

from ragsmith.collect.sections import heading_name, sections


def shape(text: str, markup: str = "markdown") -> list[tuple[tuple[str, ...], str]]:
    """Path and text of each section."""
    return [(section.path, text[section.start : section.end]) for section in sections(text, markup)]


def test_each_heading_opens_a_section_below_the_headings_above_it() -> None:
    text = "Before.\n\n# A\n\none\n\n## B\n\ntwo\n\n# C\n\nthree\n"
    assert shape(text) == [
        ((), "Before."),
        (("A",), "A\n\none"),
        (("A", "B"), "B\n\ntwo"),
        (("C",), "C\n\nthree"),
    ]


def test_a_level_that_was_left_out_does_not_keep_its_siblings_together() -> None:
    assert [path for path, _ in shape("# A\n### B\n## C\n### D\n")] == [
        ("A",),
        ("A", "B"),
        ("A", "C"),
        ("A", "C", "D"),
    ]


def test_a_signature_is_known_by_its_qualified_name() -> None:
    assert shape("## shutil.rmtree(path, ignore_errors=False)\n\nDelete a tree.")[0][0] == ("shutil.rmtree",)


def test_number_signs_in_fenced_code_are_no_headings() -> None:
    text = "# A\n\n```python\n# comment\n```\n\n~~~\n# another\n```\n# still code\n~~~\n\n# B\n\ntext"
    assert [path for path, _ in shape(text)] == [("A",), ("B",)]


def test_a_shorter_fence_does_not_close_a_longer_one() -> None:
    assert [path for path, _ in shape("````\n```\n# code\n```\n````\n# A")] == [(), ("A",)]


def test_backticks_around_a_word_open_no_fence() -> None:
    assert [path for path, _ in shape("```inline``` code\n\n# A\n\ntext")] == [(), ("A",)]


def test_an_unclosed_fence_runs_to_the_end() -> None:
    assert [path for path, _ in shape("# A\n\n```\n# code\n")] == [("A",)]


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("## Copying ##", "Copying"),
        ("# Learning C#", "Learning C#"),
        ("#\tTab", "Tab"),
        ("# 漢字と😀", "漢字と😀"),
        ("# Trailing   ", "Trailing"),
    ],
)
def test_a_heading_is_read_without_its_marks(line: str, name: str) -> None:
    (section,) = sections(line + "\n", "markdown")
    assert section.heading == name == heading_name(line[section.start : section.end])


@pytest.mark.parametrize("line", ["#hashtag", "####### seven", "#", "# ", "## ##", "    # indented code", "text # x"])
def test_what_is_no_heading_stays_text(line: str) -> None:
    assert [section.path for section in sections(line, "markdown")] == [()]


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_every_line_ending_ends_a_heading(newline: str) -> None:
    text = f"# A{newline}{newline}one{newline}# B{newline}two"
    assert shape(text) == [(("A",), f"A{newline}{newline}one"), (("B",), f"B{newline}two")]


@pytest.mark.parametrize("separator", ["\u2028", "\x0c", "\x85", "\x1d"])
def test_what_is_no_line_ending_of_markdown_starts_no_heading(separator: str) -> None:
    assert [path for path, _ in shape(f"text{separator}# not a heading")] == [()]


def test_plain_text_is_one_section_without_headings() -> None:
    assert shape("\n # A\n\ntext \n", "plain") == [((), "# A\n\ntext")]


@pytest.mark.parametrize("text", ["", " \n\t\n", "\r\n"])
@pytest.mark.parametrize("markup", ["markdown", "plain"])
def test_white_space_alone_has_no_sections(text: str, markup: str) -> None:
    assert shape(text, markup) == []


def test_sections_of_random_documents_hold_all_text_but_the_heading_marks() -> None:
    draw = random.Random(7)
    parts = ["# A", "## B(x)", "### ", "#", "```", "~~~", "text", "é漢😀", "", "  ", "\t", "# C #", "\u2028", "`x`"]
    for _ in range(300):
        text = "".join(
            draw.choice(parts) + draw.choice(["\n", "\r\n", "\n\n", " "]) for _ in range(draw.randint(0, 20))
        )
        found = list(sections(text, "markdown"))
        edges = [edge for section in found for edge in (section.start, section.end)]
        assert edges == sorted(edges), text
        assert all(text[s.start : s.end] == text[s.start : s.end].strip() != "" for s in found), text
        outside = "".join(text[a:b] for a, b in zip([0, *edges[1::2]], [*edges[::2], len(text)], strict=True))
        assert set(outside) <= set("# \t\r\n\u2028"), text


def test_a_line_of_a_million_spaces_is_read_at_once() -> None:
    begun = time.perf_counter()
    list(sections("# a" + " " * 1_000_000 + "b" + "#" * 100_000 + "c", "markdown"))
    assert time.perf_counter() - begun < 2
