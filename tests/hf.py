"""Trainers of Hugging Face for BERT and GPT-2 of a few thousand weights."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.exact import STEPS, bits

transformers = pytest.importorskip("transformers")
from transformers import Trainer, TrainingArguments  # noqa: E402

WORDS, LENGTH = 40, 8


def bert() -> nn.Module:
    size = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = transformers.BertConfig(vocab_size=WORDS, max_position_embeddings=LENGTH, num_labels=3, **size)
    return transformers.BertForSequenceClassification(config)


def gpt2() -> nn.Module:
    config = transformers.GPT2Config(vocab_size=WORDS, n_positions=LENGTH, n_embd=16, n_layer=1, n_head=2)
    return transformers.GPT2LMHeadModel(config)


MODELS = {"bert": bert, "gpt2": gpt2}


def sentences(name: str, count: int = 64) -> list[dict[str, Tensor]]:
    words = torch.randint(WORDS, (count, LENGTH), generator=torch.Generator().manual_seed(0))
    labels = words[:, 0] % 3 if name == "bert" else words
    return [{"input_ids": w, "labels": label} for w, label in zip(words, labels, strict=True)]


def make_trainer(name: str, folder: Path, *callbacks: Any, **arguments: Any) -> Trainer:
    torch.manual_seed(0)
    settings = {
        "output_dir": str(folder), "max_steps": STEPS, "per_device_train_batch_size": 4, "learning_rate": 0.01,
        "gradient_accumulation_steps": 2, "weight_decay": 0.1, "report_to": [], "disable_tqdm": True,
        "use_cpu": True, "save_steps": 20, "logging_steps": 10, **arguments,
    }  # fmt: skip
    data = sentences(name)
    return Trainer(MODELS[name](), TrainingArguments(**settings), train_dataset=data, eval_dataset=data[:16],
                   callbacks=list(callbacks))  # fmt: skip


def state_of(trainer: Trainer, callback: Any) -> dict[str, Any]:
    """To the bit."""
    model, optimizer = trainer.model.state_dict(), trainer.optimizer.state_dict()
    return bits({"model": model, "optimizer": optimizer, "masking": callback.state()})
