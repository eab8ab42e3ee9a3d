"""The REST interface's description: right for programs, and for people something that works as it stands."""

import html
import json
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from PIL import Image
from pycocotools import mask as coco_mask

from support.painted import Painted
from support.served_app import listening
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


def test_what_to_try_follows_the_address_the_key_and_the_names_that_a_student_knows():
    assert "http://masks.example:8000/v1/segment" in commands(docs_of(headers={"host": "masks.example:8000"}))
    assert "$WORDMASK_API_KEY" in commands(docs_of(api_key="sesame"))
    assert "$WORDMASK_API_KEY" not in commands(docs_of())
    assert "names=bird, background" in commands(docs_of({"student": Student()}))


def test_no_name_of_a_method_ends_the_script():
    assert "</script><b>" not in docs_of({"</script><b>": Painted()})


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_the_commands_of_the_page_work_as_they_stand(tmp_path):
    environment = {"PATH": "/usr/bin:/bin", "WORDMASK_API_KEY": "sesame"}

    def run(*command):
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=30)
        assert done.returncode == 0, (command, done.stderr)
        return done.stdout

    app = build_app({"painted": Painted()}, ServeSettings(api_key="sesame"), page=False)
    with listening(app) as (_, address):
        lines = commands(run("curl", "-s", f"{address}/docs")).splitlines()
        answers = [run("sh", "-c", line.replace("curl", "curl -sS --fail", 1)) for line in lines]
    answer, many, models = json.loads(answers[1]), json.loads(answers[4]), json.loads(answers[-1])
    assert many == {"answers": [answer, answer]}
    assert models[0]["method"] == answer["method"] == "painted"
    size = Image.open(tmp_path / "photo.webp").size[::-1]
    assert coco_mask.decode(answer["masks"][0]["rle"]).shape == size
    assert Image.open(tmp_path / "masks.png").size[::-1] == size
    assert Image.open(tmp_path / "overlay.png").width == size[1]


def test_what_the_pages_are_made_of_is_in_the_package():
    """A wheel holds the kinds of files that pyproject.toml names, and no others beside the code."""
    root = Path(__file__).parents[1]
    told = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["wordmask"]
    for path in (root / "src/wordmask/serving/static").iterdir():
        assert any(path.match(pattern) for pattern in told), path.name
