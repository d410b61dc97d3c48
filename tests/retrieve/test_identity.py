"""What a model does beside its weights, as text."""

import json
from pathlib import Path

import pytest

from ragsmith.retrieve.encoder import load_sentence_transformer
from ragsmith.retrieve.identity import settings_text
from ragsmith.retrieve.models import resolve_model


# peft 0.21 asks transformers 5 for a name that it calls deprecated.
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
def test_settings_of_a_model_with_adapters_are_the_same_text_in_every_process_and_folder():
    peft = pytest.importorskip("peft")
    folder: Path = resolve_model("random:bert-1x32")
    texts = []
    for place in (folder, Path("/elsewhere")):
        model = load_sentence_transformer(folder)[0].auto_model
        model.name_or_path = str(place)
        config = peft.LoraConfig(r=2, lora_alpha=4, target_modules={"value", "query", "key"})
        texts.append(settings_text(peft.get_peft_model(model, config)))
    assert texts[0] == texts[1]
    found = json.loads(texts[0])
    # A set has another order in each process.
    assert found["adapters"]["default"]["target_modules"] == ["key", "query", "value"]
    assert found["adapters"]["default"]["lora_alpha"] == 4 and found["config"]["hidden_size"] == 32
