"""Equal values and equal code have equal hashes; others have not."""

import dataclasses
import enum
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import BaseModel, SecretStr

from ragsmith.store import hash_code, hash_json


class Params(BaseModel):
    rate: float = 2e-5
    folder: Path = Path("a/b")
    key: SecretStr = SecretStr("one")


def test_order_of_keys_and_kind_of_container_make_no_difference():
    assert hash_json({"a": 1, "b": [1, 2]}) == hash_json({"b": (1, 2), "a": 1})
    assert hash_json({3, 1, 2}) == hash_json({2, 3, 1})


def test_model_hashes_as_its_dictionary_and_not_by_its_secret():
    assert hash_json(Params()) == hash_json({"rate": 0.00002, "folder": "a/b", "key": "secret"})
    assert hash_json(Params(key=SecretStr("two"))) == hash_json(Params())
    assert hash_json(Params(rate=3e-5)) != hash_json(Params())


@pytest.mark.parametrize(("one", "other"), [(1, 1.5), (True, "True"), (None, "None"), ([], {}), (0.1 + 0.2, 0.3)])
def test_different_values_have_different_hashes(one, other):
    assert hash_json(one) != hash_json(other)


def test_dataclass_and_enumeration_have_canonical_forms():
    @dataclasses.dataclass
    class Point:
        x: int

    class Kind(enum.StrEnum):
        GOLD = "gold"

    assert hash_json([Point(1), Kind.GOLD]) == hash_json([{"x": 1}, "gold"])


def test_value_without_canonical_form_is_named_with_its_place():
    with pytest.raises(TypeError, match=r"value\.steps\[1\] is a object"):
        hash_json({"steps": [1, object()]})


def test_hash_is_the_same_in_another_process():
    code = "from ragsmith.store import hash_json; print(hash_json({'a': {'x', 'y', 'z'}, 'b': 0.1}))"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert other.stdout.strip() == hash_json({"a": {"x", "y", "z"}, "b": 0.1})


def test_code_hash_sees_contents_and_names_but_not_place_line_ends_and_other_files(tmp_path):
    def package(place: str, name: str = "mine.py", text: bytes = b"a = 1\n") -> Path:
        folder = tmp_path / place / "package"
        (folder / "__pycache__").mkdir(parents=True)
        (folder / name).write_bytes(text)
        (folder / "__pycache__" / "mine.py").write_text(place)
        (folder / "notes.md").write_text(place)
        return folder

    base = hash_code([package("one")])
    assert hash_code([package("two", text=b"a = 1\r\n")]) == base
    assert hash_code([package("three", text=b"a = 2\n")]) != base
    assert hash_code([package("four", name="other.py")]) != base
    with pytest.raises(FileNotFoundError, match="No code at"):
        hash_code([tmp_path / "missing"])
