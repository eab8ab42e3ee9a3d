"""The files of `deploy/`: they say what they should, and tools that know them find nothing wrong."""

import configparser
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from wordmask.serving.config import read_config

REPOSITORY = Path(__file__).parents[1]
DEPLOY = REPOSITORY / "deploy"
BUILDERS = ("docker", "podman", "buildah")
INSTRUCTIONS = {
    "ARG", "FROM", "ENV", "WORKDIR", "COPY", "RUN", "USER", "VOLUME", "EXPOSE", "STOPSIGNAL", "HEALTHCHECK",
    "ENTRYPOINT", "CMD",
}  # fmt: skip


def instructions():
    lines = [line for line in (DEPLOY / "Dockerfile").read_text().splitlines() if not line.startswith("#")]
    text = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    return [tuple(line.split(None, 1)) for line in text.splitlines() if line.strip()]


def ignored(path):
    """Whether a path of the repository stays out of the image's context: the last pattern that fits decides."""
    out = False
    for pattern in (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines():
        if not pattern.startswith("#") and pattern.strip():
            own = pattern.lstrip("!")
            fits = any(_fits(part, own) for part in (str(path), *map(str, Path(path).parents)))
            if fits:
                out = not pattern.startswith("!")
    return out


def _fits(path, pattern):
    regex = re.escape(pattern).replace(r"\*\*/", "(.*/)?").replace(r"\*", "[^/]*")
    return re.fullmatch(regex, path) is not None


def test_the_image_is_made_of_what_is_there_and_runs_without_rights():
    told = instructions()
    assert {word for word, _ in told} <= INSTRUCTIONS
    stages = [rest for word, rest in told if word == "FROM"]
    assert stages[0].endswith(" AS build")
    for word, rest in told:
        if word == "COPY" and not rest.startswith("--from=build"):
            for source in rest.split()[:-1]:
                assert (REPOSITORY / source).exists(), source
                assert not ignored(source), source
    last = dict(told[[word for word, _ in told].index("FROM", 2) :])
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", last["USER"])
    assert "/healthz" in last["HEALTHCHECK"]
    assert json.loads(last["ENTRYPOINT"]) == ["wordmask"]
    assert last["STOPSIGNAL"] == "SIGTERM"


def test_nothing_else_of_a_working_tree_comes_into_the_image():
    for path in (".git/config", ".venv/bin/python", "data/photo.jpg", "run/student.safetensors", ".env",
                 "src/wordmask/__pycache__/a.pyc", "tests/test_rest.py"):  # fmt: skip
        assert ignored(path), path
    assert not ignored("src/wordmask/cli/serve.py")
    assert not ignored("deploy/serve.yaml")


def test_what_the_files_call_is_what_the_verb_takes(command):
    config = read_config(DEPLOY / "serve.yaml", {}, {})
    assert config.host == "0.0.0.0"
    _, *arguments = json.loads(dict(instructions())["CMD"])
    arguments[arguments.index("/etc/wordmask/serve.yaml")] = DEPLOY / "serve.yaml"
    status, out, _ = command("serve", *arguments, "--print-config")
    assert (status, "access_log: '-'" in out) == (0, True)


def unit():
    parser = configparser.RawConfigParser(strict=False)
    parser.optionxform = str
    parser.read(DEPLOY / "wordmask.service")
    return parser


def test_the_unit_gives_the_service_no_rights():
    service = unit()["Service"]
    assert service["DynamicUser"] == service["NoNewPrivileges"] == service["PrivateTmp"] == "yes"
    assert service["ProtectSystem"] == "strict"
    assert service["CapabilityBoundingSet"] == ""
    assert service["ExecStart"].startswith("/opt/wordmask/bin/wordmask serve --config /etc/wordmask/serve.yaml ")
    assert "HUP" in service["ExecReload"]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_systemd_finds_nothing_wrong_with_the_unit(tmp_path):
    text = (DEPLOY / "wordmask.service").read_text()
    own = tmp_path / "wordmask.service"
    own.write_text(text.replace("/opt/wordmask/bin/wordmask", sys.executable))  # it must be there
    done = subprocess.run(["systemd-analyze", "verify", own], capture_output=True, text=True, timeout=60)
    found = [line for line in done.stderr.splitlines() if "wordmask.service" in line]
    assert not found
    wrong = tmp_path / "wrong.service"
    wrong.write_text(text.replace("/opt/wordmask/bin/wordmask", sys.executable).replace("Type=exec", "Type=exce"))
    done = subprocess.run(["systemd-analyze", "verify", wrong], capture_output=True, text=True, timeout=60)
    assert "exce" in done.stderr


def builder():
    for name in BUILDERS:
        info = [name, "info"]
        if shutil.which(name) and not subprocess.run(info, capture_output=True, timeout=60).returncode:
            return name
    return None


@pytest.mark.slow
def test_the_image_is_built_and_says_its_settings():
    name = builder()
    if name is None:
        pytest.skip(f"none of {', '.join(BUILDERS)} works here")
    base = dict(instructions()[:2]).get("ARG", "PYTHON=3.12").partition("=")[2]
    pulled = subprocess.run([name, "pull", f"python:{base}-slim"], capture_output=True, timeout=600)
    if pulled.returncode:
        pytest.skip("the image that it begins with cannot be fetched")
    build = [name, "build", "-f", DEPLOY / "Dockerfile", "-t", "wordmask-test", REPOSITORY]
    assert subprocess.run(build, timeout=3600).returncode == 0
    if name == "buildah":
        return
    run = [name, "run", "--rm", "--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL", "wordmask-test"]
    done = subprocess.run([*run, "serve", "--print-config"], capture_output=True, text=True, timeout=300)
    assert "max_pictures: 16" in done.stdout
