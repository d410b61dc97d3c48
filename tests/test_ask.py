import pytest

from ragsmith.ask import indented, print_answer, printable

HARMFUL = set("\x1b\x07\x9b\r\x00\x7f\u202e")


def test_control_characters_are_replaced_and_line_ends_stay():
    assert printable("a\x1b[2Jb\x9b31m\r\n\tc\u202ed") == "a�[2Jb�31m�\n\tc�d"
    assert printable("naïve 日本語 🙂 – “quoted”") == "naïve 日本語 🙂 – “quoted”"


def test_long_passage_is_shown_from_its_beginning():
    assert indented("one\ntwo\nthree", lines=2) == "  | one\n  | two\n  | …"
    assert indented("one\ntwo", lines=2) == "  | one\n  | two"


def test_hostile_passage_does_not_reach_the_terminal(tiny_bundle, capsys):
    print_answer("ring bell", tiny_bundle, 3, "bm25", as_json=False)
    shown = capsys.readouterr().out
    assert "Ring�31m the� bell�." in shown and "1. " in shown and not HARMFUL & set(shown)


@pytest.mark.parametrize("question", ["ring bell", "hostile"])
def test_hostile_answer_does_not_reach_the_terminal(tiny_bundle, capsys, monkeypatch, question):
    from ragsmith.read.extractive import ExtractiveReader
    from ragsmith.read.reading import Span

    # An untrained reader picks a span by chance: here it picks the whole passage.
    def whole(self, question, passages):
        return Span(passages[0].text, passages[0].passage_id, 0, len(passages[0].text), 1.0)

    monkeypatch.setattr(ExtractiveReader, "answer", whole)
    print_answer(question, tiny_bundle, 1, "bm25", as_json=False)
    plain = capsys.readouterr().out
    print_answer(question, tiny_bundle, 1, "bm25", as_json=True)
    as_json = capsys.readouterr().out
    assert "bell" in plain and not HARMFUL & set(plain)
    assert "bell" in as_json and not HARMFUL & set(as_json)


def test_nothing_found_is_said(tiny_bundle, capsys):
    print_answer("zzz", tiny_bundle, 3, "bm25", as_json=False)
    assert capsys.readouterr().out == "Nothing was found.\n"


def test_written_answer_and_an_answer_that_the_reader_did_not_give_are_told_apart(tiny_bundle, capsys, monkeypatch):
    from ragsmith.read.extractive import ExtractiveReader
    from ragsmith.read.reading import Span

    monkeypatch.setattr(ExtractiveReader, "answer", lambda *asked: Span("Ring it loudly", "p2", -1, -1, 0.5))
    print_answer("ring bell", tiny_bundle, 1, "bm25", as_json=False)
    shown = capsys.readouterr().out
    assert shown.startswith("Ring it loudly\nRing") and "written, not quoted; nearest passage: hostile" in shown
    monkeypatch.setattr(ExtractiveReader, "answer", lambda *asked: Span("", "p2", -1, -1, 0.5))
    print_answer("ring bell", tiny_bundle, 1, "bm25", as_json=False)
    shown = capsys.readouterr().out
    assert shown.startswith("The reader gives no answer from what was found.") and "  1. " in shown
