"""A service's settings from a file, and those of the command line before it."""

import pytest
import yaml

from support.painted import Painted
from wordmask import segmenters
from wordmask.serving.config import read_config
from wordmask.serving.settings import ServeError, ServeSettings

FILE = """
host: 0.0.0.0
port: 8080
page: false
methods: [maskclip, {method: clip-dinoiser, precision: fp32, set: {refine: pamr}}]
limits: {max_names: 50, decoders: 1, trusted_proxies: [10.0.0.0/8]}
"""


@pytest.fixture
def file(tmp_path):
    file = tmp_path / "serve.yaml"
    file.write_text(FILE)
    return file


def test_a_file_says_all_and_what_is_typed_goes_before_it(file):
    config = read_config(file, {"host": "127.0.0.1", "port": None}, {"max_names": 7, "waiting": None})
    assert (config.host, config.port, config.page) == ("127.0.0.1", 8080, False)
    assert config.methods[1].set == {"refine": "pamr"}
    assert config.settings == ServeSettings(max_names=7, decoders=1, trusted_proxies=("10.0.0.0/8",))
    assert read_config(None, {}, {}).settings == ServeSettings()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("hosts: a", "hosts: is no setting; did you mean host?"),
        ("methods: [{method: maskclip, colour: red}]", "0.colour: is no setting; there are method, preset, weights,"),
        ("methods: [{method: maskclip, weight: red}]", "0.weight: is no setting; did you mean weights?"),
        ("label_studio: {port: 3}", "label_studio.port: is no setting; there are host, files, method"),
        ("port: 70000", "port"),
        ("limits: {max_nams: 3}", "no limit 'max_nams'"),
        ("limits: {max_names: 0}", "max_names"),
        ("limits: {trusted_proxies: [nginx]}", "'nginx' is neither an address"),
        ("limits: 3", "limits holds no settings"),
        ("- a", "holds no settings"),
        ("methods: [{method: maskclip, set: {weights: x}}]", "set holds weights"),
        ("a: !!python/object/apply:os.system [ls]", "not valid YAML"),
        ("a: [", "not valid YAML"),
    ],
)
def test_a_mistake_is_named_with_its_file(tmp_path, text, says):
    file = tmp_path / "serve.yaml"
    file.write_text(text)
    with pytest.raises(Exception, match=r"serve\.yaml") as error:
        read_config(file, {}, {})
    assert says in str(error.value)
    assert "\n" not in str(error.value)


def test_what_is_printed_is_a_file_that_says_the_same(command, file, tmp_path):
    status, out, err = command("serve", "--config", file, "--max-names", "9", "--api-key", "sesame", "--print-config")
    assert status == 0
    assert "sesame" not in out
    assert "key is not shown" in err
    again = tmp_path / "again.yaml"
    again.write_text(out)
    assert command("serve", "--config", again, "--print-config")[1] == out
    told = yaml.safe_load(out)
    assert (told["limits"]["max_names"], told["port"]) == (9, 8080)
    assert set(told["limits"]) == {*ServeSettings.__dataclass_fields__} - {"api_key"}


def test_methods_of_a_file_are_loaded_with_what_it_says_of_them(command, file, monkeypatch):
    import uvicorn

    loads = []
    monkeypatch.setattr(segmenters, "load", lambda **load: loads.append(load) or Painted())
    monkeypatch.setattr(uvicorn.Server, "run", lambda server, sockets: server.service.batcher.close())
    typed = ("--config", file, "--host", "127.0.0.1", "--port", "0")
    assert command("serve", *typed)[0] == 0
    assert [(load["method"], load["precision"]) for load in loads] == [("maskclip", "auto"), ("clip-dinoiser", "fp32")]
    assert loads[1]["refine"] == "pamr"
    loads.clear()
    assert command("serve", *typed, "--precision", "bf16", "--set", "refine=none")[0] == 0
    assert [(load["refine"], load["precision"]) for load in loads] == [("none", "bf16"), ("none", "bf16")]
    loads.clear()
    assert command("serve", *typed, "--student", "run/dogs.safetensors")[0] == 0
    assert [load["weights"] for load in loads] == ["run/dogs.safetensors"]


def test_a_file_that_is_not_there_is_said(command):
    status, _, err = command("serve", "--config", "nowhere.yaml")
    assert (status, "nowhere.yaml: cannot be read" in err) == (1, True)


def test_settings_that_do_not_fit_are_an_error_of_the_service():
    with pytest.raises(ServeError, match="max_pictures"):
        read_config(None, {}, {"max_pictures": 0})


def test_a_service_may_have_concepts_of_its_own(command, tmp_path):
    file = tmp_path / "contrast.json"
    assert read_config(None, {"contrast": str(file)}, {}).contrast == str(file)
    status, _, err = command("serve", "--contrast", file, "--port", "0", "--preset", "world", "--method", "maskclip")
    assert (status, "contrast.json" in err) == (1, True)  # before any network is loaded
