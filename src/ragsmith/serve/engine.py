"""The engine: search and answers from a bundle."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from ragsmith.compute.device import Machine, probe
from ragsmith.read.readers import Reader, load_reader
from ragsmith.read.reading import ReadingPassage
from ragsmith.retrieve.build import load_index
from ragsmith.retrieve.encoder import Encoder
from ragsmith.retrieve.passage_text import passage_inputs
from ragsmith.retrieve.search import Mode, Searcher
from ragsmith.serve.bundle import read_manifest

QUESTION_LIMIT = 2000
SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[A-Z\"'(])|\n\s*\n")
WORD = re.compile(r"[A-Za-z]{2,}")
ANY_WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class Hit:
    """A passage that was found.

    Attributes:
        passage_id, document_id, title, text: the passage.
        score: of the search mode; higher is better.
        cosine: of question and passage.
        rank: 1 is the best.
    """

    passage_id: str
    document_id: str
    title: str
    text: str
    score: float
    cosine: float
    rank: int


@dataclass(frozen=True)
class Answer:
    """What a question gave.

    Attributes:
        question: as asked.
        text: the answer, a span of `hit.text` or of its title, or written by the reader; empty when there is none.
        sentence: the sentence of the passage that explains it; empty where none does.
        score: share of this span among all that were possible, or the probability of writing this text, 0 to 1; it is
            no probability of being right.
        hit: the passage that the answer was read from, or that supports it best; None without an answer.
        hits: all passages that were read.
        quoted: whether the passage holds the answer word for word.
    """

    question: str
    text: str
    sentence: str
    score: float
    hit: Hit | None
    hits: tuple[Hit, ...]
    quoted: bool = True


class Engine:
    """Searches and answers, from the same parts that were evaluated.

    Args:
        searcher: over the bundle's passages.
        reader: the trained reader.
        passages: passage_id, document_id, title, text.
        mode: how to search unless asked otherwise.
        read: passages read per question.
    """

    def __init__(self, searcher: Searcher, reader: Reader, passages: pd.DataFrame, mode: Mode, read: int) -> None:
        self.searcher = searcher
        self.reader = reader
        self.mode = mode
        self.read = read
        self.rows: dict[str, Any] = {row.passage_id: row for row in passages.itertuples(index=False)}
        self.inputs = dict(zip(passages["passage_id"], passage_inputs(passages), strict=True))

    @classmethod
    def load(cls, bundle: Path, machine: Machine | None = None) -> "Engine":
        """Check and open a bundle.

        Raises:
            BundleError: it is not whole.
            ModelError: a model in it is not usable.
            ValueError: its index is damaged, or another model than its retriever made it.
        """
        manifest = read_manifest(bundle)
        machine = machine or probe()
        passages = pd.read_parquet(bundle / "passages.parquet")
        searcher = Searcher(
            Encoder.load(bundle / "retriever", machine), load_index(bundle / "index", bundle / "retriever"), passages
        )
        reader = load_reader(bundle / "reader", machine)
        settings = manifest["settings"]
        searcher.prepare(settings["mode"])
        return cls(searcher, reader, passages, settings["mode"], settings["passages"])

    def search(self, question: str, k: int = 10, mode: Mode | None = None) -> list[Hit]:
        """The k best passages, best first.

        Args:
            question: 1 to 2,000 characters that are not all white space.
            k: at least 1.
            mode: `dense`, `bm25` or `hybrid`; None takes the bundle's own.
        Raises:
            ValueError: empty or overlong question or one with broken characters, k below 1, or unknown mode.
        """
        if not question.strip():
            raise ValueError("The question is empty.")
        if len(question) > QUESTION_LIMIT:
            raise ValueError(f"The question has {len(question)} characters; at most {QUESTION_LIMIT} are read.")
        if any("\ud800" <= letter <= "\udfff" for letter in question):
            raise ValueError("The question is not valid UTF-8. Check the terminal's encoding.")
        if k < 1:
            raise ValueError(f"k is {k}; at least one passage must be asked for.")
        run = self.searcher.run(["q"], [question], k, mode or self.mode)
        return [
            Hit(
                passage_id=found.passage_id,
                document_id=self.rows[found.passage_id].document_id,
                title=self.rows[found.passage_id].title,
                text=self.rows[found.passage_id].text,
                score=float(found.score),
                cosine=float(found.cosine),
                rank=int(found.rank),
            )
            for found in run.itertuples(index=False)
        ]

    def ask(self, question: str, mode: Mode | None = None) -> Answer:
        """The answer that the reader finds in the passages that are found.

        Raises:
            ValueError: as `search`.
        """
        hits = tuple(self.search(question, self.read, mode))
        found = [ReadingPassage(hit.passage_id, self.inputs[hit.passage_id], hit.cosine) for hit in hits]
        span = self.reader.answer(question, found)
        if span is None or not span.text:
            return Answer(question, "", "", 0.0, None, hits)
        hit = next(hit for hit in hits if hit.passage_id == span.passage_id)
        quoted = span.start >= 0
        sentence = (explaining_sentence if quoted else supporting_sentence)(hit.text, span.text)
        return Answer(question, span.text, sentence, span.score, hit, hits, quoted)


def explaining_sentence(text: str, answer: str) -> str:
    r"""The sentence of a passage that says what the answer is about.

    An answer that is the passage's heading is explained by the first sentence below it; any other by its own sentence.

    >>> explaining_sentence("shutil.rmtree(path)\n\nDelete a directory tree. More.", "shutil.rmtree")
    'Delete a directory tree.'
    """
    heading, _, body = text.partition("\n")
    if answer in heading and body.strip():
        text = body
    sentences = sentences_of(text)
    holding = next((sentence for sentence in sentences if answer in sentence and answer not in heading), None)
    telling = next((sentence for sentence in sentences if len(WORD.findall(sentence)) >= 3), " ".join(sentences[:1]))
    return holding or telling


def supporting_sentence(text: str, answer: str) -> str:
    """The sentence of a passage that shares most words with an answer that does not stand there word for word.

    >>> supporting_sentence("It is red. Four has the square root two. More.", "The root of four is two")
    'Four has the square root two.'
    >>> supporting_sentence("It is red.", "Paris")
    ''
    """
    words = set(ANY_WORD.findall(answer.casefold()))
    shared = {sentence: len(words & set(ANY_WORD.findall(sentence.casefold()))) for sentence in sentences_of(text)}
    best = max(shared, key=shared.__getitem__, default="")
    return best if shared.get(best) else ""


def sentences_of(text: str) -> list[str]:
    """The sentences of a text, each on one line."""
    return [" ".join(part.split()) for part in SENTENCE.split(text.strip()) if part.strip()]
