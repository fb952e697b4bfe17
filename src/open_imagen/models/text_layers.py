"""What networks do with text before attention: pooling, layers of their own, letters, denoising."""

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from open_imagen.models.attention import attention, split_heads
from open_imagen.models.layers import zeroed
from open_imagen.types import NUM_LETTERS, TextEmbedding


class PooledText(nn.Module):
    """The text as one vector, added to the time embedding (section 2.5). [B, L, C] -> [B, D].

    ``how`` it is pooled, with LayerNorm before and after:
    attention   over the tokens; the query is the mean token plus a learned offset
    class       the same, with that mean token among the keys (DeepFloyd IF)
    mean        the mean token itself (the paper's ablation, appendix D.3.1)
    """

    def __init__(self, width: int, out: int, how: str = "attention", head_width: int = 64) -> None:
        super().__init__()
        self.how = how
        self.heads = max(1, width // head_width)
        self.norm_in = nn.LayerNorm(width)
        if how != "mean":
            self.offset = nn.Parameter(torch.zeros(width))
            self.query = nn.Linear(width, width)
            self.keys_values = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, out)
        self.norm_out = nn.LayerNorm(out)

    def forward(self, text: TextEmbedding) -> Tensor:
        """Tokens [B, L, C] -> one vector for each caption, [B, C']."""
        tokens, mask = self.norm_in(text.tokens), text.mask
        pooled = TextEmbedding(tokens, mask).mean()
        if self.how != "mean":
            asking = (pooled + self.offset)[:, None]
            if self.how == "class":
                tokens, mask = torch.cat([asking, tokens], dim=1), F.pad(mask, (1, 0), value=True)
            query = split_heads(self.query(asking), self.heads)
            keys, values = split_heads(self.keys_values(tokens), 2 * self.heads).chunk(2, dim=1)
            found = attention(query, keys, values, mask[:, None, None])
            pooled = found.transpose(1, 2).flatten(1)
        out: Tensor = self.norm_out(self.out(pooled))
        return out


class TextLayer(nn.Module):
    """One transformer layer over the text: self-attention, then an MLP.

    [B, L, C] and mask -> the same; masked tokens are ignored. The identity at initialisation.
    """

    def __init__(self, width: int, head_width: int = 64) -> None:
        super().__init__()
        self.heads = max(1, width // head_width)
        self.norm = nn.LayerNorm(width)
        self.query_keys_values = nn.Linear(width, 3 * width)
        self.out = zeroed(nn.Linear(width, width))
        self.norm_mlp = nn.LayerNorm(width)
        self.mlp = nn.ModuleDict({"in": nn.Linear(width, 4 * width)})
        self.mlp["out"] = zeroed(nn.Linear(4 * width, width))

    def forward(self, text: TextEmbedding) -> TextEmbedding:
        """One transformer layer over the tokens."""
        tokens, mask = text.tokens, text.mask
        joined = split_heads(self.query_keys_values(self.norm(tokens)), 3 * self.heads)
        query, keys, values = joined.chunk(3, dim=1)
        found = attention(query, keys, values, mask[:, None, None])
        tokens = tokens + self.out(found.transpose(1, 2).flatten(2))
        tokens = tokens + self.mlp["out"](F.gelu(self.mlp["in"](self.norm_mlp(tokens))))
        return TextEmbedding(tokens, mask)


class LetterTokens(nn.Module):
    """One token a letter of quoted text, after the encoder's tokens (text/letters.py).

    A token is a learned vector of the letter plus one of its position. [B, L, C] and letters
    [B, K] -> [B, L + length, C]; positions without a letter are masked.
    """

    def __init__(self, length: int, width: int) -> None:
        super().__init__()
        self.length = length
        self.letter = nn.Embedding(NUM_LETTERS, width)
        self.position = nn.Embedding(length, width)

    def forward(self, text: TextEmbedding) -> TextEmbedding:
        """Append a token for each letter of quoted text."""
        tokens, mask, letters = text
        if letters is None:
            letters = mask.new_zeros((len(mask), self.length), dtype=torch.int64)
        letters = letters[:, : self.length]
        letters = F.pad(letters, (0, self.length - letters.shape[1]))
        found = (self.letter(letters) + self.position.weight).to(tokens.dtype)
        there = letters > 0
        tokens = torch.cat([tokens, found * there[..., None]], dim=1)
        return TextEmbedding(tokens, torch.cat([mask, there], dim=1))


def letter_tokens(length: int, width: int) -> nn.Module:
    """Letter tokens, or nothing for a network that reads no letters."""
    return LetterTokens(length, width) if length else nn.Identity()


class TextDenoiser(nn.ModuleList):
    """Layers that denoise embeddings of captions with out-of-vocabulary words.

    Where the relative change of a caption (mean squared) is below ``threshold``, it has no such
    word, and its embedding is left as it is.
    """

    def __init__(self, layers: Iterable[TextLayer], threshold: float = 0.0) -> None:
        super().__init__(layers)
        self.threshold = threshold

    def forward(self, text: TextEmbedding) -> TextEmbedding:
        """Tokens in which those of out-of-vocabulary words are denoised."""
        if not len(self):
            return text
        found = text
        for layer in self:
            found = layer(found)
        change = TextEmbedding(found.tokens - text.tokens, text.mask)
        changed = (change.mean_square() > self.threshold * text.mean_square())[:, None, None]
        return text._replace(tokens=torch.where(changed, found.tokens, text.tokens))
