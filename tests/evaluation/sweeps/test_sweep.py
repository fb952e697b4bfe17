"""Sweeps: grids, fronts by hand, resume, what is measured, and the plots."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from open_imagen.cascade.sampling import Sampling
from open_imagen.errors import ConfigError, UnknownName
from open_imagen.evaluation.metrics.scores import Protocol, Scorer, parse_measure
from open_imagen.evaluation.sweeps.plots import write_figure, write_page
from open_imagen.evaluation.sweeps.sweep import (
    Sweep,
    grid,
    pareto,
    parse_axis,
    run_sweep,
    settings_of,
)
from open_imagen.worlds.suites import open_suite


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("OPEN_IMAGEN_CACHE", str(tmp_path / "cache"))


def test_a_grid_is_every_combination_last_axis_fastest():
    axes = [parse_axis("base.guidance=1,2.5"), parse_axis("threshold=dynamic,static,none")]
    points = grid(axes)
    assert len(points) == 6
    assert points[1].values == {"base.guidance": 1.0, "threshold": "static"}
    assert points[3].slug == "0003-base.guidance-2.5-threshold-dynamic"


def test_settings_go_to_their_stage_or_to_all(cascade):
    axes = [parse_axis("base.guidance=3"), parse_axis("steps=2"), parse_axis("stages=1")]
    settings, stages = settings_of(
        grid(axes)[0], axes, cascade, {"base": Sampling(guidance=9.0, percentile=95.0)}
    )
    assert stages == 1
    assert settings["base"] == Sampling(guidance=3.0, steps=2, percentile=95.0)
    assert settings["sr256"] == Sampling(steps=2)
    with pytest.raises(UnknownName, match="stage"):
        settings_of(
            grid([parse_axis("bass.steps=1")])[0], [parse_axis("bass.steps=1")], cascade, {}
        )


@pytest.mark.parametrize(
    "text,message",
    [
        ("guidance", "has no values"),
        ("guidance=", "has no values"),
        ("guidanc=1", "setting called 'guidanc'"),
        ("guidance=a", "not a number"),
        ("guidance=1,1", "a value twice"),
        ("threshold=dynamical", "threshold"),
        ("steps=0", "steps = 0"),
        ("steps=2.5", "not a number"),
    ],
)
def test_bad_axes_are_refused(text, message):
    with pytest.raises(ConfigError, match=message):
        parse_axis(text)


def test_a_front_by_hand():
    def point(x, y):
        high = {"value": x, "higher_is_better": True}
        return {"scores": {"clip": high, "fid": {"value": y, "higher_is_better": False}}}

    # (clip, fid): higher and lower are better. 3 is beaten by 1, 4 by 2; 5 equals 2;
    # 6 is as good as 0 in one measure and worse in the other, 7 likewise as 2.
    points = [
        point(*v)
        for v in ((10, 5), (20, 7), (30, 12), (15, 8), (25, 13), (30, 12), (9, 5), (30, 13))
    ]
    assert pareto(points, "clip", "fid") == [0, 1, 2, 5]


def small_sweep(cascade, out, seed=0, progress=None):
    suite = open_suite("shapes:single", 3)
    plan = Sweep(
        axes=(parse_axis("base.guidance=1,4"), parse_axis("base.threshold=dynamic,static")),
        measures=(parse_measure("alignment"), parse_measure("reconstruction_rmse")),
        seed=seed,
        stages=1,
    )
    return run_sweep(cascade, suite, plan, Scorer(Protocol()), out, None, progress)


def test_a_sweep_measures_every_point_once(tmp_path, cascade):
    progress = []
    results = small_sweep(cascade, tmp_path / "s", progress=lambda *t: progress.append(t))
    assert progress[-1] == ("point 4 of 4", 12, 12)
    assert [p["values"]["base.guidance"] for p in results["points"]] == [1.0, 1.0, 4.0, 4.0]
    lines = (tmp_path / "s" / "table.csv").read_text().splitlines()
    assert lines[0].startswith(
        "base.guidance,base.threshold,alignment,alignment error,reconstruction_rmse"
    )
    assert len(lines) == 5
    record = json.loads((tmp_path / "s" / results["points"][2]["folder"] / "run.json").read_text())
    assert record["system"]["settings"]["base"]["guidance"] == 4.0
    # Guidance weights of pictures with the same seeds: other pictures, so the settings arrived.
    first, third = (
        np.asarray(
            Image.open(tmp_path / "s" / results["points"][k]["folder"] / "00000/samples/0000.png")
        )
        for k in (0, 2)
    )
    assert not np.array_equal(first, third)

    stamps = {p: p.stat().st_mtime_ns for p in (tmp_path / "s").rglob("*.png")}
    assert small_sweep(cascade, tmp_path / "s")["points"] == results["points"]
    assert stamps == {p: p.stat().st_mtime_ns for p in (tmp_path / "s").rglob("*.png")}
    with pytest.raises(ConfigError, match="another sweep: seed differ"):
        small_sweep(cascade, tmp_path / "s", seed=5)


def test_plots_and_page_show_every_point_and_hold_everything(tmp_path, cascade):
    results = small_sweep(cascade, tmp_path / "s")
    write_figure(results, "alignment", "reconstruction_rmse", tmp_path / "plot.png")
    with Image.open(tmp_path / "plot.png") as image:
        assert image.width > 800
        colors = np.unique(np.asarray(image.convert("RGB")).reshape(-1, 3), axis=0)
    assert {(37, 99, 235), (217, 119, 6)} <= set(map(tuple, colors.tolist()))
    write_page(results, [("alignment", "reconstruction_rmse")], tmp_path / "index.html")
    page = (tmp_path / "index.html").read_text()
    assert page.count("<tr") == 5
    assert "<svg" in page
    assert "src=" not in page


@pytest.mark.slow
def test_two_processes_share_a_sweep(tmp_path, model_folder):
    words = ["sweep", "--model", str(model_folder), "--vary", "base.guidance=1,2", "--count", "3"]
    words += ["--suite", "shapes:single", "--batch-size", "1", "--stages", "1", "--device", "cpu"]
    alone, shared = tmp_path / "alone", tmp_path / "shared"
    one = [sys.executable, "-m", "open_imagen", *words, "--out", str(alone)]
    two = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    two += ["--master-port", "29611", "-m", "open_imagen", *words, "--out", str(shared)]
    # torchrun computes with one thread, and sums in another order have other last digits.
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    for command in (one, two):
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)
        assert done.returncode == 0, done.stderr[-2000:]
    assert (shared / "table.csv").read_text() == (alone / "table.csv").read_text()
    for file in alone.rglob("0*.png"):
        assert (shared / file.relative_to(alone)).read_bytes() == file.read_bytes()
