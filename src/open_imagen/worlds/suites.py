"""Suites and judges by name, those of the worlds among them: importing this registers them."""

from open_imagen.evaluation.judges.judge import JUDGES
from open_imagen.evaluation.suites.suite import open_suite
from open_imagen.worlds.shapes import judge, suite

__all__ = ["JUDGES", "judge", "open_suite", "suite"]
