"""The service and its page in this process, and what is sent to them."""

from fastapi.testclient import TestClient

from support.painted import NAMES, Painted
from wordmask.serving import ServeSettings, build_app


class Counting(Painted):
    """Notes the most pictures that it looked at together, and what its service held of places and bytes then."""

    def __init__(self, service=None):
        super().__init__()
        self.service, self.most, self.held = service, 0, []

    def look_many(self, images, sources):
        self.most = max(self.most, len(images))
        if self.service is not None:
            self.held.append((self.service.places.held, self.service.pictures.held))
        return super().look_many(images, sources)


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
