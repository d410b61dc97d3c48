"""LettuceDetect, as the one that says whether passages support an answer: an extra of its own."""

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ragsmith.compute.device import Machine
from ragsmith.compute.progress import progress
from ragsmith.evaluate._windows import offsets_of, shortened, windows
from ragsmith.evaluate.citations import Claim
from ragsmith.evaluate.entailment import architecture, read_config
from ragsmith.retrieve.models import ModelError, check_model_folder

INSTALL = "Checking answers with LettuceDetect needs its package. Run: pip install lettucedetect"
MOST_TOKENS = 4096  # its own default
PROMPT_TOKENS = 128  # of the instruction that it puts around question and passages


class HallucinationModel:
    """1 minus the highest confidence with which the model takes a part of the answer as unsupported.

    It marks tokens of the answer; one that marks none supports the answer fully. Passages that are too long together
    are cut in windows that overlap by a quarter, and the best window counts: the package's own way asks every part of
    the passages to support the answer.

    Args:
        detector: the package's `HallucinationDetector`.
        machine: in which precision it computes.
        max_tokens: that it reads at once.

    Source:
        Kovács and Recski, "LettuceDetect: A Hallucination Detection Framework for RAG Applications", 2025.
    """

    def __init__(self, detector: Any, machine: Machine, max_tokens: int = MOST_TOKENS) -> None:
        self.detector, self.machine, self.max_tokens = detector, machine, max_tokens
        self.tokenizer = detector.detector.tokenizer

    @classmethod
    def load(cls, folder: Path, machine: Machine) -> "HallucinationModel":
        """The LettuceDetect model of a folder.

        Raises:
            ModelError: no model, truncated or altered, no safetensors weights, or no classifier of tokens in two.
            ModuleNotFoundError: the package is not installed; the message has the command.
        """
        try:
            lettucedetect = import_module("lettucedetect.models.inference")
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(INSTALL) from error

        from ragsmith.retrieve.encoder import quiet_transformers

        check_model_folder(folder)
        config = read_config(folder)
        marks_tokens = any(str(name).endswith("ForTokenClassification") for name in config.get("architectures") or [])
        if not marks_tokens or len(config.get("id2label") or (0, 1)) != 2:
            raise ModelError(
                f"{folder} is no model of LettuceDetect: {architecture(config)}. Name one, such as "
                "KRLabsOrg/lettucedect-base-modernbert-en-v1."
            )
        quiet_transformers()
        most = min(MOST_TOKENS, int(config.get("max_position_embeddings") or MOST_TOKENS))
        detector = lettucedetect.HallucinationDetector(
            method="transformer",
            model_path=str(folder),
            max_length=most,
            device=machine.device,
            local_files_only=True,
            trust_remote_code=False,
        )
        return cls(detector, machine, most)

    def __call__(self, claims: Sequence[Claim], /) -> npt.NDArray[np.float64]:
        """As `citations.Supports`."""
        support = np.zeros(len(claims))
        with progress("checking citations", total=len(claims)) as advance, self.machine.autocast():
            for place, claim in enumerate(claims):
                support[place] = self.support(claim)
                advance(1)
        return support

    def support(self, claim: Claim) -> float:
        """The support of one claim, by its best window."""
        eighth = self.max_tokens // 8
        question, answer = (shortened(self.tokenizer, text, eighth) for text in (claim.question, claim.answer))
        room = self.max_tokens - 2 * eighth - PROMPT_TOKENS
        joined = "\n".join(claim.passages)
        fits = len(offsets_of(self.tokenizer, joined)) <= room - 8 * len(claim.passages)  # "passage 1: "
        contexts = [list(claim.passages)] if fits else [[text] for text in windows(self.tokenizer, joined, room - 8)]
        return max(1.0 - self.unsupported(context, question, answer) for context in contexts)

    def unsupported(self, context: list[str], question: str, answer: str) -> float:
        """The highest confidence among the spans of the answer that the model marks; 0 where it marks none."""
        spans = self.detector.predict(context=context, question=question, answer=answer, output_format="spans")
        return max((float(span["confidence"]) for span in spans), default=0.0)
