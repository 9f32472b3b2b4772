"""Bodies of requests: multipart forms with nested fields and files, or JSON."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import Request
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile

from talker.serve.inputs import InputError

MOST_FILES, MOST_FIELDS = 4, 64
OBJECTS = ("voice", "portrait", "input_reference")  # fields that some clients send as JSON text
LARGEST_FIELD = 48 * 2**20  # bytes; a field may hold a file as a data: URL
_NAME = re.compile(r"([A-Za-z_]\w{0,63})((?:\[\w{0,64}\]){0,3})")


@asynccontextmanager
async def form_fields(request: Request) -> AsyncIterator[dict[str, Any]]:
    """The fields of a body, nested as their names say: `voice[id]`, `names[]`. Files are UploadFile.

    Raises:
        InputError: the body is neither a form nor a JSON object, or a name is not of this form.
    """
    if request.headers.get("content-type", "").startswith("application/json"):
        try:
            body = json.loads(await request.body())
        except (ValueError, RecursionError):
            body = None
        if not isinstance(body, dict):
            raise InputError("invalid_request", "the body is no JSON object")
        yield body
        return
    async with request.form(
        max_files=MOST_FILES, max_fields=MOST_FIELDS, max_part_size=LARGEST_FIELD
    ) as form:
        fields: dict[str, Any] = {}
        for name, value in form.multi_items():
            _add(fields, name, value)
        yield fields


def form_schema(files: tuple[str, ...], texts: tuple[str, ...], required: tuple[str, ...]) -> dict[str, Any]:
    """What the documentation of a route says about its form, for `openapi_extra`."""
    properties = {name: {"type": "string", "format": "binary"} for name in files}
    properties |= {name: {"type": "string"} for name in texts}
    schema = {"type": "object", "properties": properties, "required": list(required)}
    return {"requestBody": {"content": {"multipart/form-data": {"schema": schema}}, "required": True}}


def _add(fields: dict[str, Any], name: str, value: str | UploadFile) -> None:
    """Add a value to the nested fields."""
    match = _NAME.fullmatch(name)
    if match is None:
        raise InputError("invalid_request", f"{name[:100]!r} is no name of a field", name[:100])
    keys = [match[1], *re.findall(r"\[(\w*)\]", match[2])]
    place: Any = fields
    for key, following in zip(keys, [*keys[1:], None], strict=True):
        if isinstance(place, list):
            if key or following is not None:
                raise InputError("invalid_request", f"the list {keys[0]} has fields in it", keys[0])
            place.append(value)
            return
        if not isinstance(place, dict) or not key or (following is None and key in place):
            raise InputError("invalid_request", f"{name[:100]} is given twice or as two kinds", keys[0])
        if following is None:
            place[key] = _from_json(value) if key in OBJECTS else value
        else:
            place = place.setdefault(key, {} if following else [])


def _from_json(value: str | UploadFile) -> Any:
    """An object that is given as JSON text; any other value as it is."""
    if isinstance(value, str) and value.startswith("{"):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    return value


def id_of(value: Any, param: str) -> str | None:
    """The name or id in a field: text, or an object with an `id` or a `file_id`.

    Raises:
        InputError: it is something else.
    """
    if value is None or (isinstance(value, str) and value):
        return value
    if isinstance(value, dict) and len(value) == 1:
        name = value.get("id", value.get("file_id"))
        if isinstance(name, str) and name:
            return name
    raise InputError("invalid_request", f"{param} must be a name or id", param)


def is_file(value: Any) -> bool:
    """Whether a field holds a file: a part of the form, or a data: URL."""
    if isinstance(value, dict) and set(value) == {"image_url"}:
        value = value["image_url"]
    return isinstance(value, UploadFile) or (isinstance(value, str) and re.match(r"\w+:", value) is not None)


async def save_file(value: Any, path: Path, limit: int, param: str) -> None:
    """Write a field that holds a file, see `is_file`, to `path`.

    Raises:
        InputError: the file is larger than `limit` bytes, or is a web address.
    """
    if isinstance(value, UploadFile):
        if value.size is None or value.size > limit:
            raise InputError(
                "too_large", f"{param} is larger than {limit // 2**20} MB: send a smaller file", param
            )
        await run_in_threadpool(_copy, value, path)
        return
    url: str = value["image_url"] if isinstance(value, dict) else value
    match = re.match(r"data:[\w/+.;=-]*,", url)
    if match is None or not match[0].endswith(";base64,"):
        raise InputError("unsupported_url", f"{param} must be a file or a data: URL with base64", param)
    try:
        data = base64.b64decode(url[match.end() :], validate=True)
    except (binascii.Error, ValueError):
        raise InputError("unsupported_url", f"{param} is not base64", param) from None
    if len(data) > limit:
        raise InputError(
            "too_large", f"{param} is larger than {limit // 2**20} MB: send a smaller file", param
        )
    await run_in_threadpool(path.write_bytes, data)


def _copy(upload: UploadFile, path: Path) -> None:
    upload.file.seek(0)
    with path.open("wb") as file:
        while block := upload.file.read(2**20):
            file.write(block)
