"""The review of `wordmask label` through the service: the same page, whose verdicts are written beside the labels.

Where the service has a key, nothing of it is seen without: a form takes it once, and a cookie stands for it.
"""

import secrets
from collections import OrderedDict
from urllib.parse import parse_qs, unquote_to_bytes

import anyio.to_thread
from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.responses import FileResponse, HTMLResponse, RedirectResponse

from wordmask.labelling.review import page
from wordmask.serving.rest import error_answer
from wordmask.serving.review_folder import NOT_FOUND, ReviewFolder
from wordmask.serving.service import Service
from wordmask.serving.settings import RequestError

PLACE, COOKIE = "/review", "wordmask-review"
MOST_VISITORS = 1000
MOST_FORM = 4096
MOST_BODY = 8 * 2**20
"""Bytes of one picture's verdicts, run lengths among them."""
HEADERS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'self'; img-src 'self' blob:; style-src 'unsafe-inline'; "
    "script-src 'self' 'unsafe-inline'; frame-ancestors 'none'",
}
FORM = """<!doctype html><html lang="en"><meta charset="utf-8"><title>Review</title>
<meta name="viewport" content="width=device-width"><body style="font: 16px system-ui; margin: 2rem">
<h1>Review</h1><p role="alert">{told}</p><form method="post" action="login"><label>This service's key
<input type="password" name="key" autofocus required></label> <button>Open</button></form></body></html>"""


def mount_review(app: FastAPI, service: Service, folder: ReviewFolder) -> None:
    """Mount the review at /review/. Whoever opened the folder closes it."""
    app.include_router(routes(service, folder))
    if not service.segmenters:  # there is nothing else to look at
        app.add_api_route("/", lambda: RedirectResponse(f"{PLACE}/"), include_in_schema=False)


def routes(service: Service, folder: ReviewFolder) -> APIRouter:
    visitors = _Visitors(service)
    router = APIRouter(prefix=PLACE, include_in_schema=False)

    @router.get("")
    async def there() -> Response:
        return RedirectResponse(f"{PLACE}/")

    @router.get("/")
    async def review(request: Request) -> Response:
        if not visitors.know(request):
            return HTMLResponse(FORM.format(told=""), headers=HEADERS)
        return HTMLResponse(page(folder.title, api="corrections"), headers=HEADERS)

    @router.post("/login")
    async def login(request: Request) -> Response:
        body = await request.body()
        given = parse_qs(body[:MOST_FORM].decode("latin-1"), encoding="utf-8").get("key", [""])[0]
        if not service.is_key(given.encode()):
            return HTMLResponse(FORM.format(told="This is not the key."), headers=HEADERS)
        answer = RedirectResponse(f"{PLACE}/", status_code=303)
        secure = request.url.scheme == "https"
        answer.set_cookie(COOKIE, visitors.let_in(), path=PLACE, httponly=True, samesite="strict", secure=secure)
        return answer

    @router.get("/review/index.js")
    async def index(request: Request) -> Response:
        visitors.check(request)
        return _script(await anyio.to_thread.run_sync(folder.index_script))

    @router.get("/review/masks-{number}.js")
    async def masks(number: str, request: Request) -> Response:
        visitors.check(request)
        if not number.isascii() or not number.isdigit() or len(number) > 9:
            raise NOT_FOUND
        return _script(await anyio.to_thread.run_sync(folder.masks_script, int(number)))

    @router.get("/review/pictures/{name}")
    async def copy(name: str, request: Request) -> Response:
        visitors.check(request)
        return FileResponse(folder.copy(name), headers=_PRIVATE)

    @router.get("/pictures/{path:path}")
    async def picture(request: Request) -> Response:
        visitors.check(request)
        raw = request.scope.get("raw_path", request.scope["path"].encode())
        below = unquote_to_bytes(raw.partition(b"?")[0].partition(f"{PLACE}/pictures/".encode())[2])
        return FileResponse(folder.picture(below), headers=_PRIVATE)

    @router.put("/corrections/{fingerprint}")
    async def put(fingerprint: str, request: Request) -> Response:
        visitors.check(request)
        if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
            raise RequestError(403, "origin", "verdicts are taken from the review's own page")
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            raise RequestError(415, "content_type", "send application/json")
        if len(await request.body()) > MOST_BODY:
            raise RequestError(413, "too_large", f"{MOST_BODY} bytes are allowed here")
        try:
            told = await request.json()
        except (ValueError, RecursionError) as error:
            raise RequestError(400, "json", "this is no JSON") from error
        try:
            await anyio.to_thread.run_sync(folder.put, fingerprint, told)
        except OSError as error:
            return error_answer(RequestError(507, "disk", f"it cannot be written ({error.strerror or error})"))
        return Response(status_code=204)

    return router


_PRIVATE = {"Cache-Control": "private, max-age=600", "X-Content-Type-Options": "nosniff"}


def _script(content: str) -> Response:
    return Response(content, media_type="text/javascript", headers=HEADERS)


class _Visitors:
    """Those who have given the key; of many, the last."""

    def __init__(self, service: Service):
        self._service = service
        self._known: OrderedDict[str, None] = OrderedDict()

    def let_in(self) -> str:
        token = secrets.token_urlsafe(32)
        self._known[token] = None
        if len(self._known) > MOST_VISITORS:
            self._known.popitem(last=False)
        return token

    def know(self, request: Request) -> bool:
        return self._service.settings.api_key is None or request.cookies.get(COOKIE) in self._known

    def check(self, request: Request) -> None:
        if not self.know(request):
            self._service.check_key(request)
