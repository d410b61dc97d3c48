"""Steps of data_collection."""

import logging
from pathlib import Path
from typing import Any

import pandas as pd

from ragsmith.pipelines.data_collection.params import DataCollectionParams

logger = logging.getLogger(__name__)


def collect_documents(
    source_folder: Path, records_folder: Path, params: DataCollectionParams
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame, dict[str, Any]]:
    """Read all sources that are enabled: documents, the passages and questions of records, and what was rejected."""
    from ragsmith.collect.documents import document_table
    from ragsmith.collect.exchange import tables
    from ragsmith.collect.exchange.folder import RecordReading, read_records
    from ragsmith.collect.folder import FolderReading, read_folder
    from ragsmith.collect.sample import sample_documents

    documents = sample_documents(params.sample.modules) if params.sample.enabled else []
    reading = FolderReading()
    if params.folder.enabled and source_folder.is_dir():
        reading = read_folder(source_folder, params.folder.max_bytes)
    found = RecordReading()
    if params.records.enabled and records_folder.is_dir():
        found = read_records(records_folder, params.records.max_bytes, other_documents=bool(reading.documents))
    table = document_table([*documents, *reading.documents, *tables.record_documents(found.records)])
    if table.empty:
        raise ValueError(
            f"No document was found. Put .md, .txt or .jsonl files into {source_folder}, or records into "
            f"{records_folder}, or set data_collection.sample.enabled to true."
        )
    report = {
        "documents": {source: int(count) for source, count in table["source"].value_counts().items()},
        "rejected": reading.rejected,
        "records": {"files": found.files, "rejected": found.rejected},
    }
    logger.info("documents: %s, rejected: %d", report["documents"], len(reading.rejected) + len(found.rejected))
    return table, tables.record_passages(found.records), tables.record_questions(found.records), report


def make_passages(
    documents: pd.DataFrame, record_passages: pd.DataFrame, base_encoder: Path, params: DataCollectionParams
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Cut documents into passages, but not those of records, and drop exact duplicates, an output of their own."""
    from tokenizers import Tokenizer

    from ragsmith.collect.chunk import chunk_documents
    from ragsmith.collect.deduplicate import drop_exact_duplicates

    vocabulary = base_encoder / "tokenizer.json"
    tokenizer = Tokenizer.from_file(str(vocabulary)) if vocabulary.is_file() else None
    chunk = params.chunk
    whole = documents[~documents["document_id"].isin(record_passages["document_id"])]
    tables = [record_passages]
    if len(whole):
        tables.insert(0, chunk_documents(whole, tokenizer, chunk.max_tokens, chunk.overlap, chunk.min_characters))
    passages, duplicates = drop_exact_duplicates(pd.concat([table for table in tables if len(table)]))
    logger.info("passages: %d kept, %d exact duplicates removed", len(passages), len(duplicates))
    return passages, duplicates


def gather_gold(
    questions_folder: Path,
    record_questions: pd.DataFrame,
    passages: pd.DataFrame,
    duplicates: pd.DataFrame,
    params: DataCollectionParams,
) -> tuple[pd.DataFrame, pd.DataFrame, dict[str, Any]]:
    """The questions to judge by: the user's own, else those of the sample corpus; and dev and test of the records.

    The questions of the records come with their splits as a table of their own, for training asks for the others.
    """
    from ragsmith.collect.exchange.division import (
        answered_questions,
        by_supervision,
        divide_questions,
        judged_questions,
        require_training,
    )
    from ragsmith.collect.questions import SAMPLE_QUESTIONS, question_files, read_questions, resolve_questions
    from ragsmith.retrieve.distant_supervision import supervise

    files = question_files(questions_folder, SAMPLE_QUESTIONS if params.sample.enabled else None)
    questions = [question for file in files for question in read_questions(file)]
    gold, missing = resolve_questions(questions, passages)
    if questions_folder.is_dir() and questions and gold.empty:
        first = missing[0]
        raise ValueError(
            f"None of {len(questions)} gold questions in {questions_folder} names a passage of this corpus, such as "
            f"{first['passage']!r} ({first['where']}). Name passages by their titles: the last heading above them."
        )
    report = {
        "files": [file.name for file in files],
        "questions": len(questions),
        "found": len(gold),
        "missing": missing,
    }
    logger.info("gold questions: %d of %d have their passages in this corpus", len(gold), len(questions))
    answered, unusable = answered_questions(record_questions, passages, duplicates)
    require_training(record_questions, answered)
    shares = {"dev": params.split.documents_dev, "test": params.split.documents_test}
    taken = {document_id for ids in gold["document_ids"] for document_id in ids}
    divided, apart = divide_questions(
        answered, taken, {"train": 1 - sum(shares.values()), **shares}, params.split.seed, complete=gold.empty
    )
    unfound = 0
    if params.records.distant_supervision:
        divided, unfound = supervise(divided, gold, passages)
    gold, asked_by_hand = judged_questions(gold, divided)
    by_split = {str(name): int(count) for name, count in divided["split"].value_counts().items()}
    left_out = {**unusable, **apart, "a gold question": asked_by_hand}
    if len(record_questions):
        logger.info("questions of records: %s, left out: %s", by_split, left_out)
    records = {
        "questions": len(record_questions),
        "by_split": by_split,
        "by_supervision": by_supervision(divided),
        "no_passage_holds_an_answer": unfound,
        "left_out": left_out,
    }
    return gold, divided, {**report, "records": records}


def gather_examples(
    examples_folder: Path,
    divided_records: pd.DataFrame,
    passages: pd.DataFrame,
    splits: pd.DataFrame,
    gold: pd.DataFrame,
    params: DataCollectionParams,
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame, dict[str, Any]]:
    """Example questions to train on, none about dev or test documents; negatives and scores given with some of them.

    They are the user's own or those of the sample, and the training questions of the records.
    """
    from ragsmith.collect.exchange.division import given_negatives, positive_scores, training_questions
    from ragsmith.collect.questions import (
        GOLD_COLUMNS,
        JUDGED,
        SAMPLE_EXAMPLES,
        for_training,
        question_files,
        read_questions,
        resolve_questions,
    )

    files = question_files(examples_folder, SAMPLE_EXAMPLES if params.sample.enabled else None)
    written = [question for file in files for question in read_questions(file)]
    found, missing = resolve_questions(written, passages)
    own, left_out = for_training(found, splits, gold)
    records = training_questions(divided_records, own)
    recorded, records_left_out = for_training(records, splits, gold)
    tables = [own.assign(supervision=JUDGED), recorded[[*GOLD_COLUMNS, "supervision"]]]
    examples = pd.concat([table for table in tables if len(table)] or tables[:1], ignore_index=True)
    negatives, dropped = given_negatives(recorded, passages, splits)
    scores, scored_in_part = positive_scores(recorded)
    scored = scores["query_id"].nunique()
    report = {
        "files": [file.name for file in files],
        "questions": len(written),
        "kept": len(own),
        "left_out": left_out,
        "missing": missing,
        "records": {
            "kept": len(recorded),
            "left_out": records_left_out,
            "given_negatives": len(negatives),
            "given_negatives_about_no_training_document": dropped,
            "scored": scored,
            "scored_in_part": scored_in_part,
        },
    }
    logger.info("example questions: %d of %d, and %d of records", len(own), len(written), len(recorded))
    if scored or scored_in_part:
        logger.info(
            "a teacher's scores: %d questions of records have them; %d have them of some passages alone, or have no "
            "negatives, and theirs are not used",
            scored,
            scored_in_part,
        )
    return examples, negatives, scores, report


def split(documents: pd.DataFrame, gold: pd.DataFrame, params: DataCollectionParams) -> pd.DataFrame:
    """Divide the documents into train, dev and test."""
    from ragsmith.collect.split import split_documents

    shares = params.split
    dev, test = (shares.dev, shares.test) if len(gold) else (shares.documents_dev, shares.documents_test)
    settled = gold.loc[gold["split"] != "", ["document_ids", "split"]].explode("document_ids").dropna()
    given = dict(zip(settled["document_ids"], settled["split"], strict=True))
    by_hand = gold.loc[gold["split"] == "", "document_ids"].tolist()
    asked_alone = bool((gold["document_ids"].map(len) == 0).any())
    splits = split_documents(documents["document_id"].tolist(), by_hand, dev, test, shares.seed, given, asked_alone)
    logger.info("documents by split: %s", splits["split"].value_counts().to_dict())
    return splits
