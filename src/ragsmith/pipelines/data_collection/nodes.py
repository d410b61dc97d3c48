"""Steps of data_collection."""

import logging
from pathlib import Path
from typing import Any

import pandas as pd

from ragsmith.pipelines.data_collection.params import DataCollectionParams

logger = logging.getLogger(__name__)


def collect_documents(source_folder: Path, params: DataCollectionParams) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Read all sources that are enabled into one table of documents, and report what was rejected."""
    from ragsmith.collect.documents import document_table
    from ragsmith.collect.folder import FolderReading, read_folder
    from ragsmith.collect.sample import sample_documents

    documents = sample_documents(params.sample.modules) if params.sample.enabled else []
    reading = FolderReading()
    if params.folder.enabled and source_folder.is_dir():
        reading = read_folder(source_folder, params.folder.max_bytes)
    table = document_table([*documents, *reading.documents])
    if table.empty:
        raise ValueError(
            f"No document was found. Put .md, .txt or .jsonl files into {source_folder}, "
            "or set data_collection.sample.enabled to true."
        )
    report = {
        "documents": {source: int(count) for source, count in table["source"].value_counts().items()},
        "rejected": reading.rejected,
    }
    logger.info("documents: %s, rejected: %d", report["documents"], len(reading.rejected))
    return table, report


def make_passages(
    documents: pd.DataFrame, base_encoder: Path, params: DataCollectionParams
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Cut documents into passages and drop exact duplicates; the removed are an output of their own."""
    from tokenizers import Tokenizer

    from ragsmith.collect.chunk import chunk_documents
    from ragsmith.collect.deduplicate import drop_exact_duplicates

    vocabulary = base_encoder / "tokenizer.json"
    tokenizer = Tokenizer.from_file(str(vocabulary)) if vocabulary.is_file() else None
    chunk = params.chunk
    cut = chunk_documents(documents, tokenizer, chunk.max_tokens, chunk.overlap, chunk.min_characters)
    passages, duplicates = drop_exact_duplicates(cut)
    logger.info("passages: %d kept, %d exact duplicates removed", len(passages), len(duplicates))
    return passages, duplicates


def gather_gold(
    questions_folder: Path, passages: pd.DataFrame, params: DataCollectionParams
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Find the passages of the questions written by hand: the user's own, else those of the sample corpus."""
    from ragsmith.collect.questions import SAMPLE_QUESTIONS, question_files, read_questions, resolve_questions

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
    return gold, report


def gather_examples(
    examples_folder: Path,
    passages: pd.DataFrame,
    splits: pd.DataFrame,
    gold: pd.DataFrame,
    params: DataCollectionParams,
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Example questions to train on, the user's own or those of the sample: none about dev or test documents."""
    from ragsmith.collect.questions import (
        SAMPLE_EXAMPLES,
        for_training,
        question_files,
        read_questions,
        resolve_questions,
    )

    files = question_files(examples_folder, SAMPLE_EXAMPLES if params.sample.enabled else None)
    written = [question for file in files for question in read_questions(file)]
    found, missing = resolve_questions(written, passages)
    examples, left_out = for_training(found, splits, gold)
    report = {"files": [file.name for file in files], "questions": len(written), "kept": len(examples)}
    logger.info("example questions: %d of %d are about training documents", len(examples), len(written))
    return examples, {**report, "left_out": left_out, "missing": missing}


def split(documents: pd.DataFrame, gold: pd.DataFrame, params: DataCollectionParams) -> pd.DataFrame:
    """Divide the documents into train, dev and test."""
    from ragsmith.collect.split import split_documents

    shares = params.split
    dev, test = (shares.dev, shares.test) if len(gold) else (shares.documents_dev, shares.documents_test)
    splits = split_documents(documents["document_id"].tolist(), gold["document_ids"].tolist(), dev, test, shares.seed)
    logger.info("documents by split: %s", splits["split"].value_counts().to_dict())
    return splits
