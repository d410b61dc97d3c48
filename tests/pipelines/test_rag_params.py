"""What the parameters of rag_training take, mean and refuse."""

from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from ragsmith.compute.device import Machine
from ragsmith.learn.loop import LoopSettings
from ragsmith.learn.lora import LoraSettings
from ragsmith.pipelines.data_collection.params import DataCollectionParams
from ragsmith.pipelines.negative_mining.params import NegativeMiningParams
from ragsmith.pipelines.rag_training.params import RagTrainingParams
from ragsmith.pipelines.retriever_training.params import RetrieverTrainingParams
from ragsmith.read.live_index import RefreshSettings
from ragsmith.read.new_reader import new_reader
from ragsmith.read.rag_settings import RagSettings
from ragsmith.retrieve.models import resolve_model

CONF = Path(__file__).parents[2] / "conf"


def params(**values) -> RagTrainingParams:
    return RagTrainingParams.model_validate(values)


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        ("joint_train", "fine_tune"),
        ("joint_train_from_scratch", "from_scratch"),
        ("scratch", "from_scratch"),
        ("retriever", "retriever_only"),
        ("e2e", "end2end"),
        *[(mode, mode) for mode in ("fine_tune", "from_scratch", "retriever_only", "end2end")],
    ],
)
def test_modes_go_by_their_own_and_by_others_names(name, mode):
    assert params(mode=name).mode == mode


@pytest.mark.parametrize(
    ("key", "value", "choices"),
    [
        ("mode", "end_to_end", "'fine_tune', 'end2end', 'from_scratch' or 'retriever_only'"),
        ("mode", ["end2end"], "'fine_tune', 'end2end', 'from_scratch' or 'retriever_only'"),
        ("reader", "t5", "'extractive', 'rag_token', 'rag_sequence', 'fid' or 'causal'"),
        ("objective", "realm", "'auto', 'none', 'marginal', 'emdr2' or 'pdist'"),
        ("schedule", "step", "'cosine', 'linear', 'polynomial' or 'constant'"),
        ("encoders", "passages", "'auto', 'none', 'questions' or 'both'"),
        ("search", "sparse", "'auto', 'dense', 'bm25' or 'hybrid'"),
    ],
)
def test_unknown_choice_is_answered_with_the_choices(key, value, choices):
    with pytest.raises(ValidationError, match=choices):
        params(**{key: value})


@pytest.mark.parametrize("mode", ["end2end", "from_scratch"])
@pytest.mark.parametrize(
    ("reader", "objective"),
    [("extractive", "marginal"), ("rag_token", "marginal"), ("rag_sequence", "marginal"), ("fid", "emdr2"),
     ("causal", "emdr2")],
)  # fmt: skip
def test_auto_is_the_marginal_unless_the_reader_sees_all_passages_at_once(mode, reader, objective):
    assert params(mode=mode, reader=reader).taught() == objective


@pytest.mark.parametrize(
    ("mode", "encoders"),
    [("fine_tune", "none"), ("end2end", "both"), ("from_scratch", "both"), ("retriever_only", "both")],
)
def test_auto_moves_both_encoders_unless_the_reader_alone_is_tuned(mode, encoders):
    assert params(mode=mode).trained() == encoders
    assert {params(mode=mode, encoders=one).trained() for one in ("questions", "both")} == {"questions", "both"}


def test_questions_that_are_trained_beside_a_fine_tuned_reader_have_its_objective():
    assert params(mode="fine_tune", reader="rag_token", encoders="questions").taught() == "marginal"
    assert params(mode="fine_tune", reader="fid", encoders="questions").taught() == "emdr2"


def test_auto_teaches_nothing_where_no_reader_is_trained_or_no_retriever():
    assert params(mode="fine_tune").taught() == "none" == params(mode="retriever_only").taught()
    assert params(mode="fine_tune", objective="none").taught() == "none"
    assert params(mode="retriever_only", objective="pdist").taught() == "pdist"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"mode": "end2end", "reader": "fid", "objective": "marginal"}, "would learn nothing. Set objective to emdr2"),
        ({"mode": "end2end", "reader": "causal", "objective": "marginal"}, "would learn nothing"),
        ({"label_smoothing": 0.1}, "label_smoothing is for readers that write"),
        ({"lora": {"rank": 4}}, "lora.rank is for readers that write"),
        ({"reader": "fid", "candidates": 5}, "candidates is for spans; reader is fid"),
        ({"candidates": 0}, "greater than or equal to 1"),
        ({"dropout": 1.0}, "dropout is 1.0: it must be a share"),
        ({"dropout": -0.1}, "dropout is -0.1: it must be a share"),
        ({"dropout": "none"}, "'auto'"),
        ({"random_weights": True}, "random_weights is for mode from_scratch; mode is fine_tune"),
        ({"mode": "retriever_only", "contrastive_weight": 0}, "Nothing teaches the retriever"),
        ({"mode": "retriever_only", "objective": "none", "contrastive_weight": 0}, "Nothing teaches the retriever"),
        ({"mode": "end2end", "objective": "none", "contrastive_weight": 0}, "Nothing teaches the retriever"),
        ({"mode": "retriever_only", "retriever_after": 5}, "retriever_after is 5 and mode is retriever_only"),
        ({"mode": "retriever_only", "encoders": "none"}, "encoders is none and mode is retriever_only"),
        ({"encoders": "questions", "objective": "none", "contrastive_weight": 0}, "Nothing teaches the retriever"),
        ({"encoders": "questions", "reader": "fid", "objective": "marginal"}, "would learn nothing"),
        ({"reader": "fid", "template": "{question}"}, "template must hold"),
        ({"reader": "fid", "template": "{question} {passage} {passage}"}, "template must hold"),
        (
            {"template": "{question} {passage}"},
            "template is for readers that write their answer; reader is extractive",
        ),
        ({"num_beams": 4}, "num_beams is for readers that write their answer; reader is extractive"),
        ({"reader": "fid", "prior_weights": [0.0]}, "prior_weights is for spans; reader is fid"),
        ({"mode": "end2end", "encoders": "none"}, "encoders is none and mode is end2end, which trains the retriever"),
        ({"mode": "e2e", "reader": "rag_token", "encoders": "none"}, "Set mode to fine_tune, or encoders to"),
        ({"mode": "from_scratch", "encoders": "none"}, "encoders is none and mode is from_scratch"),
        ({"objective": "pdist"}, "objective is pdist, and with mode fine_tune and encoders auto no retriever learns"),
        ({"reader": "fid", "objective": "marginal"}, "objective is marginal, and with mode fine_tune"),
        ({"refresh": {"every": 500}}, r"refresh\.every is set, and passages keep their vectors with mode fine_tune"),
        ({"refresh": {"background": "ray"}}, r"refresh\.background is set, .* Leave it out, or set encoders to both"),
        ({"encoders": "questions", "refresh": {"lag": 3}}, r"refresh\.lag is set, .*encoders questions"),
        ({"max_answer_tokens": 1_000_000}, "less than or equal to 4096"),
        ({"seed": 2**32}, "less than or equal to 4294967295"),
        ({"prior_weights": [float("nan")]}, "finite number"),
        ({"temperature": float("inf")}, "finite number"),
        ({"contrastive_weight": float("inf")}, "finite number"),
        ({"dropout": float("nan")}, "finite number"),
        ({"mode": "end2end", "refresh": {"budget": float("inf")}}, "finite number"),
        ({"refresh": {"probe_every": 0}}, "greater than or equal to 1"),
        ({"refresh": {"evry": 5}}, "not permitted"),
        ({"refresh": {"background": "thread"}}, "False, 'process' or 'ray'"),
        ({"refresh": {"timeout": 0}}, "greater than 0"),
        ({"temperature": 0}, "greater than 0"),
    ],
)
def test_what_would_be_without_effect_or_without_a_teacher_is_refused(values, message):
    with pytest.raises(ValidationError, match=message):
        params(**values)


@pytest.mark.parametrize(
    "values",
    [
        {"mode": "fine_tune", "objective": "none", "encoders": "none", "refresh": {"every": 0}},  # as by itself
        {"reader": "rag_token", "num_beams": 4, "template": "{passage} {question}", "lora": {"rank": 2}},
        {"reader": "fid", "prior_weights": [0.0, 5.0, 10.0, 20.0, 40.0, 80.0], "candidates": 1},
        {"mode": "fine_tune", "encoders": "both", "objective": "pdist", "refresh": {"every": 500}},
        {"seed": 2**32 - 1, "max_answer_tokens": 4096, "prior_weights": [0.0]},
        {"mode": "end2end", "objective": "none", "contrastive_weight": 0.5},
        {"mode": "retriever_only", "objective": "emdr2", "contrastive_weight": 0},
        {"mode": "from_scratch", "random_weights": True},
        {"mode": "end2end", "reader": "causal", "lora": {"rank": 8, "targets": ["q_proj"]}},
    ],
)
def test_what_has_a_teacher_is_taken(values):
    params(**values)


def test_every_parameter_stands_in_the_configuration_with_its_default():
    """Those that globals.yml sets are left out; a key that no file names would be found by nobody."""
    file = CONF / "base/parameters_rag_training.yml"
    written = yaml.safe_load(file.read_text("utf-8"))["rag_training"]
    assert set(written) == set(RagTrainingParams.model_fields)
    own = {key: value for key, value in written.items() if not str(value).startswith("${")}
    found, default = params(**own).model_dump(), params().model_dump()
    assert {key: found[key] for key in own} == {key: default[key] for key in own}


@pytest.mark.parametrize("settings", [RagSettings, RefreshSettings, LoopSettings])
def test_defaults_are_those_of_the_library(settings):
    """`micro_tokens` and the like are the library's alone; what both have says the same."""
    values = params().model_dump()
    values = values["refresh"] if settings is RefreshSettings else values
    defaults = {name: f.default for name, f in settings.__dataclass_fields__.items() if name in values}
    # A person's run decides otherwise than a notebook: objective and search by themselves, right passages teach too.
    apart = {
        "encoders",
        "objective",
        "search",
        "contrastive_weight",
        "cut_probability",
        "epochs",
        "learning_rate",
        "dropout",
    }
    assert {n: values[n] for n in defaults if n not in apart} == {n: v for n, v in defaults.items() if n not in apart}


# --- what the library is told ---


def test_reader_alone_is_trained_with_what_stands_in_the_parameters():
    plan = params(dropout=0.2, batch_size=3, epochs=4, cut_probability=0.25).rag_plan("bm25")
    assert (plan.settings.encoders, plan.settings.objective, plan.settings.search) == ("none", "none", "bm25")
    assert (plan.settings.dropout, plan.settings.batch_size, plan.settings.cut_probability, plan.loop.epochs) == (
        0.2,
        3,
        0.25,
        4,
    )


def test_joint_training_is_told_mode_search_and_refresh():
    plan = params(mode="end2end", refresh={"every": 7, "timeout": 60}, accumulation=2, warmup=0.5).rag_plan("hybrid")
    assert (plan.settings.train_reader, plan.settings.encoders, plan.settings.objective) == (True, "both", "marginal")
    assert (plan.settings.search, plan.settings.accumulation, plan.loop.warmup) == ("hybrid", 2, 0.5)
    assert (plan.refresh.every, plan.refresh.timeout) == (7, 60)
    assert params(search="bm25").rag_plan("hybrid").settings.search == "bm25"


@pytest.mark.parametrize(
    ("values", "dropped"),
    [
        ({}, None),  # an extractive reader alone keeps its model's own
        ({"mode": "end2end"}, 0.0),
        ({"reader": "fid"}, 0.0),
        ({"dropout": None, "mode": "end2end"}, None),
        ({"dropout": 0}, 0.0),
        ({"dropout": 0.3, "reader": "fid"}, 0.3),
    ],
)
def test_dropout_is_what_was_said_or_by_itself_what_it_was_before(values, dropped):
    assert params(**values).rag_plan("dense").settings.dropout == dropped


def test_candidates_reach_a_reader_that_is_trained_with_its_retriever():
    values = params(mode="end2end", candidates=7).model_dump()
    base, machine = resolve_model("random:bert-1x32"), Machine("cpu", "fp32")
    reader = new_reader(base, "extractive", values, LoraSettings(), machine)
    assert reader.settings.candidates == 7


@pytest.mark.parametrize(
    ("written", "meant", "worker"),
    [
        (False, False, "process"),
        (True, "process", "process"),
        ("process", "process", "process"),
        ("ray", "ray", "ray"),
    ],
)
def test_refresh_in_the_background_is_a_process_unless_ray_is_asked_for(written, meant, worker):
    found = params(mode="end2end", refresh={"background": written})
    assert found.refresh.background == meant and found.rag_plan("dense").refresh.worker == worker
    assert found.wants_ray() == (written == "ray")
    assert RefreshSettings(background=written).worker == worker


@pytest.mark.parametrize("recipe", sorted((CONF / "recipes").glob("*.yml")), ids=lambda path: path.stem)
def test_recipe_is_taken(recipe):
    models = {
        "rag_training": RagTrainingParams,
        "retriever_training": RetrieverTrainingParams,
        "negative_mining": NegativeMiningParams,
        "data_collection": DataCollectionParams,
    }
    for block, given in yaml.safe_load(recipe.read_text("utf-8"))["run"]["params"].items():
        kept = yaml.safe_load((CONF / f"base/parameters_{block}.yml").read_text("utf-8"))[block]
        # Beside what base says, of which the references to globals are left out.
        base = {name: value for name, value in kept.items() if "${" not in str(value)}
        assert models[block](**{**base, **given})
