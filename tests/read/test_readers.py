import json
from pathlib import Path

import pytest
from tiny_generators import saved_reader

from ragsmith.read.causal import CausalReader
from ragsmith.read.extractive import ExtractiveReader
from ragsmith.read.readers import READERS, Reader, load_reader, reader_kind
from ragsmith.read.seq2seq import Seq2SeqReader
from ragsmith.retrieve.models import ModelError


@pytest.mark.parametrize("kind", READERS[1:])
def test_saved_reader_is_loaded_as_what_it_was(kind, machine, found, tmp_path):
    folder = saved_reader(kind, tmp_path)
    reader: Reader = load_reader(folder, machine)
    assert reader_kind(folder) == kind == reader.settings.kind
    assert type(reader) is (CausalReader if kind == "causal" else Seq2SeqReader)
    (answer,) = reader.answer_all(["How?"], [found])
    assert answer == reader.answer("How?", found) == reader.read_all(["How?"], [found], (3,))[0].of_first[3]
    assert answer.passage_id in {"p1", "p2", "p3"}


def test_reader_without_a_kind_is_extractive(reader, machine, found, tmp_path):
    reader.save(tmp_path)
    assert "kind" not in json.loads((tmp_path / "reader.json").read_text())
    loaded = load_reader(tmp_path, machine)
    assert type(loaded) is ExtractiveReader and loaded.settings == reader.settings
    assert loaded.answer("How?", found) == reader.answer("How?", found)


def test_every_kind_has_a_prior_weight_that_can_be_read(reader, machine, tmp_path):
    readers: list[Reader] = [reader, *(load_reader(saved_reader(kind, tmp_path), machine) for kind in READERS[1:])]
    assert [one.settings.prior_weight for one in readers] == [0.0, 2.0, 2.0, 2.0, 2.0]


def test_unknown_kind_is_refused_with_the_choices(tmp_path):
    (tmp_path / "reader.json").write_text('{"kind": "rag"}')
    with pytest.raises(
        ModelError, match=r"names a reader 'rag'. There are: extractive, rag_token, rag_sequence, fid, causal"
    ):
        load_reader(tmp_path)


@pytest.mark.parametrize("text", ["{", "[]", "\xff", pytest.param("[" * 100_000, id="nested")])
def test_damaged_settings_are_refused(text, tmp_path):
    (tmp_path / "reader.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(ModelError, match=r"reader\.json is damaged"):
        load_reader(tmp_path)


def test_folder_without_a_reader_is_refused_with_the_command(tiny_model: Path):
    with pytest.raises(ModelError, match=r"holds no reader: reader\.json is not there\. Run: kedro run"):
        load_reader(tiny_model)
