"""What a training run will take, before it is begun."""

from open_imagen.planning.fit import check_fits
from open_imagen.planning.plan import Plan, plan

__all__ = ["check_fits", "Plan", "plan"]
