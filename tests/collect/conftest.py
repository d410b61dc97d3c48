"""The real sample corpus, read and cut once per test run."""

from dataclasses import dataclass

import pandas as pd
import pytest
from tokenizers import Tokenizer

from ragsmith.collect.chunk import chunk_documents
from ragsmith.collect.deduplicate import drop_exact_duplicates
from ragsmith.collect.documents import document_table
from ragsmith.collect.sample import sample_documents
from ragsmith.retrieve.models import resolve_model


@dataclass(frozen=True)
class Corpus:
    """What data_collection makes of the interpreter's reference."""

    documents: pd.DataFrame
    cut: pd.DataFrame
    passages: pd.DataFrame


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    return Tokenizer.from_file(str(resolve_model("package:all-MiniLM-L6-v2") / "tokenizer.json"))


@pytest.fixture(scope="session")
def sample(tokenizer: Tokenizer) -> Corpus:
    documents = document_table(sample_documents())
    cut = chunk_documents(documents, tokenizer, max_tokens=256, overlap=24, min_characters=20)
    return Corpus(documents, cut, drop_exact_duplicates(cut)[0])
