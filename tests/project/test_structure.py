"""Configuration and code fit together, in every environment, without running anything."""

import graphlib
import re
from collections import Counter
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
import yaml
from annotated_types import Ge, Gt, Le
from kedro.framework.project import pipelines
from kedro.framework.startup import bootstrap_project
from kedro.io import MemoryDataset
from kedro.io.core import is_parameter
from kedro.pipeline import Pipeline
from kedro.validation import TypeExtractor
from pydantic import BaseModel

from ragsmith.datasets import ModelSource, SourceFolder, WorkDirectory
from ragsmith.faults import parameter_faults, unknown_globals, unknown_parameters, unknown_pipelines
from ragsmith.pipelines import parameter_page
from ragsmith.session import RagsmithSession

ROOT = Path(__file__).parents[2]
ENVIRONMENTS = ["base", "test", "gpu", "cluster"]
STAGES = [
    "data_collection",
    "query_generation",
    "negative_mining",
    "retriever_training",
    "rag_training",
    "evaluation",
    "serving",
]
# `bundle` lies with the models and holds the metrics; layers that form a circle are not drawn at all.
LAYERS = ["raw", "intermediate", "primary", "feature", "model_input", "models", "model_output", "reporting", "serving"]
HEAVY = ["torch", "transformers", "sentence_transformers", "faiss", "datasets", "sklearn", "plotly", "bm25s"]
PRINT_HEAVY = f"""
import atexit, sys
atexit.register(lambda: print("HEAVY", sorted(set(sys.modules) & set({HEAVY}))))
from kedro.framework.cli import main
main()
"""


@pytest.fixture(autouse=True)
def bootstrapped() -> None:
    """Tests of sessions point Kedro at projects of their own."""
    bootstrap_project(ROOT)
    pipelines.set_requested(None)


@pytest.fixture(params=ENVIRONMENTS)
def context(request) -> Any:
    return RagsmithSession.create(ROOT, env=request.param, save_on_close=False).load_context()


def read_yaml(path: Path) -> dict[str, Any]:
    return yaml.safe_load(path.read_text("utf-8")) or {}


def catalog_entries() -> dict[str, dict[str, Any]]:
    files = sorted((ROOT / "conf/base").glob("catalog*.yml"))
    return {name: entry for file in files for name, entry in read_yaml(file).items()}


def leaves(values: dict[str, Any], above: str = "") -> list[str]:
    """The dotted paths of all values that are no mapping."""
    found = []
    for key, value in values.items():
        nested = isinstance(value, dict) and value
        found += leaves(value, f"{above}{key}.") if nested else [f"{above}{key}"]
    return found


def fields(model: type[BaseModel], above: str) -> list[str]:
    """The dotted paths of all fields of a model and of the models in it."""
    found = []
    for name, field in model.model_fields.items():
        nested = isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
        found += fields(field.annotation, f"{above}.{name}") if nested else [f"{above}.{name}"]
    return found


def named(datasets: set[str]) -> set[str]:
    return {name for name in datasets if not is_parameter(name)}


def test_environments_tested_here_are_those_that_exist():
    there = {path.name for path in (ROOT / "conf").iterdir() if path.is_dir()} - {"local", "recipes"}
    assert there == set(ENVIRONMENTS)


def test_every_dataset_that_a_pipeline_names_is_declared_and_can_be_made(context):
    catalog = context.catalog  # made anew each time that it is asked for
    for name in sorted(set().union(*(pipeline.datasets() for pipeline in pipelines.values()))):
        assert name in catalog, name
        dataset = catalog.get(name)
        assert is_parameter(name) or not isinstance(dataset, MemoryDataset), name


def test_parameters_and_globals_of_every_environment_are_valid(context):
    loader = context.config_loader
    raw = loader["parameters"]
    assert parameter_faults(loader, raw, pipelines) + unknown_parameters(loader, raw) + unknown_globals(loader) == []


def test_every_step_is_given_its_parameters_as_a_model():
    for node in pipelines["__default__"].nodes:
        typed = TypeExtractor({node.name: Pipeline([node])}).extract_types_from_pipelines()
        used = {name.removeprefix("params:") for name in node.inputs if name.startswith("params:")}
        assert {name for name, model in typed.items() if issubclass(model, BaseModel)} == used, node.name


def test_each_field_of_a_model_stands_in_the_yaml_of_the_base_and_each_key_there_is_a_field():
    typed = TypeExtractor(dict(pipelines)).extract_types_from_pipelines()
    known = [path for name, model in typed.items() for path in fields(model, name)]
    files = sorted((ROOT / "conf/base").glob("parameters*.yml"))
    written = [path for file in files for path in leaves(read_yaml(file))]
    assert sorted(written) == sorted(known)


def test_page_of_parameters_is_what_the_models_and_the_base_say():
    """`python -m ragsmith.pipelines.parameter_page > docs/parameters.md` writes it."""
    page = parameter_page.main(ROOT)
    assert page == (ROOT / "docs/parameters.md").read_text("utf-8")
    typed = TypeExtractor(dict(pipelines)).extract_types_from_pipelines()
    for name, model in typed.items():
        part = page.split(f"## {name}\n")[1].split("\n## ")[0]
        for path in fields(model, name):
            assert f"| `{path.removeprefix(name + '.')}` |" in part
    assert page.count("||") == 0 and all(
        line.count(" | ") >= 2 for line in page.splitlines() if line.startswith("| `")
    )


@pytest.mark.parametrize(
    ("annotation", "metadata", "said"),
    [
        (Literal["a", False], (), "`a`, `false`"),
        (float | None, (Gt(0), Le(1)), "a number above 0 to 1 or `null`"),
        (list[int], (), "a list of: a whole number"),
        (float | Literal["auto"] | None, (), "a number or `auto` or `null`"),
        (Annotated[int, Ge(2)], (), "a whole number from 2"),
        (bool, (Ge(0),), "`true`, `false`"),
    ],
)
def test_what_a_parameter_may_be_is_said_in_words(annotation, metadata, said):
    assert parameter_page.allowed(annotation, metadata) == said


def test_each_parameter_file_holds_the_pipeline_that_it_is_named_after():
    for stage in STAGES:
        assert list(read_yaml(ROOT / f"conf/base/parameters_{stage}.yml")) == [stage]


def test_each_global_value_is_used_by_the_base():
    text = "".join(file.read_text("utf-8") for file in (ROOT / "conf/base").glob("[pc]*.yml"))
    used = set(re.findall(r"\$\{globals:([\w.]+)", text))
    assert set(leaves(read_yaml(ROOT / "conf/base/globals.yml"))) == used


def test_no_entry_of_the_catalog_is_left_over():
    used = named(set().union(*(pipeline.datasets() for pipeline in pipelines.values())))
    assert sorted(catalog_entries()) == sorted(used)


def test_no_two_entries_share_a_path_and_no_two_steps_a_name():
    paths = Counter(entry["filepath"] for entry in catalog_entries().values() if "filepath" in entry)
    steps = Counter(node.name for stage in STAGES for node in pipelines[stage].nodes)
    assert [name for name, count in (paths + steps).items() if count > 1] == []


def test_each_file_lies_in_a_folder_of_kedros_layers_and_each_entry_is_drawn_in_a_layer():
    for name, entry in catalog_entries().items():
        assert entry["metadata"]["kedro-viz"]["layer"] in LAYERS, name
        if "filepath" in entry and not entry["type"].endswith(".SourceFolder"):
            assert re.match(r"\$\{globals:paths\.data\}/0[2-8]_\w+/", entry["filepath"]), name


@pytest.mark.parametrize("name", ["__default__", *STAGES, "prepare", "train"])
def test_layers_form_no_circle_for_kedro_viz_would_draw_none(name):
    layer = {entry: values["metadata"]["kedro-viz"]["layer"] for entry, values in catalog_entries().items()}
    graph: dict[str, set[str]] = {each: set() for each in LAYERS}
    for node in pipelines[name].nodes:
        for output in node.outputs:
            sources = {layer[source] for source in named(set(node.inputs))}
            graph[layer[output]] |= sources - {layer[output]}
    order = list(graphlib.TopologicalSorter(graph).static_order())
    assert sorted(order) == sorted(LAYERS)


def test_what_a_pipeline_reads_is_made_by_another_or_comes_from_outside():
    everything = pipelines["__default__"]
    entries = RagsmithSession.create(ROOT, env="test", save_on_close=False).load_context().catalog
    outside = named(everything.inputs())
    assert all(isinstance(entries.get(name), ModelSource | SourceFolder | WorkDirectory) for name in outside)
    for stage in STAGES:
        assert named(pipelines[stage].inputs()) <= outside | everything.all_outputs(), stage


def test_default_run_is_the_seven_pipelines_each_step_once():
    steps = [node.name for stage in STAGES for node in pipelines[stage].nodes]
    assert sorted(steps) == sorted(node.name for node in pipelines["__default__"].nodes)
    assert set(pipelines) == {"__default__", *STAGES, "prepare", "train", "end_to_end"}


@pytest.mark.parametrize("name", [*STAGES, "prepare", "train", "end_to_end"])
def test_each_pipeline_and_composite_is_found_by_its_name_alone(name):
    pipelines.set_requested([name])  # as `kedro run --pipelines NAME` does; a registry that looks for folders fails
    assert pipelines[name].nodes
    assert unknown_pipelines({"pipeline_names": [name]}) == []


def test_each_step_bears_the_tag_of_its_pipeline():
    assert all(node.tags == {stage} for stage in STAGES for node in pipelines[stage].nodes)


@pytest.mark.parametrize("command", [["--help"], ["run", "--help"], ["registry", "list"]], ids=" ".join)
def test_commands_that_compute_nothing_import_no_heavy_library(project, command):
    done = project.python("-c", PRINT_HEAVY, *command)
    assert done.returncode == 0 and "HEAVY []" in done.stdout, done.stdout
