"""What a reader's passages come from."""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd


@dataclass(frozen=True)
class KnowledgeBase:
    """What is searched: the retriever's folder, its index's folder, and the passages (passage_id, title, text)."""

    retriever: Path
    index: Path
    passages: pd.DataFrame
