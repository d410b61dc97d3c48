"""The README.md of a tuned retriever: what it is, what it was trained on, and what that was worth."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ragsmith.retrieve.models import HUB_NAME, model_name

if TYPE_CHECKING:
    from ragsmith.learn.train_retriever import RetrieverSettings

OF_STAGES = {"epochs", "learning_rate"}  # each stage has its own
TEMPLATE = Path(__file__).parent / "templates" / "model_card.md.j2"


def settings_told(settings: "RetrieverSettings") -> dict[str, Any]:
    """What our own training goes by, beside what each stage says for itself."""
    adapters = {f"lora_{name}": value for name, value in asdict(settings.lora).items()} if settings.lora.rank else {}
    own = {name: getattr(settings, name) for name in ("batch_size", "negatives", "cut_probability")}
    flat = {**own, **asdict(settings.loop), **asdict(settings.contrastive), **adapters}
    return {name: value for name, value in flat.items() if name not in OF_STAGES}


def model_card(base: Path, report: dict[str, Any], settings: Mapping[str, Any]) -> str:
    """Markdown with the front matter of sentence-transformers' cards.

    Args:
        base: the model that it was tuned from.
        report: of `train_retriever`.
        settings: that the training went by, by name.
    """
    import sentence_transformers
    import torch
    import transformers
    from jinja2 import Environment

    versions = {"torch": torch, "transformers": transformers, "sentence-transformers": sentence_transformers}
    # Markdown is no HTML, and nothing from the documents stands in it: names, numbers and settings alone.
    template = Environment(autoescape=False, trim_blocks=True, lstrip_blocks=True).from_string(  # noqa: S701
        TEMPLATE.read_text("utf-8")
    )
    return template.render(
        base=model_name(base),
        on_hub=bool(HUB_NAME.match(model_name(base))),
        report=report,
        settings=settings,
        versions={name: module.__version__ for name, module in versions.items()},
    )
