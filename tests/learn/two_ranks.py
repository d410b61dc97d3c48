"""Write the loss and the gradient of one batch as JSON; run alone, or by torchrun on two processes."""

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
from ragsmith.learn.training_data import BatchBuilder, Example
from ragsmith.retrieve.encoder import Encoder
from ragsmith.retrieve.models import resolve_model


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
