"""Write the loss and the gradient of one batch as safetensors; run alone, or by torchrun on two processes.

With places as further arguments (nowhere, queries, passages, loss, backward), a whole step is taken for each; there,
the second process runs out of memory at first. Each process writes JSON: for each place the loss, the furthest that a
weight is from those of the first place, and the warnings.
"""

import json
import logging
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import pandas as pd
import torch
from conftest import TOPICS
from safetensors.torch import save_file

from ragsmith.compute.device import Machine
from ragsmith.compute.ranks import add_gradients, process_group, rank, world
from ragsmith.learn.contrastive import ContrastiveSettings, ContrastiveTask, DevSet
from ragsmith.learn.loop import LoopSettings, make_optimizer, train_step
from ragsmith.learn.training_data import BatchBuilder, Example
from ragsmith.retrieve.encoder import Encoder
from ragsmith.retrieve.models import resolve_model


class Short(ContrastiveTask):
    """Has too little memory at one place, until it is content with less."""

    place = "nowhere"

    def fail(self, place: str) -> None:
        """Where it is time to."""
        if rank() == 1 and place == self.place and self.vectors.activation_bytes:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 64 bytes")

    def loss(self, epoch: int, number: int) -> tuple[torch.Tensor, dict[str, float]]:
        """With a hole in the way back."""
        loss, figures = super().loss(epoch, number)
        loss.register_hook(lambda gradient: self.fail("backward"))
        self.fail("loss")
        return loss, figures


def step_with_too_little(task: Short, place: str) -> tuple[float, torch.Tensor]:
    """See above."""
    task.place = place
    embed = task.vectors.embed

    def failing(token_ids: list[list[int]], kind: str, recompute: bool, weights: object) -> torch.Tensor:
        task.fail({"query": "queries", "passage": "passages"}[kind])
        return embed(token_ids, kind, recompute, weights)

    task.vectors.embed = failing
    settings = LoopSettings(1, 1e-3)
    figures = train_step(task, make_optimizer(task.module, settings), settings, task.encoder.machine, 0, 0, 1)
    return figures["loss"], torch.cat([parameter.detach().flatten() for parameter in task.module.parameters()])


def collected_warnings() -> list[str]:
    """A list that this process's warnings are appended to."""
    collected: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: collected.append(record.getMessage())
    logging.getLogger("ragsmith").addHandler(handler)
    return collected


def main() -> None:
    """See above."""
    rows = [(passage_id, title, text) for passage_id, (title, text) in TOPICS.items()]
    passages = pd.DataFrame(rows, columns=["passage_id", "title", "text"])
    examples = [
        Example(f"q{n}", f"how to {t}", (f"p{n}",), (f"p{n % 6 + 1}",)) for n, (t, _) in enumerate(TOPICS.values(), 1)
    ]
    with process_group("cpu"):
        dev = DevSet(["wait"], [{"p4"}], ["p4"], ["Wait."])

        def make_task(kind: type[ContrastiveTask]) -> ContrastiveTask:
            encoder = Encoder.load(resolve_model("random:bert-2x64"), Machine("cpu", "fp32"))
            builder = BatchBuilder(examples, passages, 5, 1, 0.0, 0)  # an odd number: the shares differ
            return kind(encoder, builder, dev, ContrastiveSettings(), "base")

        if places := sys.argv[2:]:
            results: list[dict[str, Any]] = []
            collected, undisturbed = collected_warnings(), None
            for place in places:
                collected.clear()
                loss, weights = step_with_too_little(make_task(Short), place)
                undisturbed = weights if undisturbed is None else undisturbed
                away = (weights - undisturbed).abs().max().item()
                results.append({"place": place, "loss": loss, "away": away, "warnings": list(collected)})
            Path(f"{sys.argv[1]}.{rank()}").write_text(json.dumps(results))
            return
        task = make_task(ContrastiveTask)
        loss, _ = task.loss(0, 0)
        loss.backward()
        add_gradients(task.module)
        if rank() == 0:
            flat = torch.cat([p.grad.flatten() for p in task.module.parameters() if p.grad is not None])
            save_file({"world": torch.tensor(world()), "loss": loss.detach(), "gradient": flat}, sys.argv[1])


if __name__ == "__main__":
    main()
