"""The votes of a study: SQLite in WAL mode, several raters at once, each vote once."""

import csv
import io
import json
import secrets
import sqlite3
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from open_imagen.errors import DataError, OutputError
from open_imagen.evaluation.human.study import Study, Trial, right_answer

FILE = "votes.db"
SCHEMA = """
CREATE TABLE IF NOT EXISTS study (id TEXT PRIMARY KEY);
CREATE TABLE IF NOT EXISTS raters (
    id TEXT PRIMARY KEY, token TEXT UNIQUE NOT NULL, parts TEXT NOT NULL, joined REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS places (
    rater TEXT NOT NULL REFERENCES raters (id), part TEXT NOT NULL, at REAL NOT NULL,
    PRIMARY KEY (rater, part)
);
CREATE TABLE IF NOT EXISTS votes (
    rater TEXT NOT NULL REFERENCES raters (id),
    trial TEXT NOT NULL,
    question TEXT NOT NULL,
    choice TEXT NOT NULL,
    left TEXT NOT NULL,
    ms INTEGER NOT NULL,
    at REAL NOT NULL,
    PRIMARY KEY (rater, trial, question)
);
"""
HOLD_SECONDS = 3600.0
"""A rater who has begun a part and gone silent keeps the place for this long."""
COLUMNS = (
    "study", "rater", "trial", "kind", "category", "prompt_number", "prompt", "system_a",
    "system_b", "question", "choice", "left", "control", "ms", "at",
)  # fmt: skip
"""Of the CSV. ``choice`` names the preferred system, "tie", or the answer; ``left`` says which
system was on the left."""


class Rater(NamedTuple):
    """Somebody who votes."""

    id: str
    parts: list[str]
    """In the order in which this rater goes through them."""


class Vote(NamedTuple):
    """One answer."""

    rater: str
    trial: str
    question: str
    choice: str
    left: str
    ms: int
    at: float


def passes_controls(study: Study, answers: Sequence[tuple[str, str]]) -> bool:
    """Whether a rater counts: enough answers, given as (trial, choice), to controls are right."""
    least = study.participation.min_controls
    right = [
        choice == right_answer(study.trials[trial])
        for trial, choice in answers
        if trial in study.trials and study.trials[trial].control
    ]
    return least is None or sum(right) >= least * len(right)


class Store:
    """The votes file of a study."""

    def __init__(self, study: Study, path: Path | None = None) -> None:
        """Open or create the votes file of a study.

        Raises:
            DataError: it is no votes file, or of another study.
            OutputError: it cannot be written.
        """
        self.study, self.path = study, path or study.folder / FILE
        self._lock = threading.Lock()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(self.path, check_same_thread=False, isolation_level=None)
            self._db.execute("PRAGMA busy_timeout = 10000")
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")
            self._db.executescript(SCHEMA)
            found = self._db.execute("SELECT id FROM study").fetchall()
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError):
                raise OutputError(f"Cannot open {self.path}: {error}.") from error
            raise DataError(f"{self.path} is not a file of votes: {error}.") from error
        if found and found != [(study.id,)]:
            self._db.close()
            raise DataError(
                f"{self.path} holds the votes of another study ({found[0][0]}, not {study.id}).",
                "Put each study into a folder of its own.",
            )
        if not found:
            self._db.execute("INSERT INTO study VALUES (?)", (study.id,))

    def close(self) -> None:
        """Let go of the file."""
        with self._lock:
            self._db.close()

    def join(self) -> tuple[Rater, str]:
        """A new rater, and the token that proves who it is.

        Parts that few raters have begun with come first, so that all get as many raters.
        """
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            begun = [json.loads(row[0])[0] for row in self._db.execute("SELECT parts FROM raters")]
            parts = sorted(
                self.study.parts, key=lambda part: (begun.count(part), secrets.randbits(32))
            )
            rater, token = Rater(f"r{len(begun) + 1:04d}", parts), secrets.token_urlsafe(24)
            self._db.execute(
                "INSERT INTO raters VALUES (?, ?, ?, ?)",
                (rater.id, token, json.dumps(parts), time.time()),
            )
            self._db.execute("COMMIT")
        return rater, token

    def order(self, rater: Rater) -> list[Trial]:
        """The trials of a rater: of the parts that they have places in, and of a next one.

        A rater gets a place in another part when all earlier ones are judged, the part has fewer
        raters than its quota, and the rater has not yet had as many parts as the study gives.
        """
        terms, done = self.study.participation, self.done(rater)
        if not (terms.parts_per_rater or any(terms.raters_per_part.values())):
            return self.study.order(rater.id, rater.parts)
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                rows = self._db.execute(
                    "SELECT part FROM places WHERE rater = ? ORDER BY at, rowid", (rater.id,)
                )
                held = [str(row[0]) for row in rows]
                complete = all(t.id in done for part in held for t in self.study.parts[part])
                limit = terms.parts_per_rater or len(rater.parts)
                if complete and len(held) < limit:
                    following = self._free_part(rater, held)
                    if following is not None:
                        self._db.execute(
                            "INSERT INTO places VALUES (?, ?, ?)",
                            (rater.id, following, time.time()),
                        )
                        held.append(following)
            finally:
                self._db.execute("COMMIT")
        return self.study.order(rater.id, held)

    def _free_part(self, rater: Rater, held: Sequence[str]) -> str | None:
        """The first part of a rater's way that still needs raters."""
        for part in rater.parts:
            quota = self.study.participation.raters_per_part.get(self.study.parts[part][0].kind, 0)
            if part not in held and (not quota or self._taken(part) < quota):
                return part
        return None

    def _taken(self, part: str) -> int:
        """Raters who count towards a part's quota: who are done with it, or may still be at it.

        Who fails the control trials does not count, as their votes do not.
        """
        trials = {trial.id for trial in self.study.parts[part]}
        taken = 0
        for rater, at in self._db.execute("SELECT rater, at FROM places WHERE part = ?", (part,)):
            rows = self._db.execute(
                "SELECT trial, choice, at FROM votes WHERE rater = ?", (rater,)
            ).fetchall()
            done = trials <= {row[0] for row in rows}
            recent = time.time() - max([at, *(row[2] for row in rows)]) < HOLD_SECONDS
            answers = [(row[0], row[1]) for row in rows]
            taken += (done or recent) and passes_controls(self.study, answers)
        return taken

    def rater(self, token: str) -> Rater | None:
        """The rater with this token."""
        with self._lock:
            row = self._db.execute(
                "SELECT id, parts FROM raters WHERE token = ?", (token,)
            ).fetchone()
        return Rater(row[0], json.loads(row[1])) if row else None

    def cast(self, rater: Rater, trial: Trial, choices: Mapping[str, str], ms: int) -> None:
        """Keep the answers to a trial's questions; given again, they replace the earlier ones."""
        flip = self.study.flipped(rater.id, trial)
        left = trial.systems[-1 if flip else 0]
        rows = [
            (rater.id, trial.id, question, choice, left, ms, time.time())
            for question, choice in choices.items()
        ]
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.executemany("INSERT OR REPLACE INTO votes VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
            self._db.execute("COMMIT")

    def undo(self, rater: Rater) -> str | None:
        """Take back the latest trial of a rater; its id, or None if there is none."""
        with self._lock:
            row = self._db.execute(
                "SELECT trial FROM votes WHERE rater = ? ORDER BY at DESC, rowid DESC LIMIT 1",
                (rater.id,),
            ).fetchone()
            if row is None:
                return None
            self._db.execute("DELETE FROM votes WHERE rater = ? AND trial = ?", (rater.id, row[0]))
        return str(row[0])

    def done(self, rater: Rater) -> set[str]:
        """The trials that a rater has judged."""
        with self._lock:
            rows = self._db.execute("SELECT DISTINCT trial FROM votes WHERE rater = ?", (rater.id,))
            return {row[0] for row in rows}

    def all(self) -> list[Vote]:
        """Every vote, oldest first."""
        with self._lock:
            rows = self._db.execute("SELECT * FROM votes ORDER BY at, rowid").fetchall()
        return [Vote(*row) for row in rows]

    def to_csv(self) -> str:
        """Every vote with what it was about."""
        text = io.StringIO()
        rows = csv.writer(text, lineterminator="\n")
        rows.writerow(COLUMNS)
        for vote in self.all():
            rows.writerow(self._row(vote, self.study.trials[vote.trial]))
        return text.getvalue()

    def _row(self, vote: Vote, trial: Trial) -> Sequence[Any]:
        metadata = self.study.prompts[trial.prompt]
        return (
            self.study.id, vote.rater, vote.trial, trial.kind, trial.part, trial.prompt,
            metadata["prompt"], trial.systems[0],
            trial.systems[-1] if len(trial.systems) > 1 else "",
            vote.question, vote.choice, vote.left, int(trial.control), vote.ms, f"{vote.at:.3f}",
        )  # fmt: skip
