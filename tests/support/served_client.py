"""The service and its page in this process, and what is sent to them."""

from fastapi.testclient import TestClient

from support.painted import NAMES, Painted
from wordmask.serving import ServeSettings, build_app


def client_of(segmenter=None, *, page=False, **settings):
    app = build_app({"painted": segmenter or Painted()}, ServeSettings(**settings), page=page)
    return TestClient(app, raise_server_exceptions=False)


def form(photo, names=tuple(NAMES), **fields):
    files = [("image", ("C:\\photo.png", photo, "image/png"))]
    return {"files": files, "data": {"names": list(names), **fields}}


def reason(response, status):
    """Why it was refused, in the form that all refusals have."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    error = response.json()["error"]
    assert set(error) == {"code", "reason"}
    return error["reason"]


def upload(client, content, name="photo.png"):
    """As the page does it: the address of a picture, which is its token and its name."""
    answer = client.post("/gradio_api/upload", files={"files": (name, content)})
    assert answer.status_code == 200, answer.text
    return answer.json()[0]


def ask(client, picture, names=tuple(NAMES), method="painted", **more):
    """As the page does it."""
    return client.post("/page/ask", json={"picture": picture, "names": list(names), "method": method, **more})
