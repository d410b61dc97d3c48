"""Which modules of a model encode queries, and which passages."""

import copy
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import torch
    from sentence_transformers import SentenceTransformer

Kind = Literal["query", "passage"]
KINDS: tuple[Kind, ...] = ("query", "passage")
# What sentence-transformers calls the route of a kind: `encode_query` and `encode_document` look for these.
ROUTE_NAMES: dict[Kind, str] = {"query": "query", "passage": "document"}
# What it calls the prompt of a passage differs between model families; the order is that of `encode_document`.
PROMPT_NAMES: dict[Kind, tuple[str, ...]] = {"query": ("query",), "passage": ("document", "passage", "corpus")}


def routes(model: "SentenceTransformer") -> "dict[Kind, list[torch.nn.Module]]":
    """The modules that each kind of text goes through.

    Args:
        model: one encoder for both kinds, or a `Router` with a route for each (`Router.for_query_document`), as
            in DPR (Karpukhin et al. 2020); modules behind a Router are a part of both routes.
    Returns:
        Per kind its modules in order; of a model with one encoder the very same list twice.
    Raises:
        ValueError: a Router without these routes, or one that looks at more than the task.
    """
    from sentence_transformers.sentence_transformer.modules import Router

    first, *after = list(model)
    if not isinstance(first, Router):
        both = [first, *after]
        return {"query": both, "passage": both}
    named: Any = first.sub_modules
    found = {kind: list(named[name]) for kind, name in ROUTE_NAMES.items() if name in named}
    if len(found) < len(ROUTE_NAMES) or first.route_mappings:
        raise ValueError(
            f"The model begins with a Router whose routes are {', '.join(named)}"
            f"{', chosen by mappings' if first.route_mappings else ''}. It must have the routes "
            f"{' and '.join(ROUTE_NAMES.values())}, and no mappings: make it with Router.for_query_document."
        )
    return {kind: [*found[kind], *after] for kind in KINDS}


def twin(
    queries: "Sequence[torch.nn.Module]", passages: "Sequence[torch.nn.Module]", prompts: Mapping[Kind, str]
) -> "SentenceTransformer":
    """A model with one encoder for queries and another for passages, on the CPU.

    Args:
        queries, passages: modules of each, in order.
        prompts: what is put before a text of each kind; those that are missing are empty.
    """
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Router

    router = Router.for_query_document(list(queries), list(passages))  # type: ignore[arg-type]
    named = {ROUTE_NAMES[kind]: prompts.get(kind, "") for kind in KINDS}
    return SentenceTransformer(modules=[router], prompts=named, device="cpu")


def end_in_unit_length(model: "SentenceTransformer") -> None:
    """Let the model itself give what an `Encoder` gives with it: vectors of unit length."""
    from sentence_transformers.sentence_transformer.modules import Normalize

    if not all(isinstance(modules[-1], Normalize) for modules in routes(model).values()):
        model.append(Normalize())


def shares_weights(model: "SentenceTransformer") -> bool:
    """Whether a weight that encodes queries also encodes passages."""
    of_queries, of_passages = (
        {id(tensor) for module in modules for tensor in module.parameters()} for modules in routes(model).values()
    )
    return not of_queries.isdisjoint(of_passages)


def separated(model: "SentenceTransformer") -> "SentenceTransformer":
    """The model itself when its two routes share no weight, else one in which queries have a copy of their own.

    The encoder of passages is not copied: it is the given model's.
    """
    if not shares_weights(model):
        return model
    found = routes(model)
    return twin(copy.deepcopy(found["query"]), found["passage"], {kind: prompt_of(model, kind) for kind in KINDS})


def prompt_of(model: "SentenceTransformer", kind: Kind) -> str:
    """What the model wants before a query or a passage; empty for most."""
    names = (*PROMPT_NAMES[kind], model.default_prompt_name)
    prompts = (model.prompts.get(name) for name in names if name)
    return next((prompt for prompt in prompts if prompt), "")


def spell_out_prompts(model: "SentenceTransformer") -> None:
    """Name the prompts as `encode_query` and `encode_document` do, so that they put before texts what we do.

    A folder that names that of passages `passage` alone is given an empty `document` when it is loaded, which
    `encode_document` then takes; so it does in the place of the default prompt.
    """
    model.prompts = {**model.prompts, **{ROUTE_NAMES[kind]: prompt_of(model, kind) for kind in KINDS}}
