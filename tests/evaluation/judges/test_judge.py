"""Verdicts on runs, by the judge that each prompt names; shares, errors and intervals by hand."""

import pytest
from PIL import Image

from open_imagen.errors import DataError
from open_imagen.evaluation.image_set import ImageSet, open_images
from open_imagen.evaluation.intervals import wilson
from open_imagen.evaluation.judges.judge import (
    JUDGES,
    Verdict,
    alignment,
    judge_images,
    mean_reconstruction_rmse,
)


def test_alignment_is_the_mean_over_tags():
    verdicts = (
        [Verdict("a", True, 0.0)] * 3 + [Verdict("a", False, 0.0)] + [Verdict("b", True, 0.0)]
    )
    score, tags = alignment(verdicts)
    assert tags == {"a": 75.0, "b": 100.0}
    assert score.value == 87.5
    # Agresti-Coull: (5/8 * 3/8) / 8 and (3/5 * 2/5) / 5, over two tags.
    assert score.error == pytest.approx(100 * (15 / 64 / 8 + 6 / 25 / 5) ** 0.5 / 2)


def test_wilson_by_hand():
    low, high = wilson(50, 100)
    assert (low, high) == pytest.approx((0.4038, 0.5962), abs=1e-4)
    assert wilson(0, 10)[0] == pytest.approx(0)
    assert all(wilson(0, n)[0] >= 0 and wilson(n, n)[1] <= 1 for n in range(1, 200))


class Red:
    """Right is what is red as the row says."""

    def __call__(self, images, metadata):
        assert len(images) <= 32
        return [
            Verdict(row["tag"], int(image[0, 0, 0]) == row["red"])
            for image, row in zip(images, metadata, strict=True)
        ]


class Never:
    def __call__(self, images, metadata):
        return [Verdict(row["tag"], False, 1.0) for row in metadata]


@pytest.fixture
def judges(monkeypatch):
    monkeypatch.setitem(JUDGES._entries, "red", Red)
    monkeypatch.setitem(JUDGES._entries, "never", Never)


def colored(folder, names):
    """A run of an image for each judge named; image k has the red k."""
    rows = []
    for k, name in enumerate(names):
        Image.new("RGB", (4, 4), (k, 0, 0)).save(folder / f"{k:03d}.png")
        rows.append({"prompt": f"red {k}", "tag": name, "judge": name, "red": k})
    files = tuple(sorted(folder.glob("*.png")))
    return ImageSet(folder, files, tuple(row["prompt"] for row in rows), tuple(rows))


def test_each_prompt_is_judged_by_the_judge_that_it_names_in_order(judges, tmp_path):
    names = ["red", "never"] * 35
    progress = []
    verdicts = judge_images(colored(tmp_path, names), lambda *state: progress.append(state))
    assert [verdict.tag for verdict in verdicts] == names
    assert [verdict.right for verdict in verdicts] == [True, False] * 35
    assert progress[-1] == ("judging", 70, 70)
    with pytest.raises(DataError, match="no exact drawings"):
        mean_reconstruction_rmse(verdicts)


def test_images_that_no_judge_knows_are_refused(judges, tmp_path):
    with pytest.raises(DataError, match="no judge knows the truth"):
        judge_images(colored(tmp_path, ["red", "nobody"]))
    with pytest.raises(DataError, match="does not say what each image should show"):
        judge_images(open_images(tmp_path))
