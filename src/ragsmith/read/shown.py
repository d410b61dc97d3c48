"""What a reader is shown of the passages that were found for a question."""

from collections.abc import Sequence

from ragsmith.read.examples import ReadingExample
from ragsmith.read.live_index import LiveIndex
from ragsmith.read.rag_settings import RagQuestion
from ragsmith.read.reading import ReadingPassage
from ragsmith.retrieve.has_answer import found_by, has_answer


def surely_judged(question: RagQuestion, rows: Sequence[int], index: LiveIndex) -> list[int]:
    """What was found, without passages that hold an accepted answer and that nobody judged.

    They may well answer the question: a reader that is trained against them learns what is false. Where no right
    passage is known, or it is only guessed, all stay.
    """
    if not question.judged or not question.right:
        return list(rows)
    accepted = found_by(question.answers)
    return [
        row for row in rows if index.passage_ids[row] in question.right or not has_answer(index.texts[row], accepted)
    ]


def with_right_passage(question: RagQuestion, rows: Sequence[int], index: LiveIndex, most: int) -> list[int]:
    """The first of these passages, at most so many; where none is right, a right one takes the last place.

    That is the one that the question was made from, if it is known and right, or else the first of the right ones.
    """
    shown = list(rows[:most])
    right = {index.row_of[passage_id] for passage_id in question.right}
    if not right or right & set(shown):
        return shown
    source = index.row_of.get(question.source[0])
    return [*shown[: most - 1], source if source in right else min(right)]


def reading_example(
    question: RagQuestion, found: Sequence[tuple[int, float]], index: LiveIndex, cut: bool = False
) -> ReadingExample:
    """A question with the texts of what was found.

    Args:
        question: its answers and marks.
        found: rows of the index, and the score of each.
        index: the passages.
        cut: leave the stretch that the question was taken from out of its source.
    """
    source, start, end = question.source
    cut = cut and 0 < start < end
    passages = []
    for row, score in found:
        passage_id, text = index.passage_ids[row], index.texts[row]
        if cut and passage_id == source:
            moved = index.moved[row]
            text = f"{text[: moved + start].rstrip()}\n{text[moved + end :].lstrip()}".strip()
        passages.append(ReadingPassage(passage_id, text, score))
    rows = {index.passage_ids[row]: row for row, _ in found}
    marks = tuple(
        (passage_id, begin + index.moved[rows[passage_id]], finish + index.moved[rows[passage_id]])
        for passage_id, begin, finish in question.marks
        # The characters behind a cut have moved: there the answers are looked for.
        if passage_id in rows and not (cut and passage_id == source)
    )
    # Spans of a guess alone would teach that the same answer is wrong in every other passage.
    right = question.right if question.judged else frozenset()
    return ReadingExample(question.text, tuple(passages), question.answers, right, marks)
