"""The method "auto" is the best whose weights can be had; which and why is said, and no preset is changed."""

import json

import pytest

import wordmask
from support.painted import painted_folder
from wordmask.cards import EIGHT, Card
from wordmask.labelling.claim import recorded_method
from wordmask.methods import Method, MethodError
from wordmask.plugins import Plugin
from wordmask.segmenters import choosing
from wordmask.weights import catalogue, fetching

CARDS = {"great": ("dinov3-vit-s-16",), "good": ("clip-vit-b-16-openai",), "fair": ("found",)}
"""Of falling figures; the first asks for a sign-in."""


@pytest.fixture
def machine(monkeypatch):
    """A machine with these weights, and with a network or without."""

    def machine(*local, network=True):
        monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
        monkeypatch.setenv("WORDMASK_OFFLINE", "" if network is not None else "1")
        monkeypatch.setattr(catalogue, "local", lambda entry: entry.name if entry.name in local else None)
        closed = {} if network else None
        monkeypatch.setattr(
            fetching,
            "unreachable_servers",
            lambda addresses: closed if closed is not None else dict.fromkeys(addresses, "silent"),
        )
        methods = [
            Method(name, "segmenter", "a:b", "2026", brings=Card(dict.fromkeys(EIGHT, 50.0 - i), weights=weights))
            for i, (name, weights) in enumerate(CARDS.items())
        ]
        monkeypatch.setattr(choosing, "list_methods", lambda kind: methods)
        return choosing.choose

    return machine


def test_the_best_that_can_be_had_is_taken_and_why_is_said(machine):
    choice = machine()()
    assert (choice.method, "clip-vit-b-16-openai can be fetched (about 598 MB)" in choice.why) == ("good", True)
    assert "49.0 mIoU" in choice.why
    choice = machine("dinov3-vit-s-16")()
    assert (choice.method, "on this machine" in choice.why) == ("great", True)


@pytest.mark.parametrize("network", [False, None])
def test_without_a_network_it_is_the_best_that_is_here(machine, network):
    choice = machine("found", network=network)()
    assert (choice.method, "great, good cannot be had" in choice.why) == ("fair", True)
    with pytest.raises(
        MethodError, match="great lacks dinov3-vit-s-16.*--weights FILE.*HF_HOME.*--preset world"
    ) as told:
        machine(network=network)()
    assert "\n" not in str(told.value)
    why = ("is there a network?", "silent") if network is False else ("downloads are switched off",)
    assert all(word in str(told.value) for word in (*why, "dinov3-vit-s-16 asks for a sign-in"))
    assert ("is there a network?" in str(told.value)) == (network is False)


def test_of_a_preset_of_a_plugin_the_plugin_says(monkeypatch):
    methods = [Method("maskclip", "segmenter", "a:b", ""), Method("clip-diy", "segmenter", "a:b", "")]
    plugin = Plugin(
        presets={"clip-diy": {"small": "a:b"}, "maskclip": {"small": "a:b"}},
        best={"small": ("gone", "clip-diy", "maskclip")},
        package="theirs",
    )
    monkeypatch.setattr(choosing, "installed", lambda: (plugin,))
    monkeypatch.setattr(choosing, "list_methods", lambda kind: methods)
    assert choosing.choose("small") == choosing.Choice("clip-diy", "the best with the preset small by theirs")
    with pytest.raises(
        MethodError, match="nothing says which method is best with the preset 'large': take a preset of paper, "
    ):
        choosing.choose("large")


def test_load_says_which_it_is_on_stderr_and_takes_no_weights(capsys):
    loaded = wordmask.load("auto", preset="world", device="cpu", precision="fp32")
    told = capsys.readouterr()
    assert loaded.method == "clip-dinoiser"
    assert (told.out, told.err.count("method: clip-dinoiser, the best with the preset world")) == ("", 1)
    with pytest.raises(MethodError, match="name the method that weights=x.pt are of"):
        wordmask.load(weights="x.pt")
    assert choosing.settled("maskclip", weights="x.pt") == "maskclip"
    assert capsys.readouterr().err == ""


def test_a_verb_takes_weights_for_no_method_that_nobody_named(command, tmp_path):
    folder = painted_folder(tmp_path / "in")
    names = ("--names", "dog", "--out", tmp_path / "out")
    for verb in (
        ("segment", folder, *names),
        ("label", folder, *names),
        ("evaluate", "--benchmark", "world", "--pictures", "1"),
        ("serve", "--no-page", "--port", "0"),
    ):
        status, out, err = command(*verb, "--preset", "world", "--weights", "x.pt")
        assert (status, out) == (1, "")
        assert err == "wordmask: error: auto chooses by what can be had: name the method that weights=x.pt are of\n"
    assert not (tmp_path / "out").exists()


def test_an_evaluation_is_of_the_method_that_auto_is(command):
    asked = ("evaluate", "--benchmark", "world", "--pictures", "1", "--preset", "world", "--device", "cpu", "--json")
    status, out, err = command(*asked)
    assert (status, "method: clip-dinoiser, the best with the preset world" in err) == (0, True)
    of_auto, of_named = json.loads(out), json.loads(command(*asked, "--method", "clip-dinoiser")[1])
    assert of_auto["method"] == "clip-dinoiser"
    assert of_auto | {"seconds": 0} == of_named | {"seconds": 0}


def test_labels_go_on_by_the_method_that_they_were_begun_with(command, tmp_path):
    folder = painted_folder(tmp_path / "in")
    out = tmp_path / "out"
    asked = ("label", folder, "--names", "dog", "--preset", "world", "--precision", "fp32", "--out", out)
    assert command(*asked, "--method", "maskclip")[0] == 0
    assert recorded_method(out) == "maskclip"
    status, _, err = command(*asked)
    assert (status, "method: " in err) == (0, False)
    settings = json.loads((out / ".wordmask/settings.json").read_text())
    assert (settings["segmenter"]["method"], settings["contrast"]) == ("maskclip", "auto")
    status, _, err = command(*asked, "--contrast", "none")
    assert (status, "contrast" in err) == (1, True)
