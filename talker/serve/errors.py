"""Errors of HTTP routes, in the shape that clients of OpenAI's API read."""

from __future__ import annotations

from typing import Any

from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse

from talker.serve.inputs import InputError
from talker.serve.sessions import NotAdmitted


class ApiError(HTTPException):
    """An error of a route.

    Attributes:
        code: short name of the error.
        param: the field that is wrong, or None.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        param: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(status, message, headers)
        self.code, self.param = code, param


def not_found(what: str) -> ApiError:
    """The error for an id that does not exist, or that belongs to another key."""
    return ApiError(404, "not_found", f"there is no {what} of this id")


def error_response(
    status: int, code: str, message: str, param: str | None = None, headers: Any = None
) -> JSONResponse:
    """An error as a response."""
    kind = "invalid_request_error" if status < 500 else "server_error"
    body = {"message": message, "type": kind, "code": code, "param": param}
    return JSONResponse({"error": body}, status, headers=headers)


async def on_http_error(request: Request, error: Any) -> JSONResponse:
    """Answer an HTTPException."""
    code, param = getattr(error, "code", str(error.status_code)), getattr(error, "param", None)
    return error_response(error.status_code, code, error.detail, param, error.headers)


async def on_invalid_request(request: Request, error: Any) -> JSONResponse:
    """Answer a body or a query that does not have the declared fields."""
    assert isinstance(error, RequestValidationError)
    return error_response(400, *first_problem(error.errors()))


async def on_input_error(request: Request, error: Any) -> JSONResponse:
    """Answer an InputError."""
    assert isinstance(error, InputError)
    return error_response(400, error.code, str(error), error.param)


async def on_not_admitted(request: Request, error: Any) -> JSONResponse:
    """Answer NotAdmitted: status 429, or 503 while the server shuts down."""
    assert isinstance(error, NotAdmitted)
    status = 503 if error.code == "draining" else 429
    return error_response(status, error.code, str(error), headers={"Retry-After": str(error.retry_after)})


def first_problem(problems: Any) -> tuple[str, str, str | None]:
    """Code, message and field of the first problem that pydantic found."""
    first = problems[0]
    parts = [str(part) for part in first["loc"] if part not in ("body", "query", "path")]
    field = ".".join(parts)[:100] or None
    if first["type"] == "extra_forbidden":
        return "unsupported_field", f"{field} is not supported: leave it out", field
    return "invalid_request", f"{field}: {first['msg']}" if field else first["msg"], field
