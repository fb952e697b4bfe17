"""Sequential offload from several threads, and reads of weights that break off."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

import open_imagen as oi
from open_imagen.cascade.stage import Stage
from standins import WordEncoder, make_stages

SETTINGS = {"base": {"steps": 2}, "sr256": {"steps": 1}}


def test_threads_share_an_offloaded_cascade(model_folder):
    cascade = oi.load(model_folder, device="cpu", offload=True)
    cascade.text = oi.load(model_folder, device="cpu").text

    def draw(seed):
        made = cascade.generate("a red circle", seed=seed, settings=SETTINGS)
        return made.stages["sr256"]

    alone = [draw(seed) for seed in range(4)]
    with ThreadPoolExecutor(4) as threads:
        together = list(threads.map(draw, range(4)))
    assert all(torch.equal(*both) for both in zip(alone, together, strict=True))


class Breaks:
    """Weights whose first reading ends in the middle."""

    def __init__(self, weights):
        self.weights, self.readings = weights, 0

    def __iter__(self):
        self.readings += 1
        for k, item in enumerate(self.weights):
            if self.readings == 1 and k == len(self.weights) // 2:
                raise KeyboardInterrupt
            yield item


def test_a_reading_that_broke_off_is_made_again():
    whole = make_stages()[0]
    weights = [(name, one.detach()) for name, one in whole.network.named_parameters()]
    with torch.device("meta"):
        stage = Stage(whole.config)
    stage = stage.with_lazy_weights(Breaks(weights))
    with pytest.raises(KeyboardInterrupt):
        stage.load_weights(torch.device("cpu"))
    stage.load_weights(torch.device("cpu"))
    text = WordEncoder()(["a b"])
    one, other = (part.sample(text, [torch.Generator().manual_seed(0)]) for part in (stage, whole))
    assert torch.equal(one, other)
