"""The wheel alone is enough: it runs from an empty folder that holds nothing but the configuration."""

import shutil
import sys
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow


@pytest.fixture
def wheel(project) -> Path:
    """The wheel, built offline with the setuptools that is installed."""
    done = project.python("-m", "build", "--wheel", "--no-isolation", "--outdir", "dist")
    assert done.returncode == 0, done.stdout
    return next((project.folder / "dist").glob("ragsmith-*.whl"))


def test_wheel_holds_code_templates_and_questions_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    for needed in ("__main__.py", "py.typed", "collect/sample_questions.jsonl", "evaluate/templates/report.html.j2"):
        assert f"ragsmith/{needed}" in names
    assert [name for name in names if not name.startswith(("ragsmith/", "ragsmith-"))] == []


def test_packaged_project_runs_from_an_empty_folder(wheel, new_project, tmp_path):
    elsewhere = new_project()  # for its variables; what was copied goes
    conf = shutil.move(elsewhere.folder / "conf", tmp_path / "conf")
    for path in elsewhere.folder.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    shutil.unpack_archive(wheel, tmp_path / "installed", format="zip")

    command = ["-m", "ragsmith", "--conf-source", str(conf), "--env", "test", "--pipelines", "data_collection"]
    done = elsewhere.python(*command, PYTHONPATH=str(tmp_path / "installed"))
    assert done.returncode == 0, done.stdout
    assert (elsewhere.data / "03_primary/passages.parquet").is_file()
    assert "03_primary/gold.parquet" in elsewhere.artefacts()
    where = elsewhere.python("-c", "import ragsmith; print(ragsmith.__file__)", PYTHONPATH=str(tmp_path / "installed"))
    assert Path(where.stdout.strip()).is_relative_to(tmp_path / "installed"), sys.path
