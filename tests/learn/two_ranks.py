"""Write the loss and the gradient of one batch as JSON; run alone, or by torchrun on two processes.

With a place as second argument (nowhere, queries, passages, loss, backward), a whole step is taken; there, the second
process runs out of memory at first, and the weights after the step are written.
"""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import pandas as pd
import torch
from conftest import TOPICS

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


def step_with_too_little(task: Short, place: str) -> None:
    """See above."""
    task.place = place
    embed = task.vectors.embed

    def failing(token_ids: list[list[int]], kind: str, recompute: bool, weights: object) -> torch.Tensor:
        task.fail({"query": "queries", "passage": "passages"}[kind])
        return embed(token_ids, kind, recompute, weights)

    task.vectors.embed = failing
    settings = LoopSettings(1, 1e-3)
    figures = train_step(task, make_optimizer(task.module, settings), settings, task.encoder.machine, 0, 0, 1)
    if rank() == 0:
        flat = torch.cat([parameter.detach().flatten() for parameter in task.module.parameters()])
        Path(sys.argv[1]).write_text(json.dumps({"loss": figures["loss"], "weights": flat.tolist()}))


def main() -> None:
    """See above."""
    rows = [(passage_id, title, text) for passage_id, (title, text) in TOPICS.items()]
    passages = pd.DataFrame(rows, columns=["passage_id", "title", "text"])
    examples = [
        Example(f"q{n}", f"how to {t}", (f"p{n}",), (f"p{n % 6 + 1}",)) for n, (t, _) in enumerate(TOPICS.values(), 1)
    ]
    with process_group("cpu"):
        encoder = Encoder.load(resolve_model("random:bert-2x64"), Machine("cpu", "fp32"))
        dev = DevSet(["wait"], [{"p4"}], ["p4"], ["Wait."])
        builder = BatchBuilder(examples, passages, 5, 1, 0.0, 0)  # an odd number: the shares differ
        if len(sys.argv) > 2:
            step_with_too_little(Short(encoder, builder, dev, ContrastiveSettings(), "base"), sys.argv[2])
            return
        task = ContrastiveTask(encoder, builder, dev, ContrastiveSettings(), "base")
        loss, _ = task.loss(0, 0)
        loss.backward()
        add_gradients(task.module)
        if rank() == 0:
            flat = torch.cat([p.grad.flatten() for p in task.module.parameters() if p.grad is not None])
            result = {"world": world(), "loss": loss.item(), "gradient": flat.tolist()}
            Path(sys.argv[1]).write_text(json.dumps(result))


if __name__ == "__main__":
    main()
