"""Pictures of a case that its reader may see now; anything else is one and the same 404."""

import re

from fastapi import APIRouter, HTTPException, Response
from sqlmodel import select

from gifsplain.study.store import answers, settings
from gifsplain.study.store.records import Media
from gifsplain.study.web.context import Reader, Shared

router = APIRouter(prefix="/media")
STORED = re.compile(r"[0-9a-f]{32}")


@router.get("/{key}/{number}")
def picture(key: str, number: int, shared: Shared, visitor: Reader) -> Response:
    """Picture 0 is the bare image, 1 and on are the panels; the address is new for every page of every reader."""
    with shared.store.read() as session:
        page = answers.find(session, visitor.id, key)
        if page is None or answers.gate(session, page) is not answers.Gate.OPEN:
            raise HTTPException(404)
        panels = settings.load(session).config.condition(page.condition).panels
        if not 0 <= number <= len(panels):
            raise HTTPException(404)
        condition, panel = (page.condition, panels[number - 1].key) if number else ("", "image")
        found = session.exec(
            select(Media).where(Media.item_id == page.item_id, Media.condition == condition, Media.panel == panel)
        ).first()
    if found is None or not STORED.fullmatch(found.file):
        raise HTTPException(404)
    return Response((shared.media / found.file).read_bytes(), media_type="image/png")
