"""A BERT encoder for inference, for MiniLM.

It gives the same numbers as transformers, and loads in a fraction of the time that importing
transformers takes.
"""

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from open_imagen.errors import CheckpointError
from open_imagen.storage import load_tensors, read_json


class Bert(nn.Module):
    """Token ids [B, L] and mask [B, L] -> last hidden state [B, L, C] (Devlin et al. 2018).

    Parameters carry the names of the published files, so that those load as they are.
    """

    def __init__(self, settings: dict[str, int]) -> None:
        super().__init__()
        C = settings["hidden_size"]
        self.heads, self.width = settings["num_attention_heads"], C
        self.embeddings = nn.ModuleDict(
            {
                "word_embeddings": nn.Embedding(settings["vocab_size"], C),
                "position_embeddings": nn.Embedding(settings["max_position_embeddings"], C),
                "token_type_embeddings": nn.Embedding(settings["type_vocab_size"], C),
                "LayerNorm": nn.LayerNorm(C, eps=1e-12),
            }
        )
        self.layers = nn.ModuleList(
            Layer(C, settings["intermediate_size"], self.heads)
            for _ in range(settings["num_hidden_layers"])
        )

    @classmethod
    def fresh(cls, folder: Path) -> "Bert":
        """The words and places of config.json as random vectors, always the same; no layers."""
        model = cls(read_json(folder / "config.json") | {"num_hidden_layers": 0})
        generator = torch.Generator().manual_seed(0)
        for part in model.embeddings.values():
            if isinstance(part, nn.Embedding):
                nn.init.normal_(part.weight, generator=generator)
        return model.eval().requires_grad_(False)

    @classmethod
    def load(cls, folder: Path, layers: int | None = None) -> "Bert":
        """Read config.json and model.safetensors.

        Args:
            layers: how many of its layers, from the first; None for all.

        Raises:
            CheckpointError: a file is missing or damaged, or it is not a BERT.
        """
        model = cls(read_json(folder / "config.json"))
        tensors = {}
        for name, tensor in load_tensors(folder / "model.safetensors").items():
            name = name.removeprefix("bert.").replace("encoder.layer.", "layers.")
            if not name.startswith("pooler") and not name.endswith("position_ids"):
                tensors[name] = tensor
        try:
            model.load_state_dict(tensors, assign=True)  # in their own dtype
        except RuntimeError as error:
            raise CheckpointError(f"{folder} does not hold a BERT encoder: {error}") from error
        model.layers = model.layers[:layers]
        return model.eval().requires_grad_(False)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Token ids [B, L] and mask [B, L] -> hidden states [B, L, width]."""
        positions = torch.arange(ids.shape[1], device=ids.device)
        h = (
            self.embeddings["word_embeddings"](ids)
            + self.embeddings["position_embeddings"](positions)
            + self.embeddings["token_type_embeddings"](torch.zeros_like(ids))
        )
        h = self.embeddings["LayerNorm"](h)
        for layer in self.layers:
            h = layer(h, mask)
        out: Tensor = h
        return out


class Layer(nn.Module):
    """Post-norm attention and feed-forward."""

    def __init__(self, width: int, inner: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.attention = nn.ModuleDict(
            {
                "self": nn.ModuleDict(
                    {name: nn.Linear(width, width) for name in ("query", "key", "value")}
                ),
                "output": _joined(width, width),
            }
        )
        self.intermediate = nn.ModuleDict({"dense": nn.Linear(width, inner)})
        self.output = _joined(inner, width)

    def forward(self, h: Tensor, mask: Tensor) -> Tensor:
        """Hidden states [B, L, width] -> the same shape."""
        own: Any = self.attention["self"]
        query, key, value = (
            own[name](h).unflatten(2, (self.heads, -1)).transpose(1, 2)
            for name in ("query", "key", "value")
        )
        found = F.scaled_dot_product_attention(query, key, value, mask[:, None, None])
        out: Any = self.attention["output"]
        h = out["LayerNorm"](h + out["dense"](found.transpose(1, 2).flatten(2)))
        inner = F.gelu(self.intermediate["dense"](h))
        result: Tensor = self.output["LayerNorm"](h + self.output["dense"](inner))
        return result


def _joined(inside: int, outside: int) -> nn.ModuleDict:
    return nn.ModuleDict(
        {"dense": nn.Linear(inside, outside), "LayerNorm": nn.LayerNorm(outside, eps=1e-12)}
    )
