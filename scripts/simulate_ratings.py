"""Coverage of rating intervals in simulated DrawBench studies with quotas and missing votes.

Each category has raters of its own, as many as the quota; prompts and raters differ as people's
do. Prints how often the 95 % intervals hold the truth: of each category, and over all of them.

    python scripts/simulate_ratings.py --studies 200
"""

import argparse
import math

import numpy as np

from open_imagen.evaluation.human.ratings import Votes, mean_intervals

CATEGORIES, PROMPTS = 11, 18
PROMPT_SPREAD, TRUTH = 1.0, 0.4
"""In logits."""


def expected_share(habit: float) -> float:
    """The mean of the logistic of a normal variable, by Gauss-Hermite quadrature."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    values = 1 / (1 + np.exp(-(TRUTH + math.hypot(PROMPT_SPREAD, habit) * nodes)))
    return float((weights * values).sum() / weights.sum())


def study(seed: int, quota: int, habit: float, missing: float) -> list[Votes]:
    """The votes on each category."""
    rng = np.random.default_rng(seed)
    found = []
    for category in range(CATEGORIES):
        by_prompt = rng.normal(0, PROMPT_SPREAD, PROMPTS)
        by_rater = rng.normal(0, habit, quota)
        chance = 1 / (1 + np.exp(-(TRUTH + by_prompt[:, None] + by_rater[None])))
        p, r = np.nonzero(rng.random(chance.shape) >= missing)
        values = (rng.random(len(p)) < chance[p, r]).astype(float)
        prompts = [(category, int(k)) for k in p]
        found.append(Votes(prompts, [(category, int(k)) for k in r], values[:, None]))
    return found


def coverage(studies: int, quota: int, habit: float, missing: float) -> tuple[float, float]:
    """Shares of intervals that hold the truth: over all votes, and of a category."""
    truth = expected_share(habit)
    whole = part = 0
    for seed in range(studies):
        parts = study(seed, quota, habit, missing)
        every = Votes(
            [p for one in parts for p in one.prompts],
            [r for one in parts for r in one.raters],
            np.concatenate([one.values for one in parts]),
        )
        [found] = mean_intervals(every)
        whole += found.low <= truth <= found.high
        for one in parts:
            [found] = mean_intervals(one)
            part += found.low <= truth <= found.high
    return whole / studies, part / studies / CATEGORIES


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--studies", type=int, default=200)
    parser.add_argument("--missing", type=float, default=0.2, help="share of votes never cast")
    arguments = parser.parse_args()
    print("raters  habit  all votes  a category")
    for habit in (0.3, 0.6):
        for quota in (1, 2, 3, 5, 10, 25):
            whole, part = coverage(arguments.studies, quota, habit, arguments.missing)
            print(f"{quota:6}  {habit:5}  {whole:9.1%}  {part:10.1%}", flush=True)


if __name__ == "__main__":
    main()
