"""Letters of quoted text: which are found, and what networks make of them."""

import pytest
import torch

from open_imagen.cascade.stage import Stage
from open_imagen.cascade.stage_config import StageConfig
from open_imagen.text.letters import letter_indices, quoted, with_letters
from open_imagen.types import NUM_LETTERS, TextEmbedding, stack_texts


@pytest.mark.parametrize(
    ("caption", "text"),
    [
        ('a sign that says "STOP"', "STOP"),
        ("a sign that says \u201cSTOP\u201d", "STOP"),
        ("ein Schild mit \u201eHALT\u201c", "HALT"),
        ("un panneau \u00ab\u00a0STOP \u00bb", "STOP"),
        ("\u5199\u7740\u300cSTOP\u300d\u7684\u724c\u5b50", "STOP"),
        ("a sign that reads 'GO'", "GO"),
        ("a sign that reads \u2018GO\u2019", "GO"),
        ('two signs, "GO" and "NO"', "GO NO"),
        ('a sign that says "DON\'T"', "DON'T"),
        ("the dog's bone and the cats' house", ""),
        ("the dog\u2019s bone", ""),
        ('5" nails', ""),
        ('""', ""),
        ("STOP", ""),
        ("", ""),
    ],
)
def test_quoted_text(caption, text):
    assert quoted(caption) == text


def test_indices_are_printable_ascii_in_order_cut_and_padded():
    found = letter_indices(['" ~"', '"ABCDE"', '"A\u00e9B"', "none"], 4)
    assert found.dtype == torch.int64
    assert found.tolist() == [[1, 95, 0, 0], [34, 35, 36, 37], [34, 0, 35, 0], [0, 0, 0, 0]]
    assert int(found.max()) == NUM_LETTERS - 1


def stage_of(preset, **network):
    torch.manual_seed(0)
    lowres = 64 if "sr" in preset else 0
    network = {"preset": preset, **network}
    config = StageConfig(name="one", resolution=lowres * 4 or 64, lowres=lowres, network=network)
    stage = Stage(config).eval().requires_grad_(False)
    for parameter in stage.parameters():
        if not parameter.abs().sum():
            torch.nn.init.normal_(parameter, std=0.05)
    return stage


def text_of(captions, length):
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randn(1, 5, 384, generator=generator).repeat(len(captions), 1, 1)
    mask = torch.tensor([True, True, True, True, False]).repeat(len(captions), 1)
    return with_letters(TextEmbedding(tokens * mask[..., None], mask), captions, length)


def sample(stage, text):
    generators = [torch.Generator().manual_seed(3) for _ in text.mask]
    lowres = torch.zeros(len(text.mask), 3, 64, 64) if stage.config.lowres else None
    return stage.sample(text, generators, lowres=lowres)


@pytest.mark.parametrize("preset", ["tiny-base-64", "tiny-sr-256"])
def test_networks_read_letters_and_their_order(preset):
    stage = stage_of(preset, letters=6)
    captions = ['says "ON"', 'says "NO"', "says nothing"]
    on, no, nothing = sample(stage, text_of(captions, stage.letters))
    assert not torch.equal(on, no)
    assert not torch.equal(on, nothing)
    # No letters, and none asked for, is one and the same.
    without = text_of(captions[2:], 0)
    torch.testing.assert_close(sample(stage, without)[0], nothing, rtol=0, atol=1e-5)


@pytest.mark.parametrize("preset", ["tiny-base-64", "tiny-sr-256"])
def test_dropped_text_has_no_letters(preset):
    stage = stage_of(preset, letters=6)
    network = stage.network
    text = text_of(['says "ON"', 'says "NO"'], 6)
    dropped = text.dropped(torch.tensor([True, False]))
    assert dropped.letters.tolist() == [[0] * 6, text.letters[1].tolist()]
    read = network.encode_text(text.null())
    torch.testing.assert_close(read.pooled[0], read.pooled[1])
    assert read.mask.sum(1).tolist() == [1, 1]
    assert network.encode_text(text).mask.sum(1).tolist() == [6, 6]


def test_networks_without_letters_have_no_weights_for_them():
    assert not [name for name, _ in stage_of("tiny-base-64").named_parameters() if "letter" in name]


def test_letters_are_kept_by_all_that_is_done_to_embeddings():
    text = text_of(['"AB"', '"CD"'], 3)
    assert text.select(slice(1, 2)).letters.tolist() == [[36, 37, 0]]
    assert torch.equal(text.padded(8).letters, text.letters)
    assert torch.equal(text.to("cpu", torch.float16).letters, text.letters)
    plain = text_of(["none"], 0)
    both = stack_texts([plain, text])
    assert both.letters.tolist() == [[0, 0, 0], [34, 35, 0], [36, 37, 0]]
    assert stack_texts([plain, plain]).letters is None
