"""The HTTP interface: rows in, answers out, whether it lives, and what it takes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ftrun import __version__
from ftrun.errors import DataError, UserError, counted
from ftrun.experiments.serving.batching import Batcher, Full
from ftrun.runs.files import finite, size_in_words

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response

    from ftrun.experiments.serving.answering import Answering

JSON = "application/json"
ROUTES = ("POST /predict", "GET /health", "GET /openapi.json")
TYPES: dict[str, dict[str, Any]] = {
    "text": {"type": "string"},
    "words": {"type": "array", "items": {"type": "string"}},
    "image": {
        "type": "string",
        "contentEncoding": "base64",
        "description": "a PNG, JPEG or other image file",
    },
}


@dataclass(frozen=True)
class Limits:
    """What a request may have, and how much may wait."""

    bytes: int  # of a request's body
    rows: int  # of a request
    batch: int  # rows that are answered together
    room: int  # rows that wait


class Refused(Exception):
    """A request that is not answered: the status, and one line."""

    def __init__(self, status: int, line: str) -> None:
        super().__init__(line)
        self.status = status


class Service:
    """The service of a run; `about` is what /health says of it."""

    def __init__(self, answering: Answering, limits: Limits, about: dict[str, Any]) -> None:
        self.answering, self.limits, self.about = answering, limits, about
        self.batcher = Batcher(answering.each, limits.batch, limits.room)

    def application(self) -> Starlette:
        """The routes, and a worker as long as it lives."""
        from starlette.applications import Starlette
        from starlette.exceptions import HTTPException
        from starlette.routing import Route

        routes = [
            Route("/predict", self.predict, methods=["POST"]),
            Route("/health", self.health),
            Route("/openapi.json", self.openapi),
        ]
        return Starlette(
            routes=routes, lifespan=self.living, exception_handlers={HTTPException: self.elsewhere}
        )

    @asynccontextmanager
    async def living(self, app: Starlette) -> AsyncIterator[None]:
        working = asyncio.create_task(self.batcher.run())
        yield
        working.cancel()
        self.batcher.thread.shutdown(wait=True)

    async def predict(self, request: Request) -> Response:
        """One answer for each row of the request; else a status, and one line that says why."""
        try:
            rows = self.answering.rows(await asked(request, self.limits))
            if len(rows) > self.limits.rows:
                raise Refused(413, f"{len(rows):,} rows; a request has {self.limits.rows:,} at most")
            return answer(200, {"answers": await self.batcher.ask(rows)})
        except Full:
            waiting = f"{counted(self.batcher.rows_waiting, 'row')} waiting; ask again later"
            return answer(503, {"detail": waiting}, {"Retry-After": "1"})
        except (Refused, UserError) as error:
            return answer(status_of(error), {"detail": " ".join(str(error).split())})

    async def health(self, request: Request) -> Response:
        known = self.batcher
        counts = {"answered": known.answered, "batches": known.batches, "waiting": known.rows_waiting}
        return answer(200, {"status": "ok", **self.about, **counts})

    async def openapi(self, request: Request) -> Response:
        return answer(200, document(self.answering, self.limits, self.about))

    async def elsewhere(self, request: Request, error: Any) -> Response:
        """What is at no other path, and with no other method."""
        there = f"{request.method} {request.url.path} is not there; possible: {', '.join(ROUTES)}"
        return answer(error.status_code, {"detail": there}, error.headers)


async def asked(request: Request, limits: Limits) -> Any:
    """What stands under `rows` in the body; Refused, or DataError, where nothing can be made of it.

    Only JSON is read, so that no page of a browser can ask without leave of its own site.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != JSON:
        raise Refused(415, f"Content-Type is {kind or 'not set'}; possible: {JSON}")
    found = bytearray()
    async for part in request.stream():
        found += part
        if len(found) > limits.bytes:
            raise Refused(413, f"the body has more than {size_in_words(limits.bytes)}")
    try:
        body = json.loads(found)
    except (ValueError, RecursionError) as error:
        raise DataError(f"the body is no JSON: {error}") from None
    if not isinstance(body, dict) or body.keys() != {"rows"}:
        raise DataError('the body is an object with a list of rows: {"rows": […]}')
    return body["rows"]


def answer(status: int, content: dict[str, Any], headers: Mapping[str, str] | None = None) -> Response:
    """JSON, numbers that are not finite as null."""
    from starlette.responses import Response

    text = json.dumps(finite(content), ensure_ascii=False, allow_nan=False)
    return Response(text, status, headers, JSON)


def status_of(error: Exception) -> int:
    """What is wrong with the rows is the client's, all else, such as too little memory, is not."""
    if isinstance(error, Refused):
        return error.status
    return 422 if isinstance(error, DataError) else 500


def document(answering: Answering, limits: Limits, about: dict[str, Any]) -> dict[str, Any]:
    """The interface as OpenAPI 3.1, with the columns that this run reads."""
    columns = {name: TYPES[kind] for name, kind in answering.columns.items()}
    row: dict[str, Any] = {"type": "object", "properties": columns}
    row = {"anyOf": [{"type": "string"}, row]} if answering.column else row
    rows = {"type": "array", "minItems": 1, "maxItems": limits.rows, "items": row}
    body = {
        "type": "object",
        "required": ["rows"],
        "additionalProperties": False,
        "properties": {"rows": rows},
    }
    answers = {
        "type": "array",
        "items": {"type": "object"},
        "description": "one for each row, in their order",
    }
    found = {"type": "object", "properties": {"answers": answers}}
    wrong = {"type": "object", "properties": {"detail": {"type": "string"}}}
    refused = {413: "too large", 415: "not JSON", 422: "rows that cannot be read", 503: "too many wait"}
    responses: dict[str, Any] = {"200": said("the answers of ftrun predict", found)}
    responses |= {str(status): said(why, wrong) for status, why in refused.items()}
    asking = {"required": True, "content": {JSON: {"schema": body}}}
    predict = {
        "summary": "Answer rows",
        "operationId": "predict",
        "requestBody": asking,
        "responses": responses,
    }
    health: dict[str, Any] = {"summary": "Whether it answers, and how much it has", "operationId": "health"}
    health |= {"responses": {"200": said("it does", {"type": "object"})}}
    return {
        "openapi": "3.1.0",
        "info": {"title": f"ftrun: {about['run']}", "version": __version__},
        "paths": {"/predict": {"post": predict}, "/health": {"get": health}},
    }


def said(why: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": why, "content": {JSON: {"schema": schema}}}
