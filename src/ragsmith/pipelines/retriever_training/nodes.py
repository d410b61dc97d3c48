"""Steps of retriever_training."""

import logging
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from ragsmith.pipelines.params import ComputeParams, IndexParams
from ragsmith.pipelines.retriever_training.params import RetrieverTrainingParams

if TYPE_CHECKING:
    from plotly.graph_objects import Figure
else:
    # Kedro evaluates the annotations of a step: a name that is only there for type checkers would turn its
    # parameters into plain dictionaries.
    Figure = Any

logger = logging.getLogger(__name__)


def train(
    base_encoder: Path,
    base_index: Path,
    queries: pd.DataFrame,
    qrels: pd.DataFrame,
    mined: pd.DataFrame,
    mining_settings: dict[str, Any],
    passages: pd.DataFrame,
    splits: pd.DataFrame,
    base_reranker: Path | None,
    candidate_pool: Path,
    given_negatives: pd.DataFrame,
    positive_scores: pd.DataFrame,
    params: RetrieverTrainingParams,
    compute: ComputeParams,
    work: Path,
) -> tuple[Path, dict[str, Any], pd.DataFrame]:
    """Tune the retriever on the mined training queries; dev questions steer it and decide what ships."""
    from ragsmith.compute.device import probe
    from ragsmith.learn.adapted import adapted_base
    from ragsmith.learn.backends.gated import train_by
    from ragsmith.learn.contrastive import ContrastiveSettings
    from ragsmith.learn.dev_pool import dev_set
    from ragsmith.learn.launch import train_on_ranks
    from ragsmith.learn.loop import LoopSettings
    from ragsmith.learn.mine_again import FreshNegatives
    from ragsmith.learn.train_retriever import RetrieverData, RetrieverSettings, train_retriever
    from ragsmith.retrieve.build import load_index
    from ragsmith.retrieve.candidate_pool import training_pool
    from ragsmith.retrieve.encoder import Encoder
    from ragsmith.retrieve.mining_data import MiningSettings

    params = params.on_ranks(compute.ranks, compute.backend)
    machine = compute.machine()
    if params.precision is not None:
        machine = replace(probe(compute.device, params.precision), int8=machine.int8 and params.precision != "fp32")
    judged = queries["query_id"].isin(qrels.loc[qrels["grade"] > 0, "query_id"])
    passed_over = {str(name): int(n) for name, n in queries.loc[~judged, "split"].value_counts().items()}
    queries = queries[judged]  # the others have answers alone: the reader's affair
    questions = queries[queries["split"] == "dev"]
    encoder = Encoder.load(base_encoder, machine, batch_tokens=compute.batch_tokens)
    vectors = encoder.encode(questions["text"].tolist(), "query")
    index = load_index(base_index, base_encoder)
    dev, judge = (
        dev_set(questions, vectors, qrels, passages, index, size, params.seed)
        for size in (params.dev_pool, max(params.dev_pool, params.gate_pool))
    )
    wider = len(judge.passage_ids) > len(dev.passage_ids)
    values = params.model_dump()
    contrastive = {name: values[name] for name in ContrastiveSettings.__dataclass_fields__}
    settings = RetrieverSettings(
        batch_size=params.batch_size,
        negatives=params.negatives,
        cut_probability=params.cut_probability,
        contrastive=ContrastiveSettings(**{**contrastive, "matryoshka": tuple(params.matryoshka)}),
        loop=LoopSettings(**{name: values[name] for name in LoopSettings.__dataclass_fields__}),
        lora=params.lora.settings(),
        compare_alone=params.compare_alone,
        batch_tokens=compute.batch_tokens,
    )
    # Whatever mining left out is not trained on, and makes no stage either.
    stages, wanted = plan(teachable(queries, mined, params), params)
    mined = mined[mined["query_id"].isin(wanted["query_id"])]
    logger.info("training on %d queries: %s", len(mined), wanted["kind"].value_counts().to_dict())
    fresh = None
    if any(stage.remine for stage in stages):
        right = qrels[qrels["grade"] > 0].groupby("query_id", sort=False)["passage_id"].agg(list)
        fresh = FreshNegatives(
            queries,
            right.to_dict(),
            passages,
            training_pool(candidate_pool, passages, splits),
            MiningSettings.of_json(mining_settings),
            machine,
            work,
            given_negatives,
            base_reranker,
            mining_settings["rerank_batch_tokens"],
            positive_scores,
        )
    base = adapted_base(base_encoder, params.pooling, params.query_prompt, params.passage_prompt, work)
    original = base_encoder if base != base_encoder else None
    data = RetrieverData(queries, mined, passages, dev, stages, fresh, original, judge if wider else None)
    if params.backend != "native":
        run = train_by(params.backend, base, data, settings, machine, work)
    elif compute.ranks > 1 or compute.backend == "ray":
        run = train_on_ranks(base, data, settings, machine, work, compute.ranks, compute.backend)
    else:
        run = train_retriever(base, data, settings, machine, work)
    for row in run.report["gate"]:
        logger.info(
            "gate: %-8s %.4f %s", row["name"], row["ndcg@10"], "ships: " + row["reason"] if row["shipped"] else ""
        )
    return run.model, {**run.report, "without_positive": passed_over}, pd.read_json(run.log, lines=True)


def teachable(queries: pd.DataFrame, mined: pd.DataFrame, params: RetrieverTrainingParams) -> pd.DataFrame:
    """The mined queries; where `auto` chooses for a loss that needs scores, without structural ones that have none.

    Records can score their own questions alone, and the loss would be refused for what nobody asked to train on.
    """
    found = queries[queries["query_id"].isin(mined["query_id"])]
    taught = found["query_id"].isin(mined.loc[mined["teacher_scores"].map(len) > 0, "query_id"])
    untaught = (found["kind"] != "example") & ~taught
    chosen = params.train_on != "auto" or params.stages or params.loss in {"auto", "infonce"}
    if chosen or not taught.any() or not untaught.any():
        return found
    logger.info("loss %s: %d structural queries have no teacher's scores: left out", params.loss, untaught.sum())
    return found[~untaught]


def plan(queries: pd.DataFrame, params: RetrieverTrainingParams) -> tuple[tuple[Any, ...], pd.DataFrame]:
    """The stages that the parameters mean, and all the queries that they train on."""
    from ragsmith.learn.stages import Stage
    from ragsmith.learn.training_data import chosen_queries

    if not params.stages:
        wanted = chosen_queries(queries, params.train_on, params.enough_examples)
        rate = rate_for(wanted, params)
        first = structural_first(queries, wanted, params)
        if first.empty:
            name, chosen, before = "all", None, []
        else:
            name, chosen = "examples", frozenset(wanted["query_id"])
            before = [Stage("structural", frozenset(first["query_id"]), False, 1, params.structural_learning_rate)]
        rounds = [
            Stage(name if number == 1 else f"round {number}", chosen, remine=number > 1, learning_rate=rate)
            for number in range(1, params.rounds + 1)
        ]
        return (*before, *rounds), pd.concat([first, wanted])
    parts = [chosen_queries(queries, stage.queries, params.enough_examples) for stage in params.stages]
    stages = [
        Stage(
            stage.queries,
            frozenset(part["query_id"]),
            stage.remine,
            stage.epochs,
            stage.learning_rate or rate_for(part, params),
        )
        for stage, part in zip(params.stages, parts, strict=True)
    ]
    return tuple(stages), pd.concat(parts).drop_duplicates("query_id")


def rate_for(wanted: pd.DataFrame, params: RetrieverTrainingParams) -> float | None:
    """The learning rate of structural queries, where hardly any of the wanted ones are written; else None.

    At the rate that suits real questions, structural ones alone teach the model to look for equal words.
    """
    written = wanted["kind"] == "example"
    mostly_structural = not written.all() and written.sum() < params.enough_examples
    rate = params.structural_learning_rate if mostly_structural else None
    if rate is not None:
        logger.info(
            "learning rate %g (structural_learning_rate) in place of %g: %d of %d queries are written, and "
            "enough_examples is %d",
            rate,
            params.learning_rate,
            written.sum(),
            len(wanted),
            params.enough_examples,
        )
    return rate


def structural_first(queries: pd.DataFrame, wanted: pd.DataFrame, params: RetrieverTrainingParams) -> pd.DataFrame:
    """The structural queries that `auto` begins with where written ones are trained on; none where they are in them.

    Another trainer knows one stage, and fewer queries than the batches of a step make none.
    """
    structural = queries[(queries["split"] == "train") & (queries["kind"] != "example")]
    apart = params.train_on == "auto" and params.backend == "native" and (wanted["kind"] == "example").all()
    return structural if apart and len(structural) >= params.batch_size * params.accumulation else structural.iloc[:0]


def index_tuned(
    retriever: Path, passages: pd.DataFrame, params: IndexParams, compute: ComputeParams, work: Path
) -> Path:
    """Encode all passages with the tuned retriever."""
    from ragsmith.retrieve.build import build_index

    machine, settings = compute.machine(), params.settings()
    return build_index(retriever, passages, machine, compute.batch_tokens, work, "tuned index", settings)


def choose_search(
    retriever: Path,
    index: Path,
    queries: pd.DataFrame,
    qrels: pd.DataFrame,
    passages: pd.DataFrame,
    compute: ComputeParams,
) -> dict[str, Any]:
    """Dense or hybrid search, whichever is better on dev: reader and bundle use that one."""
    from ragsmith.learn.search_choice import best_mode

    dev = queries[queries["split"] == "dev"]
    choice = best_mode(retriever, index, dev, qrels, passages, compute.machine(), compute.batch_tokens)
    scores = ", ".join(f"{mode} {score:.4f}" for mode, score in choice["ndcg@10"].items())
    logger.info("search: %s (dev nDCG@10: %s)", choice["mode"], scores)
    return choice


def plot_training(training_log: pd.DataFrame) -> Figure:
    """Loss and dev score by step."""
    from ragsmith.learn.plots import training_figure

    return training_figure(training_log, "Retriever training")
