"""Evaluation: does the picture show what the caption asked for?"""

from open_imagen.evaluation.checker import look
from open_imagen.evaluation.scene_runner import SceneEvaluation, evaluate_scenes

__all__ = ["SceneEvaluation", "evaluate_scenes", "look"]
