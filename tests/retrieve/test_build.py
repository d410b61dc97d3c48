import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ragsmith.compute.device import Machine
from ragsmith.retrieve.build import build_index, load_index
from ragsmith.retrieve.encoder import Encoder
from ragsmith.retrieve.index import DenseIndex, IndexSettings
from ragsmith.retrieve.models import model_hash, resolve_model

PASSAGES = pd.DataFrame(
    {"passage_id": ["p1", "p2"], "title": ["A", "Guide > B"], "text": ["A\n\nLong text of a." * 9, "Short."]}
)


def test_an_index_holds_each_passage_with_its_title_and_names_its_model(
    tiny_model: Path, tiny_encoder: Encoder, tmp_path: Path
) -> None:
    (tmp_path / "index").mkdir()
    (tmp_path / "index" / "left over").touch()
    folder = build_index(tiny_model, PASSAGES, Machine("cpu", "fp32"), 512, tmp_path, "index")
    assert sorted(path.name for path in folder.iterdir()) == ["index.json", "vectors.npy"]
    index = DenseIndex.load(folder)
    assert index.passage_ids == ["p1", "p2"]
    expected = tiny_encoder.encode([PASSAGES["text"][0], "Guide > B\nShort."], "passage")
    np.testing.assert_allclose(index.vectors, expected, atol=1e-5)
    assert json.loads((folder / "index.json").read_text("utf-8"))["model"] == model_hash(str(tiny_model))


def test_the_kind_is_chosen_by_the_number_of_passages(tiny_model: Path, tmp_path: Path) -> None:
    machine, kinds = Machine("cpu", "fp32"), []
    for flat_up_to in (2, 1):
        settings = IndexSettings(flat_up_to=flat_up_to)
        folder = build_index(tiny_model, PASSAGES, machine, 512, tmp_path, "index", settings)
        kinds.append(DenseIndex.load(folder).kind)
    assert kinds == ["flat", "hnsw"]
    assert (folder / "hnsw_neighbors.npy").is_file()
    assert DenseIndex.load(folder).run(["q"], DenseIndex.load(folder).vectors[1:], 2)["passage_id"][0] == "p2"


def test_an_index_is_opened_with_the_model_that_made_it_and_with_no_other(tiny_model: Path, tmp_path: Path) -> None:
    other = resolve_model("random:bert-1x64")
    folder = build_index(tiny_model, PASSAGES, Machine("cpu", "fp32"), 512, tmp_path, "index")
    assert load_index(folder, tiny_model).vectors.shape == (2, 64)  # as long as the other model's
    with pytest.raises(ValueError, match=r"made by another model than .*random-bert-1x64, which encodes the queries"):
        load_index(folder, other)
    (folder / "index.json").write_text("{}", "utf-8")
    with pytest.raises(ValueError, match="is no description of an index"):
        load_index(folder, tiny_model)
