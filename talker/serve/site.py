"""The page at `/` and its files. `Gate` forbids browsers to load anything from elsewhere."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import FileResponse
from starlette.exceptions import HTTPException

FOLDER = Path(str(files("talker.serve") / "page"))
TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
FILES = {path.name: path for path in FOLDER.iterdir() if path.suffix in TYPES}
router = APIRouter(include_in_schema=False)


@router.get("/")
async def page() -> FileResponse:
    """The page."""
    return _file("index.html")


@router.get("/page/{name}")
async def page_file(name: str) -> FileResponse:
    """A file of the page."""
    return _file(name)


def _file(name: str) -> FileResponse:
    """One of the files of the folder, by its exact name. Raises HTTPException if there is none."""
    path = FILES.get(name)
    if path is None:
        raise HTTPException(404, "there is no such file")
    return FileResponse(path, media_type=TYPES[path.suffix], headers={"Cache-Control": "no-cache"})
