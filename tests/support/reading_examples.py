"""Two passages, and questions about the first."""

from ragsmith.read.examples import ReadingExample
from ragsmith.read.reading import ReadingPassage

RMTREE = ReadingPassage("p1", "shutil.rmtree(path)\n\nDelete a tree.", 0.9)
SQRT = ReadingPassage("p2", "math.sqrt(x)\n\nThe square root.", 0.2)


def example(*passages, answers=("shutil.rmtree",), right=("p1",), question="delete a tree"):
    return ReadingExample(question, tuple(passages), tuple(answers), frozenset(right))
