"""The tables that the rest of the chain works on: queries, qrels and answers."""

import pandas as pd

from ragsmith.collect.questions import JUDGED, example_id
from ragsmith.collect.sections import heading_name

QUERY_COLUMNS = ["query_id", "text", "kind", "split", "origin", "file", "passage_id", "cut_start", "cut_end"]
ANSWER_COLUMNS = ["query_id", "answers", "passage_id", "start", "end"]


def gold_tables(gold: pd.DataFrame, splits: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Questions written by hand as queries, qrels and answers.

    Args:
        gold: query_id, text, passage_ids, answers, document_ids, split (for questions without documents), file,
            supervision.
        splits: document_id, split.
    Returns:
        queries (kind and origin `gold`, or as origin the supervision of those that nobody judged; passage_id is the
        first right one or empty, nothing is cut), qrels, answers (spans unknown: -1).
    Raises:
        ValueError: a question's documents lie in several splits, or in train.
    """
    split_of = dict(zip(splits["document_id"], splits["split"], strict=True))
    queries, qrels, answers = [], [], []
    for row in gold.itertuples(index=False):
        found = {split_of[document_id] for document_id in row.document_ids} or {row.split}
        if len(found) != 1 or "train" in found:
            raise ValueError(
                f"The documents that answer {row.text!r} lie in {', '.join(sorted(found))}: "
                "gold questions need documents of dev alone or test alone."
            )
        first = next(iter(row.passage_ids), "")
        origin = "gold" if row.supervision == JUDGED else row.supervision
        queries.append([row.query_id, row.text, "gold", found.pop(), origin, row.file, first, 0, 0])
        qrels += [[row.query_id, passage_id, 1] for passage_id in row.passage_ids]
        answers.append([row.query_id, list(row.answers), first, -1, -1])
    return (
        pd.DataFrame(queries, columns=QUERY_COLUMNS),
        pd.DataFrame(qrels, columns=["query_id", "passage_id", "grade"]),
        pd.DataFrame(answers, columns=ANSWER_COLUMNS),
    )


def example_tables(examples: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Example questions written by hand, all about training documents, as queries, qrels and answers.

    Args:
        examples: query_id, text, passage_ids, answers, file, supervision.
    Returns:
        queries (kind `example`, split `train`, origin `written`, or the supervision of those that nobody judged;
        passage_id may be empty; nothing is cut), qrels, answers (spans unknown: -1).
    """
    queries, qrels, answers = [], [], []
    for row in examples.itertuples(index=False):
        query_id, first = example_id(row.query_id), next(iter(row.passage_ids), "")
        origin = "written" if row.supervision == JUDGED else row.supervision
        queries.append([query_id, row.text, "example", "train", origin, row.file, first, 0, 0])
        qrels += [[query_id, passage_id, 1] for passage_id in row.passage_ids]
        answers.append([query_id, list(row.answers), first, -1, -1])
    return (
        pd.DataFrame(queries, columns=QUERY_COLUMNS),
        pd.DataFrame(qrels, columns=["query_id", "passage_id", "grade"]),
        pd.DataFrame(answers, columns=ANSWER_COLUMNS),
    )


def heading_answers(queries: pd.DataFrame, pairs: pd.DataFrame, passages: pd.DataFrame) -> pd.DataFrame:
    """The answer to a structural query: the name of the section, where it stands in the passage.

    Of an API reference that is the object's qualified name.

    Args:
        queries: query_id, passage_id.
        pairs: query_id, passage_id: all right passages of each query.
        passages: passage_id, text.
    Returns:
        query_id, answers (names of all right passages), passage_id, start, end (span in that passage's text).
    """
    text_of = dict(zip(passages["passage_id"], passages["text"], strict=True))
    right = pairs.groupby("query_id", sort=False)["passage_id"].agg(list)
    rows = []
    for query in queries.itertuples(index=False):
        names = [heading_name(text_of[passage_id].partition("\n")[0]) for passage_id in right[query.query_id]]
        start = text_of[query.passage_id].find(names[0])
        rows.append([query.query_id, list(dict.fromkeys(names)), query.passage_id, start, start + len(names[0])])
    return pd.DataFrame(rows, columns=ANSWER_COLUMNS)
