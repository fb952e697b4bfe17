"""Suites and judges by name, those of the worlds among them: importing this registers them."""

from open_imagen.evaluation.judges.judge import ALIGNMENTS, JUDGES
from open_imagen.evaluation.suites.suite import open_suite
from open_imagen.worlds.shapes import evaluate, judge, suite

__all__ = ["ALIGNMENTS", "JUDGES", "evaluate", "judge", "open_suite", "suite"]
