"""The glossary: what prompts of other languages become, exactly."""

# ruff: noqa: RUF001

import json
import random
from pathlib import Path

import pytest

from fake_atlas import FakeAtlas
from open_imagen.config import parse
from open_imagen.errors import DataError
from open_imagen.worlds.things import glossary_data
from open_imagen.worlds.things.chinese_phrases import NEVER, simplified
from open_imagen.worlds.things.chinese_words import TABLES
from open_imagen.worlds.things.glossary import MOST_LETTERS, SHAPES, Glossary
from open_imagen.worlds.things.held_out import tag_held_out
from open_imagen.worlds.things.language_words import COLORS, ORDER, small_words
from open_imagen.worlds.things.source import Things, ThingsConfig
from open_imagen.worlds.things.tags import read_table

HERE = Path(__file__).parent
GLOSSARY = Glossary.open()


def prompts(name):
    """Prompts of a file and the English that each may become."""
    lines = (HERE / name).read_text(encoding="utf-8").splitlines()
    return [(line.split("\t")[0], line.split("\t")[1].split(" | ")) for line in lines]


@pytest.mark.parametrize(
    "name, share",
    [
        ("chinese_prompts.tsv", 0.98),
        ("chinese_prompts_2.tsv", 1.0),
        ("chinese_prompts_3.tsv", 0.96),
        ("chinese_prompts_4.tsv", 0.98),
    ],
)
def test_chinese_prompts_become_the_right_english(name, share):
    asked = prompts(name)
    wrong = [prompt for prompt, right in asked if GLOSSARY.read(prompt).prompt not in right]
    assert len(wrong) <= (1 - share) * len(asked) + 1e-9, wrong


@pytest.mark.parametrize(
    "prompt, english, unknown",
    [
        ("两只猫", "two cats", ()),
        ("猫在狗的左边", "a cat to the left of a dog", ()),
        ("狗的右边有一只猫", "a cat to the right of a dog", ()),
        ("左边是猫，右边是狗", "a cat on the left and a dog on the right", ()),
        ("一只猫，它的上面有一只鸟", "a bird above a cat", ()),
        ("红色的小汽车，3D风格，白底", "a red car, 3d style, white background", ()),
        ("红蓝相间的背景上有一只猫", "a cat on a red and blue background", ()),
        ('写着"你好 Cat"的红色牌子', 'a red sign that says "你好 Cat"', ()),
        ("一只麒麟和一只猫", "a cat", ("麒麟",)),
        ("麒麟", "麒麟", ("麒麟",)),
        ("兩隻貓在樹的左邊", "two cats to the left of a tree", ()),
    ],
)
def test_chinese_rules(prompt, english, unknown):
    reading = GLOSSARY.read(prompt)
    assert (reading.prompt, reading.language, reading.unknown) == (english, "zh", unknown)


@pytest.mark.parametrize(
    "prompt, language, english",
    [
        ("un gato rojo", "es", "a red cat"),
        ("un chat noir et deux chiens", "fr", "a black cat and two dogs"),
        ("die Katze auf dem Auto", "de", "a cat on a car"),
        ("drei blaue Vögel", "de", "three blue birds"),
        ("um gato preto e um cachorro", "pt", "a black cat and a dog"),
        ("una rosa rossa", "it", "a red rose"),
        ("кот на синем фоне", "ru", "a cat on a blue background"),
        ("青い車と黄色いバス", "ja", "a blue car and a yellow bus"),
        ("고양이와 개", "ko", "a cat and a dog"),
        ("czerwony kot", "pl", "a red cat"),
        ("con mèo đỏ", "vi", "a red cat"),
        ("แมวสีแดง", "th", "a red cat"),
        ("लाल बिल्ली", "hi", "a red cat"),
        ('un gato y "HOLA"', "es", 'a cat and "HOLA"'),
    ],
)
def test_other_languages_by_names_alone(prompt, language, english):
    reading = GLOSSARY.read(prompt)
    assert (reading.language, reading.prompt) == (language, english)


def test_english_passes_through_untouched():
    source = Things(parse(ThingsConfig, {}, "data."), atlas=FakeAtlas())
    english = [prompt for prompt, _ in prompts("english_prompts.tsv")]
    for prompt in [*english, *(source.example(k)[1] for k in range(300)), "", "  ", "1234", "?!"]:
        reading = GLOSSARY.read(prompt)
        assert (reading.prompt, reading.language, reading.unknown) == (prompt, "en", ())


def test_nothing_that_people_may_type_breaks_it():
    rng = random.Random(0)
    parts = [*sorted(GLOSSARY.chinese.names)[::7], *"左右上下中的有是在，。“”\"'一两三红大3d了0"]
    parts += ["写着", "牌子", "背景", "透明", "左边", "\ue000", "\ue100", "\ue201", "\ue900", " "]
    for _ in range(300):
        prompt = "".join(rng.choices(parts, k=rng.randint(1, 14)))
        read = GLOSSARY.read(prompt).prompt
        assert read == prompt or not any("\ue000" <= one <= "\uf8ff" for one in read)
    essay = "猫" * (MOST_LETTERS + 1)
    assert GLOSSARY.read(essay).prompt == essay


def test_every_chinese_word_leads_to_something_that_is_trained():
    tags = {tag for names in GLOSSARY.english.values() for tag in names if not tag_held_out(tag)}
    gendered = {"older man", "older woman", "mermaid"}
    gendered |= {f"{one} with {what}" for one in ("man", "woman") for what in ("crown", "veil")}
    known = set(GLOSSARY.english) | tags | gendered | SHAPES
    table = read_table(*TABLES)
    assert set(table) <= known
    words = [word for names in table.values() for word in names]
    assert len(words) == len(set(words))
    labels = "\n".join(TABLES).replace("\n", "; ").split("; ")
    heads = [entry.split(": ")[0] for entry in labels if ": " in entry]
    assert len(heads) == len(set(heads))  # the second of two entries would hide the first
    assert not set(words) & NEVER


def test_small_words_of_every_language():
    for code in ORDER:
        found = small_words(code)
        assert set(found.colors.values()) == set(COLORS), code
        assert set(found.numbers.values()) == {1, 2, 3, 4, 5}, code
        assert "background" in found.names.values() or code == "bn"
    assert set(GLOSSARY.names) == {*ORDER, "es-mx", "zh", "zh-hant"}


def test_simplified_keeps_what_is_simplified():
    words = "".join(word for names in read_table(*TABLES).values() for word in names)
    assert simplified(words) == words


def test_the_data_file_is_what_the_package_gives(tmp_path):
    entry = {"label": "cat", "hexcode": "1F408", "group": 3, "subgroup": 1, "tags": []}
    for language in ("en", *glossary_data.LANGUAGES):
        names = {"zh": "\u732b", "de": "Katze"}
        folder = tmp_path / language
        folder.mkdir()
        values = [{**entry, "label": names.get(language, "cat"), "tags": ["\u5c0f\u732b"]}]
        (folder / "data.json").write_text(json.dumps(values), encoding="utf-8")
    path = tmp_path / "glossary.json.gz"
    size = glossary_data.write(tmp_path, path)
    first = path.read_bytes()
    assert size == len(first)
    glossary_data.write(tmp_path, path)
    assert path.read_bytes() == first
    tiny = Glossary.open(path)
    assert tiny.names["de"] == {"katze": "cat"}
    assert tiny.tags["zh"] == {"\u5c0f\u732b": "cat"}
    assert tiny.read("drei Katzen").prompt == "three cats"
    path.write_bytes(first[:-9])
    with pytest.raises(DataError, match="damaged"):
        Glossary.open(path)
    with pytest.raises(DataError, match="not emojibase-data"):
        glossary_data.write(tmp_path / "nowhere", path)
