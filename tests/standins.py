"""Small stand-ins that meet our protocols, and a model small enough to make on the spot."""

import hashlib
import os

import pytest
import torch

from open_imagen.cascade.cascade import Cascade
from open_imagen.cascade.folder import Adapter, CascadeConfig, write_adapter
from open_imagen.cascade.runtime import RuntimeConfig
from open_imagen.cascade.sampling import Sampling
from open_imagen.cascade.stage import Stage
from open_imagen.cascade.stage_config import StageConfig
from open_imagen.diffusion.losses import Objective
from open_imagen.diffusion.schedules import Schedule
from open_imagen.errors import DataError
from open_imagen.types import Batch, TextEmbedding

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU here")


class WordEncoder:
    """A TextEncoder of one token per word; a word's token is a function of the word alone."""

    name, width, max_length = "words", 384, 16

    def num_tokens(self, caption):
        return len(caption.split())

    def __call__(self, captions):
        rows = [
            [self._token(word) for word in caption.split() or ["nothing"]] for caption in captions
        ]
        length = max(len(row) for row in rows)
        tokens = torch.zeros(len(rows), length, self.width, dtype=torch.float32)
        mask = torch.zeros(len(rows), length, dtype=torch.bool)
        for k, row in enumerate(rows):
            tokens[k, : len(row)], mask[k, : len(row)] = torch.stack(row), True
        return TextEmbedding(tokens, mask)

    def _token(self, word):
        seed = int.from_bytes(hashlib.sha256(word.encode()).digest()[:4], "big")
        generator = torch.Generator().manual_seed(seed)
        return torch.randn(self.width, generator=generator, dtype=torch.float32)


def make_stages(**network):
    """A base and a super-resolution stage with random weights, none of them zero.

    Settings of both networks can be given: ``image_channels=4``.
    """
    torch.manual_seed(0)
    objective = Objective(prediction="v", space="v")
    # Random weights mean nothing at extreme noise, where rounding is amplified a thousandfold.
    schedule = Schedule(logsnr_min=-9.0)
    stages = [
        Stage(
            StageConfig(
                name="base",
                resolution=64,
                network={"preset": "tiny-base-64", **network},
                objective=objective,
                schedule=schedule,
                sampling=Sampling(steps=3, guidance=2.0),
            )
        ),
        Stage(
            StageConfig(
                name="sr256",
                resolution=256,
                lowres=64,
                network={"preset": "tiny-sr-256", **network},
                objective=objective,
                schedule=schedule,
                sampling=Sampling(steps=2, guidance=1.0, noise_level=0.1),
            )
        ),
    ]
    for stage in stages:
        for parameter in stage.parameters():
            if not parameter.abs().sum():
                torch.nn.init.normal_(parameter, std=0.05)
        stage.eval().requires_grad_(False)
    return stages


def make_cascade(stages=None, name="tiny", encoder="minilm-l6", text=None, runtime=None, **config):
    """A cascade of such stages on the CPU, with a stand-in for its encoder.

    Args:
        text: the encoder; a WordEncoder if None.
        config: further settings of CascadeConfig.
    """
    return Cascade(
        CascadeConfig(name=name, encoder=encoder, **config),
        make_stages() if stages is None else stages,
        runtime or RuntimeConfig(device="cpu"),
        text=text or WordEncoder(),
    )


def save_adapter(folder, stage, tensors, scale=1.0):
    """An adapter of one stage in a folder, as a run writes it."""
    write_adapter(folder, Adapter(stage, scale, tensors))


class Pids:
    """A planned source whose captions say which process planned them."""

    def __len__(self):
        return 1

    def plan(self, start, size):
        if start > 20:
            raise DataError("no further")
        return start, size, os.getpid()

    def draw(self, plan):
        start, size, pid = plan
        return Batch(torch.zeros(size, 3, 8, 8, dtype=torch.uint8), [f"{pid}"] * size, start)

    def batch(self, index, size):
        return self.draw(self.plan(index, size))

    def captions(self):
        return iter(())

    def describe(self):
        return {}
