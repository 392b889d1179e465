"""The HTTP API of a `Desk`, and its page. Everything that takes time runs in threads."""

import asyncio
import contextlib
import errno
import logging
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Annotated
from urllib.parse import quote

from fastapi import FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse, Response

from dmlstudy.core.console import printable
from dmlstudy.core.files import StudyError
from dmlstudy.use.service import schemas
from dmlstudy.use.service.engine import Full
from dmlstudy.use.service.guard import Guard
from dmlstudy.use.service.shelf import Conflict, Missing
from dmlstudy.use.service.uploads import FIELD, class_name, read_form, save
from dmlstudy.use.stores.store import Unreachable

# Characters of what the photographs of a class are of.
SOURCE_LENGTH = 200
# Mistakes of one request that are told.
PROBLEMS_SHOWN = 3
PAGE = Path(__file__).parent / "page"
JPEG = {200: {"content": {"image/jpeg": {}}}}
PROBLEMS = {
    status: {"model": schemas.Problem, "description": meaning}
    for status, meaning in {
        404: "there is no such class, photograph or change",
        409: "the index does not allow it: a name or a photograph is there already",
        413: "too much in one request",
        422: "a photograph or a name cannot be used; nothing was changed",
        503: "too much waits; come again after the seconds in Retry-After",
    }.items()
}


def _form(**fields):
    """The description of a multipart form with photographs and text fields."""
    properties = {
        FIELD: {"type": "array", "items": {"type": "string", "format": "binary"}},
        **{name: {"type": "string", "description": text} for name, text in fields.items()},
    }
    schema = {"type": "object", "required": [FIELD], "properties": properties}
    return {
        "requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}}
    }


def make_app(desk, token=None):
    """The ASGI application of a `Desk`; with ``token``, the API answers only to who shows it."""
    limits = desk.limits
    pool = ThreadPoolExecutor(limits.requests, "request")

    @contextlib.asynccontextmanager
    async def lifespan(app):
        yield
        pool.shutdown(wait=True)
        desk.close()

    app = FastAPI(
        title="Classes by the nearest photograph",
        description="Names photographs and learns classes from photographs, with a finished run.",
        lifespan=lifespan,
        # Nothing of a request is reported to anybody, whatever this process was told for other programs.
        telemetry={"tracing": False, "metrics": False, "logs": False},
        openapi_url="/openapi.json",
        # Their pages load scripts from another site.
        docs_url=None,
        redoc_url=None,
    )

    async def in_thread(work, *arguments, **options):
        return await asyncio.get_running_loop().run_in_executor(
            pool, partial(work, *arguments, **options)
        )

    async def with_photographs(request, work):
        """What ``work(photographs, form)`` returns, in a thread; files are gone afterwards."""
        form = await read_form(request, limits)

        def saved():
            with desk.files.request() as folder:
                return work(save(form, folder, limits), form)

        try:
            return await in_thread(saved)
        finally:
            await form.close()

    @app.get("/api/status", response_model=schemas.Status)
    async def status():
        """What is served, how it decides what is unknown, and what the study measured about it."""
        return await in_thread(desk.status)

    @app.post(
        "/api/name", response_model=schemas.Answers, responses=PROBLEMS, openapi_extra=_form()
    )
    async def name(
        request: Request,
        neighbours: Annotated[int, Query(ge=1, le=1000)] = 10,
        shown: Annotated[int, Query(ge=1, le=50)] = 5,
        keep: bool = True,
    ):
        """Name photographs, in their order. One that cannot be read has a `problem`.

        `neighbours`: how many vote; `shown`: how many are listed; `keep=false`: doubtful answers do not go to
        the list.
        """

        def work(photographs, form):
            return desk.name(photographs, neighbours=neighbours, shown=shown, keep=keep)

        answers = await with_photographs(request, work)
        problems = [one["problem"] for one in answers if "problem" in one]
        if len(problems) == len(answers):
            raise StudyError("; ".join(problems))
        return {"answers": answers}

    @app.get("/api/classes", response_model=schemas.Classes)
    async def classes():
        """The classes that photographs are compared with: since when, from what."""
        return {"classes": await in_thread(desk.shelf.classes)}

    @app.post(
        "/api/classes",
        status_code=201,
        response_model=schemas.Change,
        responses=PROBLEMS,
        openapi_extra=_form(class_name="name of the class", source="what the photographs are of"),
    )
    async def enrol(request: Request, existing: bool = False):
        """Enrol photographs as a class: all of them, or none if one cannot be used.

        `existing=true`: they join a class that is there.
        """

        def work(photographs, form):
            source = form.get("source") or f"{len(photographs)} photographs over HTTP"
            if not isinstance(source, str):
                raise StudyError("source: must be a text, not a file")
            name = class_name(form.get("class_name"))
            return desk.enrol(
                name, photographs, printable(source)[:SOURCE_LENGTH], existing=existing
            )

        return await with_photographs(request, work)

    @app.patch("/api/classes/{class_id}", response_model=schemas.Change, responses=PROBLEMS)
    async def rename(class_id: int, body: schemas.Name):
        """Give a class another name."""
        return await in_thread(desk.shelf.rename, class_id, class_name(body.class_name))

    @app.delete("/api/classes/{class_id}", response_model=schemas.Change, responses=PROBLEMS)
    async def remove(class_id: int):
        """Remove a class with its photographs. They are kept for an undo; `DELETE /api/removed` deletes them."""
        return await in_thread(desk.shelf.remove, class_id)

    @app.get("/api/removed", response_model=schemas.Removed)
    async def removed():
        """What is kept of removed classes, so that their removal can be undone."""
        return await in_thread(desk.shelf.removed)

    @app.delete("/api/removed", response_model=schemas.Removed, responses=PROBLEMS)
    async def forget_removed():
        """Delete it at once, for good: changes up to the newest removal cannot be undone then.

        The answer says what was deleted.
        """
        return await in_thread(desk.shelf.forget_removed)

    @app.get("/api/history", response_model=schemas.History)
    async def history():
        """All changes that were made over HTTP."""
        return {"changes": await in_thread(desk.shelf.history)}

    @app.post("/api/undo", response_model=schemas.Change, responses=PROBLEMS)
    async def undo():
        """Undo the newest change; the answer says which it was."""
        return await in_thread(desk.shelf.undo)

    @app.post(
        "/api/heatmap", response_class=Response, responses=JPEG | PROBLEMS, openapi_extra=_form()
    )
    async def heat_map(request: Request, class_id: int | None = None):
        """Where the model looks in a photograph when it finds it like a class, as a picture.

        `class_id`: the class; without it, that of the nearest photograph. Its name is in the header
        `Class-Name`, percent-encoded.
        """

        def work(photographs, form):
            if len(photographs) > 1:
                raise StudyError(f"send one photograph, not {len(photographs)}")
            return desk.heat_map(photographs[0], class_id)

        picture, name = await with_photographs(request, work)
        return Response(picture, media_type="image/jpeg", headers={"Class-Name": quote(name)})

    @app.get("/api/thresholds", response_model=schemas.Thresholds)
    async def thresholds():
        """The thresholds that the study judged, with the rates that it measured."""
        return {"thresholds": await in_thread(desk.thresholds)}

    @app.put("/api/threshold", response_model=schemas.Change, responses=PROBLEMS)
    async def choose_threshold(body: schemas.WantedShare):
        """Decide with the threshold of another wanted share of accepted photographs."""
        return await in_thread(desk.choose_threshold, body.accepted_share)

    @app.get("/api/drift", response_model=schemas.Drift)
    async def drift():
        """Whether similarities fall, unknown answers rise, or one class gets more answers than before."""
        return await in_thread(desk.drift)

    @app.get("/api/photographs/{image_id}", response_class=Response, responses=JPEG)
    async def photograph(image_id: int):
        """A photograph of the index, small."""
        return Response(await in_thread(desk.picture, image_id), media_type="image/jpeg")

    @app.get("/api/doubts", response_model=schemas.Doubts)
    async def doubts():
        """Doubtful answers that wait for a person, newest first."""
        return {"doubts": await in_thread(desk.doubtful)}

    @app.get("/api/doubts/{doubt_id}/photograph", response_class=Response, responses=JPEG)
    async def doubtful_photograph(doubt_id: str):
        """The photograph of a doubtful answer, small."""
        return Response(await in_thread(desk.doubtful_picture, doubt_id), media_type="image/jpeg")

    @app.post("/api/doubts/{doubt_id}", response_model=schemas.Change, responses=PROBLEMS)
    async def settle(doubt_id: str, body: schemas.Name):
        """Confirm or correct an answer: the photograph joins the class, which may be a new one."""
        return await in_thread(desk.settle, doubt_id, class_name(body.class_name))

    @app.delete("/api/doubts/{doubt_id}", status_code=204, responses=PROBLEMS)
    async def dismiss(doubt_id: str):
        """Take an answer off the list; its photograph is removed."""
        await in_thread(desk.doubts.remove, doubt_id)

    for address, file in {"/": "page.html", "/page.css": "page.css", "/page.js": "page.js"}.items():
        app.add_api_route(
            address, partial(_file, PAGE / file), methods=["GET"], include_in_schema=False
        )
    _tell_errors(app)
    return Guard(app, token, limits)


async def _file(path):
    return FileResponse(path)


def _tell_errors(app):
    """Every error is a sentence in ``detail``."""

    def told(status, **headers):
        async def handler(request, error):
            return JSONResponse({"detail": str(error)}, status, headers=headers)

        return handler

    @app.exception_handler(Full)
    async def full(request, error):
        headers = {"Retry-After": str(error.seconds)}
        return JSONResponse({"detail": str(error)}, 503, headers=headers)

    @app.exception_handler(RequestValidationError)
    async def invalid(request, error):
        # Not what was sent: it may be long, and hold what no JSON can, such as NaN or half a surrogate pair.
        sentences = [f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()]
        return JSONResponse({"detail": printable("; ".join(sentences[:PROBLEMS_SHOWN]))}, 422)

    @app.exception_handler(TimeoutError)
    async def late(request, error):
        sentence = "this took too long and was given up; come again later"
        return JSONResponse({"detail": sentence}, 503, headers={"Retry-After": "10"})

    @app.exception_handler(Unreachable)
    async def unreachable(request, error):
        logging.getLogger(__name__).warning("%s", error)
        sentence = "the database of the index cannot be reached; come again later"
        return JSONResponse({"detail": sentence}, 503, headers={"Retry-After": "10"})

    @app.exception_handler(OSError)
    async def disk(request, error):
        logging.getLogger(__name__).exception("a file cannot be read or written")
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        sentence = "the disk of the service is full" if full else "the service cannot use its files"
        return JSONResponse({"detail": sentence}, 507 if full else 500)

    @app.exception_handler(Exception)
    async def broken(request, error):
        logging.getLogger(__name__).exception("a request failed")
        return JSONResponse({"detail": "the service made a mistake; its log has the details"}, 500)

    app.add_exception_handler(Conflict, told(409))
    app.add_exception_handler(Missing, told(404))
    app.add_exception_handler(StudyError, told(422))
