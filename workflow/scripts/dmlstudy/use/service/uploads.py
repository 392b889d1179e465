"""Photographs and fields of a multipart request, within limits; what a client names is only text."""

import re
import shutil

from starlette.exceptions import HTTPException

from dmlstudy.core.console import printable
from dmlstudy.core.files import StudyError
from dmlstudy.use.photographs import class_name_of
from dmlstudy.use.service.files import Photograph
from dmlstudy.use.service.limits import MEGABYTE

FIELD = "photographs"
NAME_LENGTH = 200


async def read_form(request, limits):
    """The form of a request; HTTPException that says what is wrong with it."""
    kind = request.headers.get("content-type", "")
    if not kind.startswith("multipart/form-data"):
        raise HTTPException(415, f"send photographs as multipart/form-data, in the field {FIELD!r}")
    try:
        form = await request.form(max_files=limits.photographs, max_fields=20)
    except HTTPException as error:
        if "Too many files" in str(error.detail):
            raise HTTPException(
                413,
                f"more than {limits.photographs} photographs in one request; enrol.py and name_photos.py "
                "take any number",
            ) from None
        if error.status_code == 400:
            raise HTTPException(400, f"not a form that can be read: {error.detail}") from None
        raise
    return form


def save(form, folder, limits):
    """Write the photographs of a form to ``folder``: list of `Photograph`. HTTPException as above."""
    found = [one for one in form.getlist(FIELD) if hasattr(one, "file")]
    if not found:
        raise HTTPException(422, f"no photographs: send files in the field {FIELD!r}")
    photographs = []
    for number, upload in enumerate(found):
        name = shown_name(upload.filename, number)
        if upload.size > limits.photograph_megabytes * MEGABYTE:
            raise HTTPException(
                413, f"{name}: larger than {limits.photograph_megabytes} MB; make it smaller"
            )
        path = folder / f"{number:04}"
        with open(path, "wb") as stream:
            shutil.copyfileobj(upload.file, stream)
        photographs.append(Photograph.of(path, name))
    return photographs


def shown_name(name, number):
    """The name of a photograph in answers: the last part of what the client called it."""
    last = re.split(r"[\\/]", name or "")[-1]
    return printable(last[-NAME_LENGTH:]).strip() or f"photograph {number + 1}"


def class_name(value):
    """The class name of a form or a body; HTTPException if it is none."""
    if not isinstance(value, str) or len(value) > NAME_LENGTH:
        raise HTTPException(422, f"a class name must be a text of at most {NAME_LENGTH} characters")
    try:
        return class_name_of(value)
    except StudyError as error:
        raise HTTPException(422, str(error).removeprefix("--name ")) from None
