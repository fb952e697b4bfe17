"""The result of a study: who is preferred, how surely, by whom, and how far raters agree.

One self-contained HTML page with bars as in the paper, and the same as plain values.
"""

import html
import itertools
import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from open_imagen.errors import ConfigError, DataError, OpenImagenWarning
from open_imagen.evaluation.html_page import page
from open_imagen.evaluation.human.people import NO_PEOPLE, names_people
from open_imagen.evaluation.human.ratings import (
    Votes,
    bradley_terry,
    krippendorff_alpha,
    mean_intervals,
    raw_agreement,
)
from open_imagen.evaluation.human.study import CAPTION_POINTS, QUESTIONS, Study, right_answer
from open_imagen.evaluation.human.votes import Store, Vote
from open_imagen.evaluation.intervals import Interval
from open_imagen.storage import write_text

TIE = "tie"
BOOTSTRAPPED_STRENGTHS = 300


FEWEST_RATERS = 2
"""With fewer, nothing is known of how raters differ: simulated intervals of one rater, without
what is assumed of habits, covered the truth in 81.5 % of studies."""


def report(store: Store, min_controls: float | None = None) -> dict[str, Any]:
    """Everything that a study's votes say; warns where intervals rest on too few raters.

    Args:
        min_controls: raters with a smaller share of right answers in control trials are left out;
            None: as the study's protocol says (drawbench: nobody is left out).

    Raises:
        ConfigError: ``min_controls`` is no share.
        DataError: there is no vote, or none of a rater who passed.
    """
    study, votes = store.study, store.all()
    min_controls = _min_controls(study, min_controls)
    unknown = {vote.trial for vote in votes} - study.trials.keys()
    if unknown:
        raise DataError(f"{store.path} has votes on trials of another study: {min(unknown)!r}.")
    controls = _controls(study, votes)
    failed = sorted(r for r, (right, of) in controls.items() if of and right < min_controls * of)
    real = [
        vote for vote in votes if not study.trials[vote.trial].control and vote.rater not in failed
    ]
    if not real:
        raise DataError(
            f"{store.path} has no votes that count: {len(votes)} in all, {len(failed)} raters "
            "failed the control trials.",
            "Collect votes with imagen rate serve.",
        )
    raters = sorted({vote.rater for vote in votes})
    few = _few_raters(study, real)
    if few:
        warnings.warn(
            f"Only one rater has judged {', '.join(few)}: how raters differ is not measured there, "
            "and intervals rest on an assumption. Collect the votes of two raters at least.",
            OpenImagenWarning,
            stacklevel=2,
        )
    return {
        "study": study.id,
        "protocol": study.protocol,
        "systems": list(study.runs),
        "reference": study.reference,
        "prompts": len(study.prompts),
        "votes": len(votes),
        "votes_counted": len(real),
        "raters": len(raters),
        "raters_left_out": failed,
        "min_controls": min_controls,
        "single_rater": few,
        "quotas": _quotas(study, real),
        "controls": {r: {"right": right, "of": of} for r, (right, of) in controls.items()},
        "median_seconds": float(np.median([vote.ms for vote in real])) / 1000,
        "questions": _questions(study, real),
    }


def _min_controls(study: Study, share: float | None) -> float:
    """The share of control trials that a rater must answer right.

    Raises:
        ConfigError: the given one is not from 0 to 1.
    """
    if share is None:
        share = study.participation.min_controls or 0.0
    if not 0 <= share <= 1:
        raise ConfigError(f"min controls = {share} must be between 0 and 1.")
    return share


def _questions(study: Study, votes: Sequence[Vote]) -> dict[str, dict[str, Any]]:
    """The result of each question that was answered, with the agreement of the raters."""
    results = {}
    for question in dict.fromkeys(vote.question for vote in votes):
        chosen = [vote for vote in votes if vote.question == question]
        result = _described(study, chosen) if question == "caption" else _preferred(study, chosen)
        results[question] = {**result, "agreement": _agreement(chosen)}
    return results


def _few_raters(study: Study, votes: Sequence[Vote]) -> list[str]:
    """The parts that too few raters have judged for an interval."""
    raters: dict[str, set[str]] = {}
    for vote in votes:
        raters.setdefault(study.trials[vote.trial].part, set()).add(vote.rater)
    return sorted(part for part, some in raters.items() if len(some) < FEWEST_RATERS)


def _quotas(study: Study, votes: Sequence[Vote]) -> dict[str, dict[str, int]]:
    """For each part: the fewest raters of a trial who count, and how many the protocol asks for."""
    raters: dict[str, set[str]] = {}
    for vote in votes:
        raters.setdefault(vote.trial, set()).add(vote.rater)
    return {
        part: {
            "raters": min(len(raters.get(t.id, ())) for t in trials if not t.control),
            "asked": study.participation.raters_per_part.get(trials[0].kind, 0),
        }
        for part, trials in study.parts.items()
    }


def _controls(study: Study, votes: Sequence[Vote]) -> dict[str, tuple[int, int]]:
    """Right answers and all answers of each rater in control trials."""
    counted: dict[str, tuple[int, int]] = {vote.rater: (0, 0) for vote in votes}
    for vote in votes:
        trial = study.trials[vote.trial]
        if trial.control:
            right, of = counted[vote.rater]
            counted[vote.rater] = (right + (vote.choice == right_answer(trial)), of + 1)
    return counted


def _preferred(study: Study, votes: Sequence[Vote]) -> dict[str, Any]:
    """Shares of a two-sided question, for every pair of systems, in all and by category."""
    pairs = {}
    for a, b in itertools.combinations(study.runs, 2):
        mine = [v for v in votes if set(study.trials[v.trial].systems) == {a, b}]
        if not mine:
            continue
        categories: dict[str, list[Vote]] = {}
        for vote in mine:
            categories.setdefault(_category(study, vote), []).append(vote)
        if study.protocol == "coco" and len(categories) == 1:
            categories = {}  # all are without people, or none
        pairs[f"{a} | {b}"] = {
            "systems": [a, b],
            **_shares(study, mine, a, b),
            "categories": {name: _shares(study, some, a, b) for name, some in categories.items()},
        }
    found: dict[str, Any] = {"pairs": pairs}
    if len(study.runs) > 2 and len(pairs) > 1:
        found["strengths"] = _strengths(study, votes)
    return found


def _category(study: Study, vote: Vote) -> str:
    """DrawBench's category; of COCO, whether the caption names people."""
    trial = study.trials[vote.trial]
    if study.protocol == "drawbench":
        return trial.part
    return "people" if names_people(study.prompts[trial.prompt]["prompt"]) else NO_PEOPLE


def _shares(study: Study, votes: Sequence[Vote], a: str, b: str) -> dict[str, Any]:
    values = np.array(
        [[vote.choice == a, vote.choice == TIE, vote.choice == b] for vote in votes], float
    )
    # The last column is the win rate of a, ties half.
    values = np.column_stack([values, values[:, 0] + values[:, 1] / 2])
    intervals = mean_intervals(_votes(study, votes, values))
    names = ("a", "tie", "b", "win_rate")
    return {
        "votes": len(votes),
        **{name: one._asdict() for name, one in zip(names, intervals, strict=True)},
    }


def _votes(study: Study, votes: Sequence[Vote], values: Any) -> Votes:
    prompts = [study.trials[vote.trial].prompt for vote in votes]
    return Votes(prompts, [vote.rater for vote in votes], values)


def _strengths(study: Study, votes: Sequence[Vote]) -> dict[str, Any]:
    """Bradley-Terry strengths of all systems, with two-way bootstrap intervals."""
    names = list(study.runs)
    number = len(names)
    values = np.zeros((len(votes), number * number))
    for k, vote in enumerate(votes):
        i, j = (names.index(name) for name in study.trials[vote.trial].systems)
        first = 0.5 if vote.choice == TIE else float(vote.choice == names[i])
        values[k, i * number + j], values[k, j * number + i] = first, 1 - first
    best = bradley_terry(values.sum(0).reshape(number, number))
    sums, _ = _votes(study, votes, values).resampled(BOOTSTRAPPED_STRENGTHS)
    drawn = [[s.value for s in bradley_terry(one.reshape(number, number))] for one in sums]
    low, high = np.percentile(drawn, [2.5, 97.5], axis=0)
    return {
        name: {"value": best[k].value, "low": float(low[k]), "high": float(high[k])}
        for k, name in enumerate(names)
    }


def _described(study: Study, votes: Sequence[Vote]) -> dict[str, Any]:
    """How well captions describe the pictures of each system, 0 to 100."""
    found = {}
    for name in study.runs:
        mine = [vote for vote in votes if study.trials[vote.trial].systems == (name,)]
        if mine:
            values = np.array([[CAPTION_POINTS[vote.choice]] for vote in mine])
            [score] = mean_intervals(_votes(study, mine, values), scale=100.0)
            found[name] = {"votes": len(mine), **score._asdict()}
            subset = [k for k, vote in enumerate(mine) if _category(study, vote) == NO_PEOPLE]
            if subset and len(subset) < len(mine):
                chosen = _votes(study, [mine[k] for k in subset], values[subset])
                [score] = mean_intervals(chosen, scale=100.0)
                found[f"{name}, {NO_PEOPLE}"] = {"votes": len(subset), **score._asdict()}
    return {"systems": found}


def _agreement(votes: Sequence[Vote]) -> dict[str, float | int | None]:
    units: dict[str, list[str]] = {}
    for vote in votes:
        units.setdefault(vote.trial, []).append(vote.choice)
    several = [unit for unit in units.values() if len(unit) > 1]
    if not several:
        return {"trials": 0, "alpha": None, "raw": None}
    return {
        "trials": len(several),
        "alpha": krippendorff_alpha(several),
        "raw": raw_agreement(several),
    }


STYLE = """
.bar { display: flex; height: 1.7rem; border-radius: 6px; overflow: hidden; font-size: .8rem; }
.bar span { display: grid; place-items: center; color: #fff; min-width: 0; overflow: hidden; }
.a { background: #2563eb; } .tie { background: #8b8f98; } .b { background: #d97706; }
.row { display: grid; grid-template-columns: 10rem 1fr 12rem; gap: 1rem; align-items: center;
  margin: .35rem 0; } .row small { opacity: .75; }
.row.all { font-weight: 650; margin-bottom: .9rem; }
.scale { position: relative; height: 1.7rem; border-bottom: 1px solid var(--line); }
.scale i { position: absolute; top: .75rem; height: .2rem; background: #2563eb; opacity: .5; }
.scale b { position: absolute; top: .45rem; width: .8rem; height: .8rem; margin-left: -.4rem;
  border-radius: 50%; background: #2563eb; }
.key { display: inline-block; width: .8rem; height: .8rem; border-radius: 3px;
  margin: 0 .3rem 0 1rem; }
@media (max-width: 40rem) { .row { grid-template-columns: 1fr; gap: .1rem; } }
"""


def write_report(found: dict[str, Any], out: Path) -> None:
    """Write the page."""
    left_out = len(found["raters_left_out"])
    controls = (
        f"{left_out} left out for fewer than {found['min_controls']:.0%} right answers in control "
        "trials"
        if found["min_controls"]
        else "none left out"
    )
    parts = [
        "<h1>Human evaluation</h1>",
        f'<p class="about">{_systems(found)}; {found["protocol"]} protocol, {found["prompts"]} '
        f"prompts. {found['votes_counted']} of {found['votes']} votes counted, of "
        f"{found['raters'] - left_out} raters; {controls}. Intervals are 95 %, "
        "clustered by prompts and raters.</p>",
    ]
    if found["single_rater"]:
        parts.append(
            "<p><strong>One rater alone</strong> has judged "
            f"{html.escape(', '.join(found['single_rater']))}: intervals there rest on an "
            "assumption about how raters differ.</p>"
        )
    short = [p for p, one in found["quotas"].items() if one["raters"] < one["asked"]]
    if short:
        asked = max(found["quotas"][part]["asked"] for part in short)
        parts.append(
            f'<p class="about">Fewer raters than the protocol asks for ({asked}): '
            f"{html.escape(', '.join(short))}.</p>"
        )
    for name, question in found["questions"].items():
        parts.append(f"<h2>{html.escape(wording(name))}</h2>")
        for pair in question.get("pairs", {}).values():
            parts.append(pair_bars(pair))
        if "strengths" in question:
            parts.append("<h3>Bradley-Terry strengths</h3>" + _scales(question["strengths"], None))
        if "systems" in question:
            parts.append(_scales(question["systems"], (0.0, 100.0)))
        agreement = question["agreement"]
        if agreement["trials"]:
            parts.append(
                f'<p class="about">Agreement on {agreement["trials"]} trials with several answers: '
                f"Krippendorff's alpha {agreement['alpha']:.2f}, pairs that agree "
                f"{agreement['raw']:.0%}.</p>"
            )
    record = html.escape(json.dumps(found, indent=2, ensure_ascii=False))
    parts.append(f"<details><summary>All numbers</summary><pre>{record}</pre></details>")
    write_text(out, page("Human evaluation", "\n".join(parts), STYLE))


def _systems(found: dict[str, Any]) -> str:
    return html.escape(" against ".join(found["systems"]))


def wording(name: str) -> str:
    """The text of a question, by its id."""
    for questions in QUESTIONS.values():
        for question in questions:
            if question.id == name:
                return question.text
    return name


def pair_bars(pair: dict[str, Any]) -> str:
    """Shares of two systems as bars, in all and by category."""
    a, b = (html.escape(name) for name in pair["systems"])
    lines = [
        f'<p><span class="key a"></span>{a}<span class="key tie"></span>indifferent'
        f'<span class="key b"></span>{b}</p>',
        _bar("all", pair, "all"),
    ]
    lines += [_bar(name, shares, "") for name, shares in pair["categories"].items()]
    return "\n".join(lines)


def _bar(name: str, shares: dict[str, Any], kind: str) -> str:
    pieces = []
    for key in ("a", "tie", "b"):
        value = 100 * shares[key]["value"]
        text = f"{value:.0f}" if value >= 5 else ""
        pieces.append(f'<span class="{key}" style="width:{value:.2f}%">{text}</span>')
    rate = Interval(**shares["win_rate"])
    return (
        f'<div class="row {kind}"><span>{html.escape(name)}</span>'
        f'<div class="bar" role="img" aria-label="{_spoken(shares)}">{"".join(pieces)}</div>'
        f"<small>{100 * rate.value:.1f} % [{100 * rate.low:.1f}, {100 * rate.high:.1f}]"
        f", {shares['votes']} votes</small></div>"
    )


def _spoken(shares: dict[str, Any]) -> str:
    first, tie, second = (100 * shares[key]["value"] for key in ("a", "tie", "b"))
    return f"first {first:.0f} percent, indifferent {tie:.0f}, second {second:.0f}"


def _scales(scores: dict[str, Any], span: tuple[float, float] | None) -> str:
    low = min(one["low"] for one in scores.values()) if span is None else span[0]
    high = max(one["high"] for one in scores.values()) if span is None else span[1]
    width = (high - low) or 1.0

    def position(value: float) -> float:
        return 2 + 96 * (value - low) / width

    lines = []
    for name, one in scores.items():
        reach = position(one["high"]) - position(one["low"])
        lines.append(
            f'<div class="row"><span>{html.escape(name)}</span><div class="scale">'
            f'<i style="left:{position(one["low"]):.2f}%;width:{reach:.2f}%"></i>'
            f'<b style="left:{position(one["value"]):.2f}%"></b></div>'
            f"<small>{one['value']:.2f} [{one['low']:.2f}, {one['high']:.2f}]</small></div>"
        )
    return "\n".join(lines)
