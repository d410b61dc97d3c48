"""Every dataset: what is saved is loaded, what is half-written is refused, what a user gave stays."""

import json
import subprocess
import sys
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any

import pandas as pd
import plotly.graph_objects as go
import pytest
from kedro.io import DataCatalog, DatasetError

from ragsmith.datasets import (
    ArtefactDirectory,
    JSONDocument,
    ParquetTable,
    PlotlyFigure,
    SourceFolder,
    TextDocument,
    WorkDirectory,
)
from ragsmith.store import Provenance, recording

TABLE = pd.DataFrame({"query_id": ["q1", "q2"], "positive_ids": [["p1", "p2"], []], "grade": [1, 2]})


def finished_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "work"
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text('{"size": 384}')
    return folder


def samples(tmp_path: Path) -> dict[str, tuple[str, Any]]:
    return {
        "table": ("ParquetTable", TABLE),
        "document": ("JSONDocument", {"ndcg@10": {"mean": 0.5}}),
        "text": ("TextDocument", "<p>Grüße\r\n</p>"),
        "figure": ("PlotlyFigure", go.Figure(go.Bar(x=["a"], y=[1.0]), layout={"title": "t"})),
        "model": ("ArtefactDirectory", finished_folder(tmp_path)),
    }


KINDS = ["table", "document", "text", "figure", "model"]


@pytest.fixture
def catalog(tmp_path) -> DataCatalog:
    entries = {
        name: {"type": f"ragsmith.datasets.{kind}", "filepath": str(tmp_path / "data" / name)}
        for name, (kind, _) in samples(tmp_path).items()
    }
    return DataCatalog.from_config(entries)


def plain(value: Any) -> Any:
    if isinstance(value, pd.DataFrame):
        return value.to_dict("list")
    if isinstance(value, Path):
        return {path.name: path.read_text() for path in value.iterdir() if path.name != "_artefact.json"}
    return value.to_plotly_json() if isinstance(value, go.Figure) else value


@pytest.mark.parametrize("name", KINDS)
def test_what_is_saved_is_loaded_and_complete(catalog, tmp_path, name):
    data = samples(tmp_path)[name][1]
    dataset = catalog[name]
    assert not catalog.exists(name) and dataset.content_hash() is None
    catalog.save(name, data)
    assert catalog.exists(name) and plain(catalog.load(name)) == plain(data)
    assert len(dataset.content_hash()) == 64 and str(tmp_path) in dataset._describe()["filepath"]


@pytest.mark.parametrize("name", KINDS)
def test_same_content_has_the_same_hash_when_it_is_saved_again(catalog, tmp_path, name):
    data = samples(tmp_path)[name][1]
    catalog.save(name, data)
    first = catalog[name].content_hash()
    catalog.save(name, data)
    assert catalog[name].content_hash() == first


@pytest.mark.parametrize("name", KINDS)
def test_half_written_or_altered_artefact_is_not_there_and_loading_says_what_to_do(catalog, tmp_path, name):
    catalog.save(name, samples(tmp_path)[name][1])
    path = tmp_path / "data" / name
    file = path / "config.json" if path.is_dir() else path
    file.write_bytes(file.read_bytes()[:-1])
    assert not catalog.exists(name) and catalog[name].content_hash() is None
    with pytest.raises(DatasetError, match=rf"{file.name}\).*The same `kedro run` repairs it"):
        catalog.load(name)
    with pytest.raises(DatasetError, match="half-written or altered"):
        catalog[name].check()


@pytest.mark.parametrize("name", KINDS)
def test_file_of_the_users_in_the_place_of_an_output_stays(catalog, tmp_path, name):
    path = tmp_path / "data" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("mine")
    with pytest.raises(DatasetError, match="Move it away"):
        catalog[name].check_target()
    with pytest.raises(DatasetError, match="Move it away"):
        catalog.save(name, samples(tmp_path)[name][1])
    with pytest.raises(DatasetError, match="your own"):
        catalog.load(name)
    assert path.read_text() == "mine"


@pytest.mark.parametrize("name", KINDS)
def test_artefact_is_recognised_by_the_work_that_made_it(catalog, tmp_path, name):
    dataset = catalog[name]
    assert not dataset.recognises("f1")
    with recording(Provenance("step", "f1")):
        catalog.save(name, samples(tmp_path)[name][1])
    assert dataset.recognises("f1") and not dataset.recognises("f2")


@pytest.mark.parametrize("name", KINDS)
def test_dataset_is_picklable_and_gives_its_configuration_back(catalog, tmp_path, name):
    catalog.save(name, samples(tmp_path)[name][1])
    copy = ForkingPickler.loads(ForkingPickler.dumps(catalog[name]))
    assert plain(copy.load()) == plain(catalog.load(name))
    config = catalog.to_config()[0][name]
    assert config["filepath"] == str(tmp_path / "data" / name) and "args" not in config


@pytest.mark.parametrize(
    ("filepath", "reason"), [("s3://bucket/x", "comes with the cluster back end"), ("/project/~/x", "not expanded")]
)
@pytest.mark.parametrize("kind", [ParquetTable, ArtefactDirectory, WorkDirectory, SourceFolder])
def test_path_that_is_not_local_is_refused(kind, filepath, reason):
    with pytest.raises(DatasetError, match=reason):
        kind(filepath=filepath)


def test_list_columns_come_back_as_lists_of_strings_and_missing_ones_as_none(tmp_path):
    table = ParquetTable(filepath=str(tmp_path / "t.parquet"))
    frame = pd.DataFrame({"ids": [["a"], None, []], "pages": [[1, 2], [3], []]}, index=[7, 8, 9])
    table.save(frame)
    loaded = table.load()
    assert loaded["ids"].tolist() == [["a"], None, []] and loaded["pages"].tolist() == [[1, 2], [3], []]
    assert type(loaded["ids"][0]) is list and loaded.index.tolist() == [0, 1, 2]


def test_missing_columns_are_named_on_save_and_on_load(tmp_path):
    path = str(tmp_path / "t.parquet")
    strict = ParquetTable(filepath=path, columns=["query_id", "text", "kind"])
    with pytest.raises(
        DatasetError, match=r"lacks the columns text, kind on save; it has query_id, positive_ids, grade"
    ):
        strict.save(TABLE)
    assert not strict.exists()
    ParquetTable(filepath=path).save(TABLE)
    with pytest.raises(DatasetError, match="on load"):
        strict.load()
    ParquetTable(filepath=path, columns=["query_id"]).load()


def test_table_preview_is_json_of_the_first_rows_with_long_texts_cut(tmp_path):
    table = ParquetTable(filepath=str(tmp_path / "t.parquet"))
    table.save(pd.DataFrame({"text": ["x" * 1000, None, "c"], "ids": [["a"], [], ["b"]], "score": [0.5, None, 1.0]}))
    shown = json.loads(json.dumps(table.preview(nrows=2)))
    assert shown["columns"] == ["text", "ids", "score"] and len(shown["data"]) == 2
    assert shown["data"][0] == ["x" * 200, ["a"], 0.5] and shown["data"][1][2] is None


def test_empty_table_can_be_previewed_and_loaded(tmp_path):
    table = ParquetTable(filepath=str(tmp_path / "t.parquet"), columns=["query_id"])
    table.save(TABLE.iloc[:0])
    assert table.preview()["data"] == [] and len(table.load()) == 0


def test_previews_of_documents_and_figures_are_what_kedro_viz_expects(catalog, tmp_path):
    for name in ("document", "figure"):
        catalog.save(name, samples(tmp_path)[name][1])
    assert json.loads(catalog["document"].preview()) == {"ndcg@10": {"mean": 0.5}}
    assert catalog["figure"].preview()["data"][0]["type"] == "bar"
    kinds = {kind.preview.__annotations__["return"].__name__ for kind in (ParquetTable, JSONDocument, PlotlyFigure)}
    assert kinds == {"TablePreview", "JSONPreview", "PlotlyPreview"}


def test_document_that_is_no_json_is_refused_on_save(tmp_path):
    document = JSONDocument(filepath=str(tmp_path / "m.json"))
    for value in (float("nan"), object()):
        with pytest.raises(DatasetError, match=r"m\.json shall hold is no JSON"):
            document.save({"mean": value})
    assert list(tmp_path.iterdir()) == []


def test_directory_is_copied_and_its_source_stays(tmp_path):
    source = finished_folder(tmp_path)
    model = ArtefactDirectory(filepath=str(tmp_path / "model"))
    model.save(source)
    (source / "config.json").write_text("changed later")
    assert (model.load() / "config.json").read_text() == '{"size": 384}' and model.exists()


def test_directory_is_made_only_from_a_folder_that_lies_elsewhere(tmp_path):
    source = finished_folder(tmp_path)
    model = ArtefactDirectory(filepath=str(tmp_path / "model"))
    with pytest.raises(DatasetError, match="path of a finished folder"):
        model.save(tmp_path / "missing")
    model.save(source)
    with pytest.raises(DatasetError, match="overlaps"):
        model.save(model.load())
    with pytest.raises(DatasetError, match="overlaps"):
        ArtefactDirectory(filepath=str(source / "inner")).save(source)


def test_work_folder_is_made_when_loaded_and_never_saved(tmp_path):
    work = WorkDirectory(filepath=str(tmp_path / "a" / "work"))
    assert not work.exists() and work.load().is_dir() and work.exists()
    assert work.content_hash() is None and ForkingPickler.loads(ForkingPickler.dumps(work)).exists()
    with pytest.raises(DatasetError, match="take it as an input"):
        work.save(tmp_path)


def test_source_folder_is_read_and_never_written(tmp_path):
    folder = finished_folder(tmp_path)
    source = SourceFolder(filepath=str(folder))
    before = source.content_hash()
    assert source.load() == folder and source.exists()
    (folder / "new.txt").write_text("x")
    assert source.content_hash() != before
    with pytest.raises(DatasetError, match="never written"):
        source.save(tmp_path)


def test_missing_source_folder_is_an_error_unless_it_is_optional(tmp_path):
    missing = str(tmp_path / "missing")
    source, optional = SourceFolder(filepath=missing), SourceFolder(filepath=missing, optional=True)
    with pytest.raises(DatasetError, match="There is no folder"):
        source.load()
    assert not source.exists() and source.content_hash() is None
    assert optional.load() == Path(missing) and optional.exists() and optional.content_hash() is not None
    (tmp_path / "missing").write_text("x")
    with pytest.raises(DatasetError, match="is a file"):
        optional.check()


def test_text_keeps_its_line_ends(tmp_path):
    text = TextDocument(filepath=str(tmp_path / "t.txt"))
    text.save("a\r\nb\n")
    assert text.load() == "a\r\nb\n"


def test_importing_the_datasets_imports_no_heavy_library():
    heavy = "{'pandas', 'pyarrow', 'plotly', 'torch', 'numpy'} & set(sys.modules)"
    code = f"import sys, kedro.io; before = {heavy}; import ragsmith.datasets; print({heavy} - before)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "set()"
