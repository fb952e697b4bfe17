"""The page of the miniature reproduction: its verdicts by hand, and every section from results."""

import sys
from pathlib import Path

import pytest

pytest.importorskip("matplotlib")
sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))
import reproduce
import reproduction_page as page
import slices

from open_imagen.storage import write_json
from open_imagen.training import read_recipe


def share(right, of):
    return {"right": right, "of": of, "share": right / of, "low": 0.0, "high": 1.0}


def test_verdicts_by_hand():
    gap = page.share_gap(share(80, 100), share(50, 100))
    # 1.96 sqrt(0.8 0.2 / 100 + 0.5 0.5 / 100) = 0.1255
    assert gap.value == pytest.approx(30.0)
    assert gap.half == pytest.approx(12.55, abs=0.01)
    assert gap.verdict == "holds"
    assert page.share_gap(share(50, 100), share(80, 100)).verdict == "does not hold"
    assert page.share_gap(share(55, 100), share(50, 100)).verdict == "cannot be told"
    # Differences 3, 1, 2: of deviation 1, so 1.96 / sqrt(3).
    assert page.paired_gap([5, 8, 4], [2, 7, 2]) == pytest.approx((2.0, 1.1316), abs=1e-4)


def results_of(name):
    recipe, differs = reproduce.MODELS.get(name, (reproduce.BASE, ()))
    facts = {"recipe": recipe, "differs": differs, "parameters": 10**6, "images": 100}
    facts |= {"hours": 1.0, "device": "cpu"}
    facts["validation"] = [[50, 0.02], [100, 0.01]]
    if recipe == reproduce.BASE:
        shares = {"sequence": 90, "words": 60, "narrow": 85}
        number = shares.get(name, 40)
        return facts | {"shapes": {c: share(number, 100) for c in reproduce.CATEGORIES}}
    rmse = {"augmented": 5.0, "clean": 9.0}.get(name, 6.0)
    levels = [float(word) for word in reproduce.NOISE_LEVELS.partition("=")[2].split(",")]
    score = {
        "reconstruction_rmse": {"value": rmse, "error": 0.1},
        "alignment": {"value": 80.0, "error": 1},
    }
    score["rmse_by_image"] = [rmse, rmse + (0.2 if name == "clean" else 0.0)]
    return facts | {"noise_levels": [{"level": level} | score for level in levels]}


def test_every_section_says_what_was_measured_or_that_nothing_was(tmp_path, monkeypatch):
    (tmp_path / "images").mkdir()
    monkeypatch.setattr(page, "RESULTS", tmp_path / "reproduction.json")
    monkeypatch.setattr(page, "PAGE", tmp_path / "reproduction.md")
    monkeypatch.setattr(page, "PLOTS", tmp_path / "images")
    page.write_page()
    assert (tmp_path / "reproduction.md").read_text().count("Not measured yet") == 5
    results = {name: results_of(name) for name in (*reproduce.MODELS, "narrow")}
    write_json(tmp_path / "reproduction.json", results)
    page.write_page()
    assert (tmp_path / "reproduction.md").read_text().count("Not measured yet") == 1
    results["image_seconds"] = {"augmented": 7.2, "plain": 18.0}
    write_json(tmp_path / "reproduction.json", results)
    page.write_page()
    text = (tmp_path / "reproduction.md").read_text()
    assert "Not measured" not in text
    assert "two objects: **holds**, +50.0 +- 11.3 points" in text  # 90 against 40 of 100
    assert "+30.0 by the encoder, +5.0 by the network" in text
    # 4 and 4.2: 0.2 / sqrt(2) is their deviation, and half of the interval 1.96 times 0.1.
    assert "reconstruction RMSE lower by 4.10 +- 0.20" in text
    assert "2.50 times as fast; it reaches the plain one's last loss after 12.0 of 30.0" in text
    pictures = {path.stem for path in (tmp_path / "images").iterdir()}
    assert len(pictures) == 5
    assert all(f"images/{name}.png" in text for name in pictures)


@pytest.mark.parametrize("name", list(reproduce.MODELS))
def test_every_model_is_a_recipe_that_can_be_read(name):
    recipe, differs = reproduce.MODELS.get(name, (reproduce.BASE, ()))
    config = read_recipe(slices.RECIPES / f"{recipe}.toml", differs)
    assert config.validation["seed"] != config.data["seed"]
    used = {model for section in page.SECTIONS.values() for model in section.models}
    assert name in used
