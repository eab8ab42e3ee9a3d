"""What another package brings by its entry point is found where the built-in things are."""

import json
import re
import sys
from importlib.metadata import EntryPoint
from importlib.resources import files
from types import SimpleNamespace

import numpy as np
import pytest

from support.squares import Guess, Squares
from wordmask import benchmarks
from wordmask.benchmarks import tables
from wordmask.benchmarks.tables import beside
from wordmask.benchmarks.tables.base import Row, Table, fill
from wordmask.benchmarks.tables.run import Run
from wordmask.cli import tables as tables_verb
from wordmask.cli.verbs import all_verbs
from wordmask.distillation.config import ConfigError, RunConfig, make_run
from wordmask.errors import WordmaskError
from wordmask.methods import presets_by_name, settings_of
from wordmask.pictures.image_files import find_images, raise_at_once
from wordmask.plugins import Plugin, PluginBenchmark, PluginFolder, PluginSuite, Verb, installed, named, where_from
from wordmask.saliency.base import SaliencyError
from wordmask.serving.examples import Examples, find_examples
from wordmask.training.found import FoundTraining
from wordmask.training.pictures import Drawn
from wordmask.training.plans import drawn_for, plan
from wordmask.weights import addresses

HERE = __name__
assert tables_verb  # its options are of the plug-ins that are there when it is imported


def open_squares(name, root, split, pictures):
    return Squares(pictures or 4)


def measure(run, column):
    return run.evaluate(Guess(), column).miou


def measure_shared(run, column):
    return run.shared.figure


TABLES = {
    "mine": Table("mine", "A table of mine", ("squares",), (Row("guess", measure=measure),)),
    "mine-1": Table("mine-1", "A table of a suite", ("figure",), (Row("shared", measure=measure_shared),)),
}


def open_suite(told, *, device, console):
    figures = {"figure": float(told["steps"])}
    shared = SimpleNamespace(**figures, described=lambda: figures)
    return shared, {"mine-1": TABLES["mine-1"]}


def draw(path, *, workers, progress):
    np.save(path, np.zeros((2, 8, 8, 3), np.uint8))
    return path


STEPS = {"steps": 7}
PICTURES = Drawn(2, draw)
DISTILL = RunConfig(clip="mine", seed=5)
MODELS = {"name": "0123"}


def identity():
    return "0123"


def is_mine(settings):
    return settings.read_text() == "mine"


def examples():
    return Examples("pictures of mine", ((np.zeros((8, 8, 3), np.uint8), ("square",)),), offered=("square", "circle"))


MINE = Plugin(
    presets={"train-found": {"mine": f"{HERE}:STEPS"}, "distill": {"mine": f"{HERE}:DISTILL"}},
    benchmarks={
        "squares": PluginBenchmark("squares on nothing", f"{HERE}:open_squares"),
        "drawn": PluginBenchmark("drawn squares", f"{HERE}:open_squares", preset="mine"),
        "filled": PluginBenchmark("drawn squares alone", f"{HERE}:open_squares", preset="mine", background=False),
    },
    tables=dict.fromkeys(TABLES, f"{HERE}:TABLES"),
    suites={"mine-all": PluginSuite(("mine-1",), f"{HERE}:open_suite")},
    models={"my models": f"{HERE}:identity"},
    drawn={"train-found": {"mine": f"{HERE}:PICTURES"}},
    folders=(PluginFolder("mine.txt", frozenset({"shown", "hidden"}), f"{HERE}:is_mine", "make mine", ("shown",)),),
    examples=f"{HERE}:examples",
)


@pytest.fixture
def bring(monkeypatch):
    """Make these the plug-ins of this environment, by "module:attribute"."""

    def change(*addresses):
        points = [EntryPoint(f"own-{number}", address, "") for number, address in enumerate(addresses)]
        monkeypatch.setattr("wordmask.plugins.entry_points", lambda group: points)
        installed.cache_clear()
        find_examples.cache_clear()

    yield change
    installed.cache_clear()
    find_examples.cache_clear()


@pytest.fixture
def mine(bring):
    bring(f"{HERE}:MINE")


def test_a_plug_in_that_cannot_be_imported_is_named_and_left_out(bring):
    bring("no_such_package:PLUGIN", f"{HERE}:MODELS", f"{HERE}:MINE")
    with pytest.warns(UserWarning, match="own-[01]") as told:
        assert [plugin.models for plugin in installed()] == [MINE.models]
    assert ["no_such_package" in str(one.message) for one in told] == [True, False]


def leave():
    sys.exit("not today")


def __getattr__(name):
    """One that leaves Python when it is looked for."""
    if name == "LEAVES":
        leave()
    raise AttributeError(name)


MALFORMED = {
    "addresses": ({"mine": "my_package.find"}, "addresses['mine'] is 'my_package.find', and not \"module:attribute\""),
    "methods": (["my_package:MINE"], "methods is ['my_package:MINE'], and not a Mapping"),
    "presets": ({"maskclip": "my_package:MINE"}, "presets['maskclip'] is 'my_package:MINE', and not a Mapping"),
    "aliases": ({"mine": 1}, "aliases['mine'] is 1, and not a str"),
    "benchmarks": ({"mine": "my_package:MINE"}, "benchmarks['mine'] is 'my_package:MINE', and not a"),
    "suites": (
        {"mine": PluginSuite("mine-1", "my_package:open")},
        "suites['mine'].tables is 'mine-1', and not a tuple",
    ),
    "verbs": ({"mine": Verb("my_package", "Mine.")}, "verbs['mine'].address is 'my_package', and not"),
    "folders": ((PluginFolder("a", ["b"], "a:b", "mine"),), "folders[0].holds is ['b'], and not a frozenset"),
    "examples": (examples, 'and not "module:attribute"'),
}


@pytest.mark.parametrize("held", MALFORMED)
def test_a_plug_in_that_holds_what_it_cannot_is_named_and_left_out(bring, monkeypatch, held):
    value, message = MALFORMED[held]
    monkeypatch.setattr(sys.modules[HERE], "MALFORMED_PLUGIN", Plugin(**{held: value}), raising=False)
    bring(f"{HERE}:MALFORMED_PLUGIN", f"{HERE}:MINE")
    with pytest.warns(UserWarning, match=re.escape(message)) as told:
        assert [plugin.models for plugin in installed()] == [MINE.models]
    assert "own-0" in str(told[0].message)


def test_a_plug_in_that_leaves_python_is_named_and_left_out(bring):
    bring(f"{HERE}:LEAVES", f"{HERE}:MINE")
    with pytest.warns(UserWarning, match="own-0 .* cannot be loaded: not today"):
        assert [plugin.models for plugin in installed()] == [MINE.models]


OWN_WORDS = {
    **{f"addresses-{word}": ("addresses", word) for word in ("https", "file", "timm", "c", "found")},
    **{"aliases": ("aliases", "found"), "benchmarks": ("benchmarks", "voc"), "tables": ("tables", "clip-diy-1")},
    **{"suites": ("suites", "clip-dinoiser-2"), "verbs": ("verbs", "segment")},
}
VALUES = {
    **{"aliases": "mine:word", "benchmarks": PluginBenchmark("mine", "a:b"), "suites": PluginSuite((), "a:b")},
    **{"verbs": Verb("a:b", "Mine."), "addresses": "a:b", "tables": "a:b"},
}


@pytest.fixture
def package(bring, monkeypatch):
    """Make these, each what one package brings, the plug-ins of this environment."""

    def change(*brought):
        names = [f"BROUGHT_{number}" for number in range(len(brought))]
        for name, plugin in zip(names, brought, strict=True):
            monkeypatch.setattr(sys.modules[HERE], name, plugin, raising=False)
        bring(*(f"{HERE}:{name}" for name in names))

    return change


@pytest.mark.parametrize(("held", "word"), OWN_WORDS.values(), ids=OWN_WORDS)
def test_what_is_a_word_of_ours_already_no_plug_in_takes(package, held, word):
    ask = {
        "addresses": lambda: addresses.is_brought(f"{word}:x"),
        "aliases": lambda: addresses.full(word, "role") != word,
        "benchmarks": lambda: word in benchmarks.brought_benchmarks(),
        "tables": lambda: tables.list_tables()[word] == "a:b",
        "suites": lambda: word in tables.brought_suites(),
        "verbs": lambda: all_verbs()[word] == VALUES["verbs"],
    }[held]
    package(Plugin(**{held: {word: VALUES[held]}}))
    with pytest.warns(UserWarning, match=f"{word!r} among the {held} of own-0 is wordmask's already"):
        assert not ask()


def test_a_preset_of_ours_no_plug_in_takes(package):
    package(Plugin(presets={"maskclip": {"paper": f"{HERE}:STEPS"}}))
    with pytest.warns(UserWarning, match="'paper' among the presets of maskclip of own-0 is wordmask's already"):
        assert settings_of("segmenter", "maskclip").stride != 7


@pytest.mark.parametrize("held", VALUES)
def test_of_two_plug_ins_that_bring_one_word_the_first_by_name_stays(package, held):
    value = VALUES[held]
    package(Plugin(**{held: {"mine": value}}), Plugin(**{held: {"mine": value, "other": value}}))
    with pytest.warns(UserWarning, match=f"'mine' among the {held} of own-1 is own-0's already"):
        assert [list(getattr(plugin, held)) for plugin in installed()] == [["mine"], ["other"]]


def test_of_two_presets_of_one_name_the_first_stays(package):
    package(*(Plugin(presets={"maskclip": {"mine": f"{HERE}:{name}"}}) for name in ("STEPS", "MODELS")))
    with pytest.warns(UserWarning, match="'mine' among the presets of maskclip of own-1 is own-0's already"):
        assert presets_by_name("segmenter", "maskclip")["mine"] == STEPS


def test_the_word_of_a_verb_can_be_typed(package):
    package(Plugin(verbs={"My Verb": Verb("a:b", "Mine.")}))
    with pytest.warns(UserWarning, match="'My Verb', and a verb's word is small letters"):
        assert not installed()


def test_what_is_not_there_is_named_with_its_package(bring, monkeypatch):
    absent = Plugin(presets={"maskclip": {"a": "no_such_package:A", "b": f"{HERE}:NOTHING"}})
    monkeypatch.setattr(sys.modules[HERE], "ABSENT", absent, raising=False)
    bring(f"{HERE}:ABSENT")
    presets = presets_by_name("segmenter", "maskclip")
    assert list(presets) == ["paper", "a", "b"]  # nothing of a plug-in's is imported to list them
    with pytest.raises(WordmaskError, match="no_such_package:A, which own-0 brings, .*: there is no module no_such"):
        settings_of("segmenter", "maskclip", "a")
    with pytest.raises(WordmaskError, match=f"{HERE}:NOTHING, which own-0 brings, .*: {HERE} has no NOTHING"):
        settings_of("segmenter", "maskclip", "b")
    assert settings_of("segmenter", "maskclip")


def test_a_benchmark_is_listed_opened_and_evaluated(mine):
    assert list(benchmarks.list_benchmarks())[:3] == ["squares", "drawn", "filled"]
    assert "voc" in benchmarks.list_benchmarks()
    assert benchmarks.evaluate(Guess(), "squares", pictures=3).images == 3
    assert benchmarks.default_benchmark() == "drawn"  # the first that needs no data
    assert benchmarks.evaluate(Guess()).images == 4


def test_drawn_benchmarks_stand_beside_the_papers_with_methods_of_their_own(mine):
    assert (beside.drawn("background"), beside.drawn("stuff")) == (("drawn",), ("filled",))
    assert tables.find("clip-diy-1").columns == ("voc", "coco-object", "drawn")
    assert tables.find("clip-dinoiser-1").columns[-3:] == ("voc", "filled", "drawn")
    assert beside.presets_beside() == ("mine",)
    assert [beside.preset_of(column) for column in ("voc", "squares", "filled")] == ["paper", "paper", "mine"]
    assert "--mine measures them" in beside.not_asked("drawn")


def test_a_table_is_listed_and_measured(mine, command, tmp_path):
    assert list(tables.list_tables())[-2:] == ["mine", "mine-1"]
    (row,) = fill(tables.find("mine"), Run(tmp_path / "run"))
    assert 0 < row.ours["squares"] < 100
    assert json.loads((tmp_path / "run" / "figures.json").read_text())["of"]["my models"] == "0123"
    status, out, _ = command("tables")
    assert (status, "A table of mine" in out, "mine-all" in out) == (0, True, True)


def test_a_suite_s_tables_share_what_it_opens(mine, command, tmp_path):
    assert tables.list_suites()["mine-all"] == ("mine-1",)
    status, out, _ = command("tables", "mine-all", "--steps", "3", "--out-dir", tmp_path, "--json")
    assert status == 0
    assert json.loads(out)["tables"][0]["rows"][0]["ours"] == {"figure": 3.0}
    assert json.loads((tmp_path / "mine-1" / "figures.json").read_text())["of"]["figure"] == 3.0


def test_a_training_takes_its_preset_and_its_pictures(mine, tmp_path):
    settings = plan(FoundTraining, "mine", pictures=tmp_path, out=tmp_path, changes={})
    assert settings.steps == 7
    assert drawn_for(FoundTraining, "mine").count == 2
    with pytest.raises(SaliencyError, match="only --preset mine draws its own"):
        drawn_for(FoundTraining, "paper")


def test_a_distillation_takes_its_preset(mine, tmp_path):
    run = make_run({"preset": "mine", "names": ["dog"], "images": tmp_path, "out": tmp_path / "out"})
    assert (run.preset, run.config.clip, run.config.seed) == ("mine", "mine", 5)
    with pytest.raises(ConfigError, match="choose one of paper, imagenet-s, mine"):
        make_run({"preset": "yours"})


def test_of_a_folder_that_its_command_wrote_only_the_pictures_are_collected(mine, tmp_path):
    for place in ("shown", "hidden"):
        (tmp_path / place).mkdir()
        (tmp_path / place / "a.jpg").touch()
    (tmp_path / "mine.txt").write_text("mine")
    assert list(find_images(tmp_path, raise_at_once)) == [tmp_path / "shown" / "a.jpg"]
    (tmp_path / "mine.txt").write_text("somebody's")
    assert len(list(find_images(tmp_path, raise_at_once))) == 2


def test_examples_are_the_plug_in_s(mine):
    assert (find_examples().about, find_examples().offered) == ("pictures of mine", ("square", "circle"))


def test_without_plug_ins_a_benchmark_must_be_named(bring):
    bring()
    assert benchmarks.default_benchmark() is None
    with pytest.raises(benchmarks.datasets.BenchmarkError, match="say which benchmark: one of voc"):
        benchmarks.evaluate(Guess())
    assert not find_examples().pictures


def test_where_a_preset_comes_from_is_said_where_it_is_known(bring, tmp_path):
    bring()
    assert where_from("nobody's") == ""
    message = "wordmask_world, which is not installed.*pip install"
    with pytest.raises(SaliencyError, match=message):
        plan(FoundTraining, "world", pictures=tmp_path, out=tmp_path, changes={})
    with pytest.raises(ConfigError, match=message):
        make_run({"preset": "world"})
    for address in ("world", "world:clip", "world-clip"):
        with pytest.raises(WordmaskError, match=message):
            addresses.find(address, "clip")
    with pytest.raises(WordmaskError, match=message):
        benchmarks.evaluate(Guess(), "world-stuff")


def test_the_words_that_are_known_of_the_world_are_those_that_it_brings():
    from wordmask_world.plugin import PLUGIN

    told = json.loads((files("wordmask") / "data" / "words-of-packages.json").read_text())["wordmask_world"]
    presets = {word for brought in PLUGIN.presets.values() for word in brought}
    assert set(told["words"]) == {*presets, *PLUGIN.addresses, *PLUGIN.aliases, *PLUGIN.benchmarks}


def test_the_built_in_plug_in_names_only_what_there_is():
    """Every address leads somewhere."""
    from wordmask_world.plugin import PLUGIN

    def addresses(value):
        if isinstance(value, str):
            return [value] if re.fullmatch(r"wordmask_world\.[\w.]+:\w+", value) else []
        if hasattr(value, "__dataclass_fields__"):
            value = vars(value)
        parts = value.values() if hasattr(value, "values") else value if isinstance(value, tuple | frozenset) else ()
        return [address for part in parts for address in addresses(part)]

    found = addresses(PLUGIN)
    assert len(found) > 15
    for address in found:
        assert named(address) is not None
