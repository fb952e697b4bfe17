"""The model card: every figure in it was measured."""

import pytest
import torch

from open_imagen.errors import ConfigError
from open_imagen.worlds.things.card import CardFacts, card, run_of
from open_imagen.worlds.things.card_likeness import LikenessConfig, draw_sheet, measure_likeness
from open_imagen.worlds.things.evaluate import share
from things_judging import ATLAS, picture, placed

SOURCES = ({"package": "@iconify-json/noto", "version": "1.2.9", "style": "drawn", "licence": "A"},)
CONFIG = LikenessConfig(samples=6, diverse_prompts=2, seeds=3, references=8)
NAMES = [thing.label for thing in ATLAS.things]


class Copies:
    """Draws the thing of each prompt exactly, but nothing for the first prompt."""

    facts = {"model": "copies"}  # noqa: RUF012

    def __init__(self):
        self.first = None

    def draw(self, prompts, seeds):
        self.first = self.first or prompts[0]
        return torch.cat([self._draw(prompt) for prompt in prompts])

    def _draw(self, prompt):
        if prompt == self.first:
            return torch.zeros(1, 4, 64, 64, dtype=torch.uint8)
        return picture(placed(next(name for name in NAMES if prompt.endswith(name))))


@pytest.fixture(scope="module")
def measured():
    return measure_likeness(Copies(), ATLAS, CONFIG)


def test_copies_are_found_to_be_copies(measured):
    record, images = measured
    assert (len(record["samples"]), images.shape) == (6, (6, 4, 64, 64))
    first, *others = record["samples"]
    assert (first["sprite"], record["nothing_shown"]) == (-1, 1)
    assert all(row["prompt"].endswith(row["thing"]) for row in others)
    assert record["near_copies"]["0.12"] == 1.0
    assert record["exact"]["near_copies"]["0.12"] > 0.5  # small ones are blurred
    assert record["other_things"]["median"] > record["exact"]["median"]
    assert record["diversity"] == {"distance": 0.0, "sprites": 0.5}
    assert record["art_diversity"]["distance"] > 0.1
    sheet = draw_sheet(record["samples"], images, ATLAS)
    assert sheet.getbbox() is not None


def facts(measured, **more):
    class Art:
        things, sprites, sources = ATLAS.things, ATLAS.sprites, SOURCES

    header = {
        "name": "things",
        "encoder": "minilm-l6",
        "stages": ["base"],
        "defaults": {"base": {"steps": 30, "sampler": "dpmpp_2m", "guidance": 2.5}},
        "trained": {"base": {"images": 640, "of": 6400, "hours": 0.5, "data": {"kind": "things"}}},
    }
    return CardFacts(header, {"base": 1234567}, Art(), measured[0], **more)


def test_a_card_says_what_was_measured_and_what_was_not(measured):
    text = card(facts(measured))
    assert text.startswith("---\nlicense: apache-2.0\n")
    assert "| base | 1,234,567 | scenes of things at ? pixels | 640 of 6,400 (not complete)" in text
    assert "| drawn | @iconify-json/noto 1.2.9 | Google | A |" in text
    assert "| 5 samples of the model | " in text
    assert "1 of the samples show nothing" in text
    assert "Not measured yet (`imagen evaluate things`)" in text
    assert "The judge has not been held to labels" in text
    assert "DrawBench" not in text


def test_reports_become_tables_and_weak_categories_limits(measured):
    known = {"accepted": 0.97, "wrong_accepted": 0.0}
    label = {**share([True] * 9 + [False]), "judge": known, "parts": {}}
    place = {**share([True, False]), "judge": known, "of_present": share([True]), "parts": {}}
    suite = {"count": 10, "seed": 1, "stages": 2, "model_hash": "abc"}
    suite["categories"] = {"label": label, "place": place}
    bench = [
        {"model": "things", "categories": {"Colors": share([True, False])}},
        {"model": "nearest-sprite", "categories": {"Colors": share([False, False])}},
    ]
    labels = {"things": share([True] * 19 + [False])}
    text = card(facts(measured, suite=suite, drawbench=bench, labels=labels))
    assert "| label: a thing by its label | 90.0% | 10 | 59.6% to 98.2% | 97.0% |" in text
    assert "| place, of those with all things there | 100.0% | 1 |" in text
    assert "Right in less than 80%: two things in a relation, in all wordings (50%)." in text
    assert "| Colors | 2 | 1 (9% to 91%) | 0 (0% to 66%) |" in text
    assert "95.0% of 20 things" in text
    assert "The judge has not been held" not in text


def test_paths_of_machines_stay_out_of_cards():
    assert run_of("/home/me/runs/things-base/model") == "things-base"
    assert run_of("scenes-teacher") == "scenes-teacher"


def test_a_count_of_nothing_is_refused():
    with pytest.raises(ConfigError, match="seeds = 0"):
        LikenessConfig(seeds=0)
