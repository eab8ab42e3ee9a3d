"""The REST interface's description: right for programs, and for people something that works as it stands."""

import html
import json
import re
import shutil
import subprocess
import threading
import time
import tomllib
from pathlib import Path

import pytest
import uvicorn
from fastapi.testclient import TestClient
from PIL import Image
from pycocotools import mask as coco_mask

from support.painted import Painted
from wordmask.names.vocabulary import Vocabulary
from wordmask.serving import ServeSettings, build_app


class Student(Painted):
    vocabulary = Vocabulary.of(["background", "bird", "sofa"])


def docs_of(segmenters=None, headers=None, **settings):
    app = build_app(segmenters or {"painted": Painted()}, ServeSettings(**settings), page=False)
    with TestClient(app) as client:
        return client.get("/docs", headers=headers).text


def commands(page):
    return html.unescape(re.search(r"<pre>(curl.*?)</pre>", page, re.DOTALL)[1])


def test_answers_are_as_they_are_described():
    """Every field that an answer has is described, and the other way round, as is the example."""
    with TestClient(build_app({"painted": Painted()}, page=False)) as client:
        responses = client.get("/openapi.json").json()["paths"]["/v1/segment"]["post"]["responses"]
        picture = client.get("/docs/example.webp").content
        answer = client.post("/v1/segment", files={"image": picture}, data={"names": "red, blue, background"}).json()
        error = client.post("/v1/segment", files={"image": b"hello"}, data={"names": "red"}).json()
    for status, told in (("200", answer), ("400", error)):
        schema = responses[status]["content"]["application/json"]["schema"]
        for own in (told, schema["example"]):
            assert_described(own, schema)
    assert answer["masks"]
    assert set(responses) >= {"200", "400", "401", "404", "408", "413", "415", "503"}


def assert_described(value, schema):
    kinds = {"object": dict, "array": list, "string": str, "integer": int, "number": float, "null": type(None)}
    allowed = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    assert isinstance(value, tuple(kinds[kind] for kind in allowed)), (value, schema)
    if isinstance(value, dict):
        assert set(schema["required"]) <= set(value) <= set(schema["properties"])
        for name, part in value.items():
            assert_described(part, schema["properties"][name])
    elif isinstance(value, list):
        for part in value:
            assert_described(part, schema["items"])


def test_the_page_explains_every_field_and_every_status():
    page = docs_of()
    for words in ("POST /v1/segment", "GET /v1/models", "masks[].rle.counts", "error.reason", "Retry-After", "palette"):
        assert words in page
    assert '"name": "dog"' in html.unescape(page)
    assert "src=" not in page  # nothing is fetched from elsewhere
    assert "HOST" not in page


def test_the_address_is_the_one_that_was_asked():
    assert "http://masks.example:8000/v1/segment" in commands(docs_of(headers={"host": "masks.example:8000"}))


def test_a_key_is_part_of_what_to_try():
    assert "$WORDMASK_API_KEY" in commands(docs_of(api_key="sesame"))
    assert "$WORDMASK_API_KEY" not in commands(docs_of())


def test_a_student_is_tried_with_names_that_it_knows():
    assert "names=bird, background" in commands(docs_of({"student": Student()}))


def test_no_name_of_a_method_ends_the_script():
    assert "</script><b>" not in docs_of({"</script><b>": Painted()})


@pytest.fixture
def address():
    """A service that really listens."""
    app = build_app({"painted": Painted()}, ServeSettings(api_key="sesame"), page=False)
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join()


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_the_commands_of_the_page_work_as_they_stand(address, tmp_path):
    page = subprocess.run(["curl", "-s", f"{address}/docs"], capture_output=True, text=True, check=True, timeout=30)
    answers = []
    for line in commands(page.stdout).splitlines():
        done = subprocess.run(
            ["sh", "-c", line.replace("curl", "curl -sS --fail", 1)],
            cwd=tmp_path,
            env={"PATH": "/usr/bin:/bin", "WORDMASK_API_KEY": "sesame"},
            capture_output=True,
            text=True,
            timeout=30,
        )
        assert done.returncode == 0, (line, done.stderr)
        answers.append(done.stdout)
    answer, models = json.loads(answers[1]), json.loads(answers[3])
    assert models[0]["method"] == answer["method"] == "painted"
    size = Image.open(tmp_path / "photo.webp").size[::-1]
    assert coco_mask.decode(answer["masks"][0]["rle"]).shape == size
    assert Image.open(tmp_path / "masks.png").size[::-1] == size


def test_what_the_pages_are_made_of_is_in_the_package():
    """A wheel holds the kinds of files that pyproject.toml names, and no others beside the code."""
    root = Path(__file__).parents[1]
    told = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["wordmask"]
    for path in (root / "src/wordmask/serving/static").iterdir():
        assert any(path.match(pattern) for pattern in told), path.name
