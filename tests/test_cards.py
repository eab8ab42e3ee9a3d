"""Cards: what methods are chosen by is data, and agrees with what they load and with the papers' tables."""

import dataclasses
import json
import subprocess
import sys
import tomllib
from importlib.resources import files

import pytest

from wordmask.cards import EIGHT, Card, CardError, cards, rank
from wordmask.methods import METHODS, Method, methods_of, table_to_choose_by
from wordmask.weights import catalogue

HERE = [method for method in METHODS if method.kind == "segmenter"]


def test_every_segmenter_here_has_a_card_whose_weights_are_catalogued():
    for method in HERE:
        assert method.card.weights, method.name
        assert all(catalogue.find(name) for name in method.card.weights)


def test_figures_are_those_of_the_papers_tables():
    printed = tomllib.loads(
        files("wordmask.benchmarks.tables").joinpath("clip_dinoiser.toml").read_text(encoding="utf-8")
    )["clip-dinoiser-1"]
    for label, name in {
        "MaskCLIP": "maskclip",
        "ReCo": "reco",
        "CLIP-DIY": "clip-diy",
        "CLIP-DINOiser": "clip-dinoiser",
    }.items():
        assert cards()[name].figures == printed[label]
    assert cards()["clip-dinoiser"].mean == pytest.approx(40.3)


def test_the_rank_is_by_the_published_mean_then_by_cost_and_leaves_out_what_needs_more():
    full = dict.fromkeys(EIGHT, 40.0)
    one = Card(figures=full, weights=("a",), cost=2.0)
    known = {
        "dear": one,
        "cheap": dataclasses.replace(one, cost=1.0),
        "best": dataclasses.replace(one, figures=full | {"voc": 41.0}),
        "asks": dataclasses.replace(one, wants="pictures", figures=full | {"voc": 90.0}),
        "other": dataclasses.replace(one, beyond="masks", figures=full | {"voc": 90.0}),
        "partly": Card(figures={"voc": 99.0}, weights=("a",)),
    }
    assert rank(known) == ["best", "cheap", "dear"]
    with pytest.raises(CardError, match="not of imagenet"):
        Card(figures={"imagenet": 1.0})


def test_the_table_to_choose_by_has_the_best_first_with_cost_needs_and_licence():
    known = methods_of("segmenter")
    rows = table_to_choose_by(known[name] for name in ("maskclip", "talk2dino", "reco")).splitlines()[2:5]
    assert [row.split(" | ")[0] for row in rows] == ["| talk2dino", "| maskclip", "| reco"]
    for row, name in zip(rows, ("talk2dino", "maskclip", "reco"), strict=True):
        card = known[name].card
        told = [f"{card.mean:.1f} ({card.protocol})", known[name].needs, card.wants, known[name].licence]
        assert all(part in row for part in told)
    assert f" | {cards()['talk2dino'].cost:g} | " in rows[0]


def test_a_method_of_a_plugin_brings_its_card_and_takes_none_of_ours():
    card = Card(backbones="its own")
    assert Method("mine", "segmenter", "a:b", "Somebody", brings=card).card is card
    assert Method("maskclip", "segmenter", "a:b", "Somebody").card == Card()
    assert methods_of("saliency")["found"].card == Card()


def test_cards_are_read_without_torch():
    look = "import sys; from wordmask.methods import list_methods; [m.card for m in list_methods()]"
    code = f"{look}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_segmenters_are_listed_by_what_they_cost_and_by_what_is_here(command, monkeypatch):
    status, out, _ = command("methods", "--max-cost", "1.5", "--json")
    found = json.loads(out)
    assert status == 0
    assert {row["name"] for row in found} == {m.name for m in HERE if m.card.cost is not None and m.card.cost <= 1.5}
    means = [row["mean"] or 0 for row in found]
    assert means == sorted(means, reverse=True)

    monkeypatch.setattr("wordmask.cli.methods.is_here", lambda card: "clip-dinoiser" in card.weights)
    _, out, _ = command("methods", "--here", "--json")
    assert [(row["name"], row["here"]) for row in json.loads(out)] == [("clip-dinoiser", True)]
    status, _, err = command("methods", "--here", "--max-cost", "0.1")
    assert (status, "costs at most 0.1 times MaskCLIP and has all its weights on this machine" in err) == (1, True)
