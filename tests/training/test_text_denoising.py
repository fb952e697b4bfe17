"""Text denoising: how captions are corrupted, what the layers learn, and that all else stays."""

import pytest
import torch
from torch import nn

from open_imagen.cascade.io import load
from open_imagen.cascade.noise import TrainingNoise
from open_imagen.errors import ConfigError
from open_imagen.models.text_layers import TextLayer
from open_imagen.storage import load_tensors
from open_imagen.training.loop import Trainer
from open_imagen.training.objectives.text_denoising import (
    CorruptedEncoder,
    TextDenoising,
    TextDenoisingConfig,
    split_words,
)
from open_imagen.training.recipe import read_recipe
from open_imagen.types import TextEmbedding
from open_imagen.worlds.sources import open_source
from standins import WordEncoder

OOV_WORDS = ["sparrow", "ladder", "whistle", "crimson", "circle"]


class Pieces(WordEncoder):
    """A token of every three letters of a word, and the vocabulary that CorruptedEncoder needs."""

    def split(self, caption):
        places = []
        for word, start in split_words(caption):
            places += [
                (start + k, min(start + k + 3, start + len(word))) for k in range(0, len(word), 3)
            ]
        return places

    def num_tokens(self, caption):
        return len(self.split(caption))

    def __call__(self, captions):
        cut = [" ".join(one[a:b] for a, b in self.split(one)) for one in captions]
        return super().__call__(cut)

    def words(self):
        return OOV_WORDS

    def places(self, caption, start, end):
        inside = [k for k, (a, b) in enumerate(self.split(caption)) if a < end and b > start]
        return inside[0], inside[-1] + 1


CAPTIONS = ["a red circle", "a hexagon above a dot", "a red dot"]


def corrupted(**settings):
    return CorruptedEncoder(
        Pieces(), CAPTIONS, TextDenoisingConfig(**{"excluded": ("crimson",), **settings})
    )


def test_no_word_is_replaced_by_a_known_or_forbidden_one():
    found = corrupted()
    assert found.oov_words == ["sparrow", "ladder", "whistle"]
    assert corrupted(excluded=()).oov_words == ["sparrow", "ladder", "whistle", "crimson"]
    assert corrupted(excluded=("spar", "crimson")).oov_words == ["ladder", "whistle"]


@pytest.mark.parametrize("caption", CAPTIONS)
def test_one_word_is_replaced_and_each_token_stands_beside_its_own(caption):
    found, encoder = corrupted(), Pieces()
    words = found.oov_words
    text, places = found.replace_word(caption)
    assert text == found.replace_word(caption).text  # depends on the caption alone
    before, after = (split_words(one) for one in (caption, text))
    assert [a for (a, _), (b, _) in zip(before, after, strict=True) if a != b] != []
    [(old, new)] = [(a, b) for (a, _), (b, _) in zip(before, after, strict=True) if a != b]
    assert new in words or any(new == a + b for a in words for b in words)
    tokens, mask, _ = found([caption])
    own, replaced = tokens[0].chunk(2, dim=1)
    assert mask.all()
    assert found.width == tokens.shape[2] == 2 * encoder.width
    assert torch.equal(replaced, encoder([text]).tokens[0])
    assert torch.equal(own, encoder([caption]).tokens[0, places])
    # Outside of that word both are the same.
    first, last = encoder.places(text, text.index(new), text.index(new) + len(new))
    outside = [k for k in range(len(places)) if not first <= k < last]
    assert torch.equal(own[outside], replaced[outside])
    begin, end = encoder.places(caption, caption.index(old), caption.index(old) + len(old))
    assert [places[k] for k in range(first, last)] == [
        begin + k * (end - begin) // (last - first) for k in range(last - first)
    ]


WORD_CLASSES = (("red", "blue"), ("circle", "dot"))


def test_with_word_classes_words_are_replaced_by_their_nearest():
    found = corrupted(word_classes=WORD_CLASSES)
    found.nearest = {"red": ["sparrow"], "blue": ["whistle"], "circle": [], "dot": ["ladder"]}
    assert found.replace_word("a red circle").text == "a sparrow circle"
    assert found.replace_word("a hexagon above a dot").text == "a hexagon above a ladder"
    assert found.replace_word("a hexagon above a circle") == ("a hexagon above a circle", ())


def test_every_oov_word_is_assigned_in_each_class():
    found = corrupted(word_classes=WORD_CLASSES, oov_words=20)
    assert set(found.nearest) == {"red", "blue", "circle", "dot"}
    for word_class in WORD_CLASSES:
        assert sum(len(found.nearest[word]) for word in word_class) == 20
    assert found.nearest == corrupted(word_classes=WORD_CLASSES, oov_words=20).nearest


def test_rare_words_are_replaced_more_often():
    captions = [
        f"a {'abcdefghijklmnopqrst'[k % 20]}{'aeioubdfgh'[k // 20]}oo bird" for k in range(200)
    ]
    found = CorruptedEncoder(Pieces(), captions, TextDenoisingConfig())
    gone = [split_words(found.replace_word(one).text)[1][0] not in one for one in captions]
    assert sum(gone) > 190  # one in 200 has it, all have the others: 200 : 1 : 1


def test_a_caption_that_would_be_too_long_or_has_no_word_stays():
    encoder = Pieces()
    encoder.max_length = 3
    found = CorruptedEncoder(encoder, ["a red circle"], TextDenoisingConfig())
    assert found.replace_word("a red circle") == ("a red circle", ())
    assert found.replace_word("1234") == ("1234", ())
    tokens = found(["a red circle"]).tokens
    assert torch.equal(*tokens[0].chunk(2, dim=1))


def batch(number=64, length=5, width=8, drop=0.0):
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randn(number, length, 2 * width, generator=generator)
    mask = torch.arange(length) < torch.randint(2, length + 1, (number, 1), generator=generator)
    noise = TrainingNoise.sample((number, 3, 2, 2), 0, 3, drop, False)
    return TextEmbedding(tokens * mask[..., None], mask), noise


def denoising(width=8, **settings):
    return TextDenoising(
        TextDenoisingConfig(layers=1, **settings), nn.ModuleList([TextLayer(width)])
    )


IMAGES = torch.zeros(64, 3, 2, 2)


def test_the_error_of_layers_that_are_nothing_yet_is_what_was_done_to_the_text():
    text, noise = batch()
    assert torch.equal(denoising(corruption_rate=0.0)(IMAGES, text, noise), torch.zeros(64))
    found = denoising(corruption_rate=1.0, replace_rate=1.0, full_replace_rate=0.5, noise_rate=0.0)(
        IMAGES, text, noise
    )
    for k, seed in enumerate(noise.t.view(torch.int32).tolist()):
        u = torch.rand(6, generator=torch.Generator().manual_seed(seed))
        own, replaced = text.tokens[k, text.mask[k]].chunk(2, dim=1)
        way = 1 if u[5] < 0.5 else 1 - (1 - u[3]) ** 1.5
        expected = (way * (replaced - own)).square().mean() / own.square().mean()
        torch.testing.assert_close(found[k], expected)


def test_noise_is_as_large_as_it_says():
    text, noise = batch(number=512, width=64)
    images = torch.zeros(512, 3, 2, 2)
    for single, common in ((1.0, 0.0), (0.0, 1.0), (0.6, 0.8)):
        settings = {
            "corruption_rate": 1.0,
            "replace_rate": 0.0,
            "noise_rate": 1.0,
            "token_noise": single,
            "caption_noise": common,
        }
        found = denoising(64, **settings)(images, text, noise)
        # Uniform up to 1: a third of the square, in the mean.
        assert abs(found.mean().item() - (single**2 + common**2) / 3) < 0.03


def test_dropped_text_is_zero_and_shall_stay_so():
    text, noise = batch(drop=1.0)
    assert torch.equal(denoising()(IMAGES, text, noise), torch.zeros(64))
    one = denoising()
    nn.init.ones_(one.layers[0].out.bias)
    assert (one(IMAGES, text, noise) > 0).all()


def test_padding_changes_nothing():
    text, noise = batch()
    one = denoising(corruption_rate=0.0)
    nn.init.normal_(one.layers[0].out.weight)
    found = one(IMAGES, text, noise)
    torch.testing.assert_close(one(IMAGES, text.padded(16), noise), found)


RECIPE = """
name = "text-denoising"
[text_denoising]
layers = 2
[data]
kind = "shapes"
num_captions = 50
[data.mixture]
text_rendering = 1.0
[train]
images = {images}
batch_size = 16
log_every = 64
save_every = 64
sample_every = 0
precision = "fp32"
init = "{init}"
[optim]
lr = 2e-3
warmup = 0
[ema]
half_life = 100
"""


@pytest.fixture
def recipe(tmp_path, model_folder):
    def make(*settings, images=256, init=model_folder):
        file = tmp_path / "text_denoising.toml"
        file.write_text(RECIPE.format(images=images, init=init))
        return read_recipe(file, (f"out={tmp_path / 'run'}", *settings))

    return make


@pytest.mark.filterwarnings("ignore:train.init")
def test_it_learns_and_leaves_all_else_as_it_is(recipe, tmp_path, model_folder):
    config = recipe("text_denoising.threshold=0.05")
    Trainer(config, open_source(config.data), Pieces()).fit()
    base = load_tensors(model_folder / "base" / "model.safetensors")
    found = load_tensors(tmp_path / "run" / "model" / "base" / "model.safetensors")
    assert all(torch.equal(found[name], tensor) for name, tensor in base.items())
    new = {name for name in found if name not in base}
    assert {name.split(".")[0] for name in new} == {"text_denoiser"}
    assert any(found[name].abs().sum() for name in new if name.endswith("mlp.out.weight"))
    cascade = load(tmp_path / "run" / "model", device="cpu")
    network = cascade.stages["base"].network.config
    assert (network.text_denoiser, network.text_denoiser_threshold) == (2, 0.05)
    assert cascade.config.trained["base"]["text_denoising"]["layers"] == 2
    assert cascade.config.trained["base"]["text_denoising"]["images"] == 256


@pytest.mark.filterwarnings("ignore:train.init")
def test_unknown_words_come_nearer_to_what_they_stand_for(recipe):
    config = recipe(images=2048)
    trainer = Trainer(config, open_source(config.data), Pieces())
    trainer.fit()
    captions = [open_source(config.data).phrase(k)[1] for k in range(50)]
    tokens, mask, _ = CorruptedEncoder(Pieces(), captions, TextDenoisingConfig())(captions)
    own, replaced = tokens.chunk(2, dim=2)
    halfway = TextEmbedding((own + replaced) / 2, mask)
    with trainer.averaged() as stage, torch.no_grad():
        for layer in stage.network.text_denoiser:
            halfway = layer(halfway)
    before = (replaced - own).div(2).square().sum()
    after = (halfway.tokens - own)[mask].square().sum()
    assert after < before / 2


@pytest.mark.filterwarnings("ignore:train.init")
def test_it_resumes_to_the_bit(recipe, tmp_path):
    for run, lengths in (("a", [128]), ("b", [64, 128])):
        for images in lengths:
            config = recipe(f"out={tmp_path / run}", images=images)
            Trainer(config, open_source(config.data), Pieces()).fit()
    one, other = (
        load_tensors(tmp_path / run / "model" / "base" / "model.safetensors") for run in "ab"
    )
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_what_does_not_go_with_it_is_refused(recipe, model_folder):
    with pytest.raises(ConfigError, match="needs a trained network"):
        recipe("train.init=", "stage={name='base', resolution=64}")
    for setting in (f"distill.teacher={model_folder}", "adapter.rank=2", "train.align_every=8"):
        with pytest.raises(ConfigError, match=r"does not go with text_denoising\.layers"):
            recipe(setting)
    with pytest.raises(ConfigError, match="must be between 0 and 1"):
        recipe("text_denoising.corruption_rate=1.5")
    with pytest.raises(ConfigError, match="must not be negative"):
        recipe("text_denoising.token_noise=-1")
    with pytest.raises(ConfigError, match="at least 1"):
        recipe("text_denoising.oov_words=0")
    with pytest.raises(ConfigError, match="is no class"):
        recipe("text_denoising.word_classes=[['red']]")
    with pytest.raises(ConfigError, match="has 'red' 2 times"):
        recipe("text_denoising.word_classes=[['red', 'blue'], ['dot', 'red']]")


def test_a_distilled_student_may_be_trained_so(recipe):
    """Its predictions are guided, which learning from pictures would undo; this does not."""
    assert recipe("stage.distilled_guidance=2.0").stage.distilled_guidance == 2.0
