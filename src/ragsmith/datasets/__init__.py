"""Kedro datasets: artefacts that are whole or not there, and inputs that are never written."""

from ragsmith.datasets.artefact import ArtefactDataset
from ragsmith.datasets.artefact_directory import ArtefactDirectory
from ragsmith.datasets.json_document import JSONDocument
from ragsmith.datasets.model_source import ModelSource
from ragsmith.datasets.parquet_table import ParquetTable
from ragsmith.datasets.plotly_figure import PlotlyFigure
from ragsmith.datasets.source_folder import SourceFolder
from ragsmith.datasets.text_document import TextDocument
from ragsmith.datasets.work_directory import WorkDirectory

__all__ = [
    "ArtefactDataset",
    "ArtefactDirectory",
    "JSONDocument",
    "ModelSource",
    "ParquetTable",
    "PlotlyFigure",
    "SourceFolder",
    "TextDocument",
    "WorkDirectory",
]
