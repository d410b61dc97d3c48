"""Queries with their positives and negatives as batches of texts, each a function of seed, epoch and number."""

import math
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from ragsmith.retrieve.passage_text import passage_inputs


@dataclass(frozen=True)
class Example:
    """One query with what it is pulled to and pushed from.

    Attributes:
        query_id, text: the query.
        positive_ids: all passages known to answer it.
        negative_ids: mined, the hardest first.
        teacher_scores: what a teacher (a cross-encoder, or whoever scored the records) gave to the positives and then
            the negatives, in their order; NaN for negatives that he has not seen; empty when there is none.
        cut: the stretch of its source passage that the query was taken from, as (passage_id, start, end), or None.
    """

    query_id: str
    text: str
    positive_ids: tuple[str, ...]
    negative_ids: tuple[str, ...]
    cut: tuple[str, int, int] | None = None
    teacher_scores: tuple[float, ...] = ()

    def with_negatives(self, places: list[int]) -> "Example":
        """The example with those negatives alone, and their scores."""
        positives, scores = len(self.positive_ids), self.teacher_scores
        return replace(
            self,
            negative_ids=tuple(self.negative_ids[place] for place in places),
            teacher_scores=(*scores[:positives], *(scores[positives + place] for place in places)) if scores else (),
        )

    def with_scored_negatives(self) -> "Example":
        """The example with the negatives alone that its teacher has scored."""
        scores = self.teacher_scores[len(self.positive_ids) :]
        return self.with_negatives([place for place, score in enumerate(scores) if not math.isnan(score)])


@dataclass(frozen=True)
class Batch:
    """Texts of one step.

    Attributes:
        queries: texts.
        passages: each distinct text once.
        targets: per query, the place of its positive among the passages.
        ignored: bool, shape (queries, passages): other right answers.
        groups: int64, shape (queries, 1 + negatives): places of each query's own positive and negatives among the
            passages; 0 where there are fewer.
        grouped: bool, the same shape: which of them are there.
        teacher: float32, the same shape: the teacher's scores; 0 without one.
    """

    queries: list[str]
    passages: list[str]
    targets: np.ndarray
    ignored: np.ndarray
    groups: np.ndarray
    grouped: np.ndarray
    teacher: np.ndarray


def training_examples(queries: pd.DataFrame, mined: pd.DataFrame) -> list[Example]:
    """Join the mined ids with the queries' texts, in the order of `mined`.

    Args:
        queries: query_id, text, passage_id, cut_start, cut_end (cut_end 0: nothing to cut).
        mined: query_id, positive_ids, negative_ids, and teacher_scores if there is a teacher.
    Raises:
        ValueError: a mined query is not among the queries, has no positive, or a number of teacher's scores that does
            not fit its passages.
    """
    by_id = queries.set_index("query_id")
    if unknown := sorted(set(mined["query_id"]) - set(by_id.index)):
        raise ValueError(f"{len(unknown)} mined queries are not in the table of queries, such as {unknown[0]}.")
    if "teacher_scores" not in mined.columns:
        mined = mined.assign(teacher_scores=[[]] * len(mined))
    rows = by_id.loc[mined["query_id"]]
    examples = []
    for mined_row, query in zip(mined.itertuples(index=False), rows.itertuples(), strict=True):
        cut = (query.passage_id, int(query.cut_start), int(query.cut_end)) if query.cut_end > query.cut_start else None
        # Of a NaN, a table on disk makes a null.
        scores = tuple(math.nan if score is None else score for score in mined_row.teacher_scores)
        example = Example(
            mined_row.query_id,
            query.text,
            tuple(mined_row.positive_ids),
            tuple(mined_row.negative_ids),
            cut,
            scores,
        )
        if not example.positive_ids:
            raise ValueError(
                f"Query {example.query_id} ({example.text!r}) has no positive: leave it out, or name one."
            )
        if len(example.teacher_scores) not in {0, len(example.positive_ids) + len(example.negative_ids)}:
            raise ValueError(
                f"Query {example.query_id} has {len(example.teacher_scores)} teacher_scores for "
                f"{len(example.positive_ids)} positives and {len(example.negative_ids)} negatives: one each is needed."
            )
        examples.append(example)
    return examples


def chosen_queries(queries: pd.DataFrame, train_on: str, enough_examples: int) -> pd.DataFrame:
    """The training queries of the wanted kind.

    Args:
        queries: query_id, kind, origin, file, split and any other columns.
        train_on: `examples` (written by hand), `structural`, `all`; `auto` takes examples when there are enough of
            them, else all. Or a kind of query, an origin, or the stem of the file that they come from.
        enough_examples: for `auto`.
    Returns:
        The training queries, in their order.
    Raises:
        ValueError: there is none of that kind.
    """
    train = queries[queries["split"] == "train"]
    written = train["kind"] == "example"
    if train_on == "auto":
        train_on = "examples" if written.sum() >= enough_examples else "all"
    groups = {"examples": train[written], "structural": train[~written], "all": train}
    named = (train["kind"] == train_on) | (train["origin"] == train_on) | (train["file"] == train_on)
    chosen = groups.get(train_on, train[named])
    if chosen.empty:
        known = sorted({*groups, *train["kind"], *train["origin"], *train["file"]} - {""})
        raise ValueError(f"There is no training query to train on {train_on!r}. There are: {', '.join(known)}.")
    return chosen


class BatchBuilder:
    """Batches of examples; the same ones for the same seed, epoch and number.

    Args:
        examples: at least `batch_size`.
        passages: passage_id, title, text: all that the examples name.
        batch_size: queries in a batch.
        negatives: hard negatives per query, drawn among its mined ones. Passages with the text of a right answer, to
            this query or to another of the same text, are none; they are left out of the examples.
        cut_probability: how often the stretch that the query was taken from is left out of its positive.
        seed: see above.
    Raises:
        ValueError: an example names a passage that is not there, or all passages have the same text.

    Attributes:
        left_out: mined negatives that are right answers.
        short: examples with fewer than `negatives` of them.
    """

    def __init__(
        self,
        examples: list[Example],
        passages: pd.DataFrame,
        batch_size: int,
        negatives: int,
        cut_probability: float,
        seed: int,
    ) -> None:
        self.batch_size = batch_size
        self.negatives = negatives
        self.cut_probability = cut_probability
        self.seed = seed
        named = {passage_id for example in examples for passage_id in (*example.positive_ids, *example.negative_ids)}
        # Only what is trained on: the corpus may be a thousand times as large.
        used = passages[passages["passage_id"].isin(named)]
        self.texts: dict[str, str] = dict(zip(used["passage_id"], passage_inputs(used), strict=True))
        if missing := sorted(named - self.texts.keys()):
            example = next(e for e in examples if missing[0] in (*e.positive_ids, *e.negative_ids))
            raise ValueError(
                f"{len(missing)} passages of the training examples are not in the table of passages, such as "
                f"{missing[0]} of query {example.query_id}. Mine again: kedro run --pipelines negative_mining"
            )
        if len(examples) > 1 and len(set(self.texts.values())) == 1:
            raise ValueError(
                f"All {len(self.texts)} passages of the {len(examples)} training examples have the same text: nothing "
                "can be told apart. Look at 03_primary/passages.parquet, and at data_collection's deduplication."
            )
        # Ids do not tell: the same text may stand in the table twice, and the same question be asked twice.
        self.right: dict[str, set[str]] = {}
        for example in examples:
            texts = self.right.setdefault(example.text, set())
            texts.update(self.texts[passage_id] for passage_id in example.positive_ids)
        self.examples = [self._without_right(example) for example in examples]
        before, after = (sum(len(example.negative_ids) for example in some) for some in (examples, self.examples))
        self.left_out = before - after
        self.short = sum(len(example.negative_ids) < negatives for example in self.examples)
        self.cut_texts = self._without_cuts(used) if cut_probability else {}
        self._last_order: tuple[int, np.ndarray] = -1, np.empty(0, dtype=np.int64)

    def __len__(self) -> int:
        """Whole batches in an epoch; the rest of the examples sits out, other ones each epoch."""
        return len(self.examples) // self.batch_size

    def batch(self, epoch: int, number: int) -> Batch:
        """Batch `number` of an epoch."""
        order = self._order(epoch)
        chosen = [self.examples[place] for place in order[number * self.batch_size : (number + 1) * self.batch_size]]
        generator = np.random.default_rng([self.seed, epoch, number])
        # A passage with its lead cut out is another text than the whole passage, and a right answer where that is.
        place_of: dict[str, int] = {}
        places_of: dict[str, set[int]] = {}
        shape = (len(chosen), 1 + self.negatives)
        groups, grouped = np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=bool)
        teacher = np.zeros(shape, dtype=np.float32)
        for row, example in enumerate(chosen):
            drawn = int(generator.integers(len(example.positive_ids)))
            positive = example.positive_ids[drawn]
            cut = generator.random() < self.cut_probability and example.cut is not None and example.cut[0] == positive
            whole = self.texts[positive]
            shown = self.cut_texts.get(example.query_id, whole) if cut else whole
            members: dict[str, tuple[str, int]] = {whole: (shown, drawn)}
            for place in generator.permutation(len(example.negative_ids)):
                if len(members) > self.negatives:
                    break
                text = self.texts[example.negative_ids[int(place)]]
                members.setdefault(text, (text, len(example.positive_ids) + int(place)))
            for column, (text, (shown, score)) in enumerate(members.items()):
                groups[row, column] = place_of.setdefault(shown, len(place_of))
                places_of.setdefault(text, set()).add(place_of[shown])
                grouped[row, column] = True
                if example.teacher_scores:
                    teacher[row, column] = example.teacher_scores[score]
        targets = groups[:, 0].copy()
        ignored = np.zeros((len(chosen), len(place_of)), dtype=bool)
        for row, example in enumerate(chosen):
            for text in self.right[example.text]:
                ignored[row, sorted(places_of.get(text, ()))] = True
            ignored[row, targets[row]] = False
        return Batch([example.text for example in chosen], [*place_of], targets, ignored, groups, grouped, teacher)

    def _order(self, epoch: int) -> np.ndarray:
        """The examples' places in the order of an epoch, kept until another epoch is asked for."""
        known, order = self._last_order
        if known != epoch:
            order = np.random.default_rng([self.seed, epoch]).permutation(len(self.examples))
            self._last_order = epoch, order  # in one go: a thread makes batches ahead
        return order

    def _without_right(self, example: Example) -> Example:
        """The example without negatives that are right answers by their text."""
        right = self.right[example.text]
        kept = [place for place, name in enumerate(example.negative_ids) if self.texts[name] not in right]
        if len(kept) == len(example.negative_ids):
            return example
        return example.with_negatives(kept)

    def _without_cuts(self, passages: pd.DataFrame) -> dict[str, str]:
        """Per query id, its source passage without the stretch that the query was taken from."""
        rows = passages.set_index("passage_id")
        cut_texts = {}
        for example in self.examples:
            if example.cut is None or example.cut[0] not in self.texts:
                continue
            passage_id, start, end = example.cut
            title, text = rows.at[passage_id, "title"], rows.at[passage_id, "text"]
            left = " ".join(part for part in (text[:start].strip(), text[end:].strip()) if part)
            if left:
                frame = pd.DataFrame({"title": [title], "text": [left]})
                cut_texts[example.query_id] = passage_inputs(frame)[0]
        return cut_texts
