"""Suites and judges by name, those of the worlds among them: importing this registers them."""

from open_imagen.evaluation.judges.accuracy import EXACT_SCENES
from open_imagen.evaluation.judges.judge import JUDGES, judge_images
from open_imagen.evaluation.suites.suite import open_suite
from open_imagen.worlds.shapes import exact, judge, suite

__all__ = ["EXACT_SCENES", "JUDGES", "exact", "judge", "judge_images", "open_suite", "suite"]
