"""Hints: what a prompt names that the model does not know, and how often a hint is wrong."""

from pathlib import Path

import pytest
import torch

from fake_atlas import FakeAtlas
from open_imagen.config import parse
from open_imagen.types import TextEmbedding
from open_imagen.worlds.things import hints
from open_imagen.worlds.things.glossary import Glossary
from open_imagen.worlds.things.hints import Hints, embed
from open_imagen.worlds.things.source import Things, ThingsConfig

HINTS = Hints(Glossary.open())


class LetterEncoder:
    """One token a letter: texts with the same letters are near each other."""

    name, width, max_length = "letters", 26, 999

    def __init__(self):
        self.calls = 0

    def num_tokens(self, caption):
        return len(caption)

    def __call__(self, captions):
        self.calls += 1
        rows = [
            torch.eye(26)[[ord(one) - 97 for one in caption if "a" <= one <= "z"] or [0]]
            for caption in captions
        ]
        return TextEmbedding.of(rows)


@pytest.fixture
def encoder(monkeypatch, tmp_path):
    monkeypatch.setenv("OPEN_IMAGEN_CACHE", str(tmp_path))
    return LetterEncoder()


@pytest.mark.parametrize(
    "prompt, known",
    [
        ("two red cats and a bowl of rice", ("cat", "bowl of rice")),
        ("slices of pizza", ("slice of pizza",)),
        ("A Teddy-Bear to the left of a blue circle", ("circle",)),
        ("a t-shirt", ("t-shirt",)),
        ("happiness", ()),
    ],
)
def test_known_words(prompt, known):
    assert HINTS.known_words(prompt) == known


@pytest.mark.parametrize("form", ["{}", "A {} on a table.", "three cats and a {}"])
def test_every_name_of_the_glossary_is_known(form):
    names = HINTS.glossary.english_names
    assert [name for name in names if name not in HINTS.known_words(form.format(name))] == []


@pytest.mark.parametrize(
    "prompt, unknown",
    [
        ("a cat on a trampoline", ("trampoline",)),
        ("a Shiba Inu and a cat", ("shiba inu",)),
        ("a glittering cat on a red background", ()),
        ('a cat beside a sign that says "FNORD"', ()),
        ("the dog's bone", ()),
    ],
)
def test_unknown_nouns(prompt, unknown):
    assert HINTS.unknown_nouns(prompt) == unknown


def test_a_hint_names_the_nearest_words(encoder):
    assert HINTS.hint("a cat", encoder) is None
    assert HINTS.hint('"HELLO"', encoder) is None
    assert encoder.calls == 0  # no distance is asked for where all is known
    hint = HINTS.hint("a zarbez", encoder)
    assert hint.startswith("The model knows nothing in 'a zarbez': nearest known words: zebra, ")
    hint = HINTS.hint("a cat and a zarbez", encoder)
    assert hint.startswith("The model does not know 'zarbez': nearest known words: zebra, ")
    assert HINTS.hint("一只猫和一只麒麟", encoder) == "The model does not know: 麒麟."
    assert HINTS.hint("麒麟", encoder) == "The model knows nothing in '麒麟'."
    assert len(HINTS.hint("zarbez " * 500, encoder)) < 200


def test_distances_are_computed_once_and_kept(encoder, tmp_path):
    near = Hints(HINTS.glossary).nearest(["zarbez"], encoder)
    calls = encoder.calls
    assert Hints(HINTS.glossary).nearest(["zarbez"], encoder) == near
    assert encoder.calls == calls + 1  # the text itself
    [file] = (tmp_path / "known-words").iterdir()
    file.write_bytes(b"damaged")
    assert Hints(HINTS.glossary).nearest(["zarbez"], encoder) == near


def test_the_package_has_the_distances_of_the_shipped_encoder():
    labels = sorted(HINTS.glossary.english)
    table = hints.read_table(hints.FILE, hints.table_key("minilm-l6", labels))
    assert table.shape == (len(labels), 384)
    torch.testing.assert_close(table.norm(dim=1), torch.ones(len(labels)), rtol=0, atol=0.01)
    assert hints.FILE.stat().st_size < 500_000


def test_embeddings_do_not_depend_on_their_batch(encoder):
    texts = ["dog", "a much longer text", "ox", *("cat" + "t" * k for k in range(70))]
    alone = torch.cat([embed([text], encoder) for text in texts])
    torch.testing.assert_close(embed(texts, encoder), alone)


def test_captions_of_the_training_data_raise_no_false_alarm():
    source = Things(parse(ThingsConfig, {}, "data."), atlas=FakeAtlas())
    invented = {tag for thing in FakeAtlas().things for tag in thing.tags}
    for k in range(300):
        caption = source.example(k)[1]
        assert set(HINTS.unknown_nouns(caption)) <= invented, caption


def test_sentences_of_users_raise_few_false_alarms():
    lines = Path(__file__).with_name("english_prompts.tsv").read_text().splitlines()
    found = false = clean = 0
    for line in lines:
        prompt, _, nouns = line.partition("\t")
        right = {noun for noun in nouns.split(", ") if noun}
        said = set(HINTS.unknown_nouns(prompt))
        found += bool(right & said)
        clean += not right
        false += not right and bool(said)
    assert false <= 0.08 * clean
    assert found >= 0.7 * (len(lines) - clean)
