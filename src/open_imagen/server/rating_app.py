"""The rating page over HTTP: blind trials out, votes in."""

import hashlib
import hmac
import io
import random
from collections.abc import Callable
from functools import lru_cache
from typing import Annotated, Any

import numpy as np
from fastapi import FastAPI, Header, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, Response
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field

from open_imagen.evaluation.human.study import NOISE, QUESTIONS, Trial
from open_imagen.evaluation.human.votes import Rater, Store
from open_imagen.evaluation.image_set import read_image
from open_imagen.server.errors import RequestError
from open_imagen.server.guard import Guard, GuardConfig
from open_imagen.server.middleware import RootPath
from open_imagen.server.pages import page, page_headers

IMAGE_HEADERS = {"Cache-Control": "private, max-age=86400", "X-Content-Type-Options": "nosniff"}


class Ballot(BaseModel):
    """The answers to a trial's questions."""

    model_config = ConfigDict(extra="forbid")

    trial: Annotated[str, Field(max_length=64)]
    answers: Annotated[dict[str, str], Field(max_length=4)]
    ms: Annotated[int, Field(ge=0, le=86_400_000)] = 0


def make_app(
    store: Store, allowed_hosts: tuple[str, ...] | None = (), root_path: str = ""
) -> FastAPI:
    """The page and its four calls, behind the same guard as the image server.

    Args:
        allowed_hosts: see GuardConfig.
        root_path: the path under which a proxy shows the page.
    """
    app = FastAPI(title="Rate images", docs_url=None, redoc_url=None, openapi_url=None)
    study = store.study
    names = {_blind(study.secret, trial): trial for trial in study.trials.values()}
    html = page("rate.html", root_path)
    image = _images(store)
    app.add_middleware(Guard, config=GuardConfig(allowed_hosts=allowed_hosts), reply=_error_reply)
    app.add_middleware(RootPath, root_path=root_path)
    app.add_exception_handler(RequestValidationError, _invalid)

    def known(token: str) -> Rater:
        rater = store.rater(token)
        if rater is None:
            raise HTTPException(401, "This page belongs to no rater. Open it anew.")
        return rater

    @app.get("/")
    def show() -> HTMLResponse:
        return HTMLResponse(html, headers={**page_headers(html), "Cache-Control": "no-store"})

    @app.post("/api/raters")
    def join() -> dict[str, Any]:
        _, token = store.join()
        return {"token": token}

    @app.get("/api/trial")
    def trial(x_rater: Annotated[str, Header(max_length=64)]) -> dict[str, Any]:
        return _next(store, known(x_rater))

    @app.post("/api/votes")
    def vote(ballot: Ballot, x_rater: Annotated[str, Header(max_length=64)]) -> dict[str, Any]:
        rater = known(x_rater)
        voted = names.get(ballot.trial)
        if voted is None:
            raise HTTPException(404, "There is no such trial in this study.")
        store.cast(rater, voted, _choices(store, rater, voted, ballot.answers), ballot.ms)
        return _next(store, rater)

    @app.post("/api/undo")
    def undo(x_rater: Annotated[str, Header(max_length=64)]) -> dict[str, Any]:
        rater = known(x_rater)
        last = store.undo(rater)
        return _next(store, rater, last)

    @app.get("/images/{name}.png")
    def show_image(name: str) -> Response:
        if name not in study.images:
            raise HTTPException(404, "There is no such image.")
        return Response(image(name), media_type="image/png", headers=IMAGE_HEADERS)

    return app


async def _invalid(request: Request, error: Exception) -> Response:
    """What is wrong with a request, without what was sent."""
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"][1:])[:200] or "The request"
    return JSONResponse({"detail": f"{where}: {first['msg']}."}, 422)


def _error_reply(error: RequestError) -> Response:
    """An error in this app's form."""
    return JSONResponse({"detail": str(error)}, error.status)


def _blind(secret: str, trial: Trial) -> str:
    """A name of a trial that tells nothing of its systems, or of its being a control."""
    return hmac.new(secret.encode(), f"trial {trial.id}".encode(), hashlib.sha256).hexdigest()[:24]


def _next(store: Store, rater: Rater, requested: str | None = None) -> dict[str, Any]:
    """The trial that a rater sees now, or the end."""
    study, done = store.study, store.done(rater)
    order = store.order(rater)
    open_trials = [trial for trial in order if trial.id not in done]
    progress = {"done": len(order) - len(open_trials), "total": len(order)}
    if not open_trials:
        return {"finished": True, **progress}
    trial = study.trials[requested] if requested in study.trials else open_trials[0]
    part = study.parts[trial.part]
    systems = trial.systems[::-1] if study.flipped(rater.id, trial) else trial.systems
    images = [
        [
            f"images/{study.image_id(system, trial.prompt, sample)}.png"
            for sample in range(study.images_per_side)
        ]
        for system in systems
    ]
    return {
        "finished": False,
        **progress,
        "trial": _blind(study.secret, trial),
        "part": trial.part,
        "part_done": sum(one.id in done for one in part),
        "part_total": len(part),
        "prompt": study.prompts[trial.prompt]["prompt"],
        "show_prompt": trial.kind != "photorealism",
        "sides": images,
        "questions": [
            {"id": q.id, "text": q.text, "answers": q.answers} for q in QUESTIONS[trial.kind]
        ],
    }


def _choices(store: Store, rater: Rater, trial: Trial, answers: dict[str, str]) -> dict[str, str]:
    """Answers about sides as choices of systems.

    Raises:
        HTTPException: a question is left open, or an answer is not among those offered.
    """
    questions = QUESTIONS[trial.kind]
    if answers.keys() != {question.id for question in questions}:
        raise HTTPException(422, f"Answer {', '.join(q.id for q in questions)}.")
    flip = store.study.flipped(rater.id, trial)
    sides = dict(
        zip(("left", "right"), trial.systems[::-1] if flip else trial.systems, strict=False)
    )
    choices = {}
    for question in questions:
        answer = answers[question.id]
        if answer not in question.answers:
            raise HTTPException(
                422, f"{question.id} has the answers {', '.join(question.answers)}."
            )
        choices[question.id] = sides.get(answer, answer)
    return choices


def _images(store: Store) -> Callable[[str], bytes]:
    """Images by their blind names, without a word inside about how they were made."""
    study = store.study

    @lru_cache(maxsize=512)
    def encoded(name: str) -> bytes:
        system, prompt, sample = study.images[name]
        if system == NOISE:
            first = next(iter(study.runs))
            size = read_image(study.image_file(first, prompt, sample)).size
            rng = np.random.default_rng(random.Random(name).getrandbits(64))
            pixels = rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
        else:
            pixels = np.asarray(read_image(study.image_file(system, prompt, sample)))
        data = io.BytesIO()
        Image.fromarray(pixels).save(data, format="PNG")
        return data.getvalue()

    return encoded
