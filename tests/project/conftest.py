"""Copies of the project in folders of their own, and one whole run that most of these tests look at."""

import itertools
import json
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ragsmith.store import hash_json, is_complete, read_metadata

ROOT = Path(__file__).parents[2]
PARTS = ("conf", "src", "notebooks", "pyproject.toml", "README.md", "LICENSE", ".telemetry")
RUN = ("run", "--env", "test")
# Two that tell when the models and they themselves were made.
TIMED = ("08_reporting/metrics.json", "08_reporting/report.html")
MADE_AT = re.compile(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d")


@dataclass
class Project:
    """A copy of the project, and its commands as a person gives them."""

    folder: Path

    @property
    def data(self) -> Path:
        return self.folder / "data/test"

    def environment(self, **more: str) -> dict[str, str]:
        """This process's variables, with an empty home and the copy's own code."""
        home = self.folder / "home"
        home.mkdir(exist_ok=True)
        kept = {key: value for key, value in os.environ.items() if not key.startswith("KEDRO_ENV")}
        # With more threads than free processors, tiny models take ten times as long.
        own = {"HOME": str(home), "PYTHONPATH": str(self.folder / "src"), "COLUMNS": "200", "OMP_NUM_THREADS": "1"}
        return kept | own | more

    def python(self, *arguments: str, timeout: float = 600, **variables: str) -> "subprocess.CompletedProcess[str]":
        """Run the interpreter in the copy; stdout and stderr come as one text."""
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=self.folder,
            env=self.environment(**variables),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout,
        )

    def kedro(self, *arguments: str, **options: Any) -> "subprocess.CompletedProcess[str]":
        return self.python("-m", "kedro", *arguments, **options)

    def run(self, *more: str) -> str:
        """`kedro run --env test …` to its good end; its output."""
        done = self.kedro(*RUN, *more)
        assert done.returncode == 0, done.stdout
        return done.stdout

    def start(self) -> "subprocess.Popen[str]":
        """The same run in a process group of its own, to be killed."""
        log = (self.folder / "killed.log").open("w")
        with log:
            return subprocess.Popen(
                [sys.executable, "-m", "kedro", *RUN],
                cwd=self.folder,
                env=self.environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
            )

    def warns_of_the_reader_alone(self, log: str) -> bool:
        """Whether all that a run's output warns of is that its reader, tiny and untrained before, answers nothing."""
        warnings = re.findall(r"^\S+ WARNING +(.*)", log, re.MULTILINE)
        return len(warnings) == 1 and warnings[0].startswith("What ships has a dev em of 0, on 18 questions")

    def metrics(self) -> dict[str, Any]:
        return json.loads((self.data / "08_reporting/metrics.json").read_text("utf-8"))

    def artefacts(self) -> dict[str, str]:
        """Content hash of each artefact that counts as whole, by its path, without work folders and history.

        Of those that tell when they were made, the rest is hashed.
        """
        found = {}
        for metadata in self.data.rglob("*"):
            if metadata.name == "_artefact.json":
                artefact = metadata.parent
            elif metadata.name.startswith(".") and metadata.name.endswith(".meta.json"):
                artefact = metadata.with_name(metadata.name[1 : -len(".meta.json")])
            else:
                continue
            name = artefact.relative_to(self.data).as_posix()
            kept = name.startswith("08_reporting/history/")  # named by the time of the run
            if not kept and ".work" not in name and ".staging-" not in str(artefact.parent) and is_complete(artefact):
                text = artefact.read_text("utf-8") if name in TIMED else ""
                found[name] = hash_json(MADE_AT.sub("", text)) if text else read_metadata(artefact).content_hash
        return found


@dataclass
class FinishedProject(Project):
    """A copy in which a whole run has ended; not to be changed: `finished_copy` is."""

    log: str = ""
    processor_seconds: float = 0.0


@pytest.fixture(scope="session")
def new_project() -> Iterator[Callable[[], Project]]:
    """Make another copy of the project, without any data."""
    with tempfile.TemporaryDirectory(prefix="ragsmith-projects-") as place:
        # All copies are of one moment: who edits the code while the tests run changes none of them.
        numbers, first = itertools.count(), Path(place) / "first"
        first.mkdir()
        for source in (ROOT / part for part in PARTS):
            if source.is_dir():
                unwanted = shutil.ignore_patterns("__pycache__", "*.egg-info", ".ipynb_checkpoints", "local")
                shutil.copytree(source, first / source.name, ignore=unwanted)
            elif source.exists():
                shutil.copy(source, first)

        def make() -> Project:
            return Project(Path(shutil.copytree(first, Path(place) / f"copy-{next(numbers)}")))

        yield make


@pytest.fixture
def project(new_project) -> Iterator[Project]:
    """A copy of the project, without any data."""
    project = new_project()
    yield project
    shutil.rmtree(project.folder)  # the data of all copies together would be gigabytes


@pytest.fixture(scope="session")
def finished(new_project) -> FinishedProject:
    """A copy in which one whole, undisturbed run has ended."""
    project = FinishedProject(new_project().folder)
    begun = processor_seconds()
    project.log = project.run()
    project.processor_seconds = processor_seconds() - begun
    return project


def processor_seconds() -> float:
    """What child processes that have ended took; time on the clock would depend on what else the machine does."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@pytest.fixture(scope="session")
def spent() -> Callable[[], float]:
    """`processor_seconds`, for tests: they cannot import it from here."""
    return processor_seconds


@pytest.fixture
def finished_copy(finished, project) -> Project:
    """A project of the test's own in which a run has ended."""
    shutil.copytree(finished.folder / "data", project.folder / "data", ignore=shutil.ignore_patterns(".work"))
    return project
