"""What the review page is given: which pictures, in which order, with which masks, and what was said of them."""

import json

import numpy as np
from PIL import Image

from support.labelling_job import files_in, label
from support.painted import paint, painted_folder
from wordmask.corrections import ACCEPTED, FILE_NAME, REJECTED, Correction, MaskVerdict, write_corrections
from wordmask.fingerprints import file_digest
from wordmask.labelling.ledger import Row
from wordmask.labelling.review import page, read_script
from wordmask.labelling.teaching_order import disagreement, teaching_order
from wordmask.masks.instances import Part
from wordmask.masks.run_lengths import encoded_mask


def index_of(out):
    return read_script(out / "review" / "index.js", "index")


def paths(out):
    return [line[0] for line in index_of(out)["pictures"]]


def test_the_review_shows_the_least_sure_pictures_first(folder, tmp_path):
    label(folder, tmp_path / "out", review=3)
    sure = {str(path.relative_to(folder)): paint(path)[1].mean() for path in folder.rglob("*.png")}
    assert paths(tmp_path / "out")[0] == min(sure, key=sure.get)
    assert len(paths(tmp_path / "out")) == 3


def test_it_names_pictures_by_their_content_and_where_they_are(folder, tmp_path):
    label(folder, tmp_path / "a" / "out")
    told = index_of(tmp_path / "a" / "out")
    for path, _, fingerprint, height, width, *_ in told["pictures"]:
        assert fingerprint == file_digest(folder / path)
        assert Image.open(folder / path).size == (width, height)
        assert ((tmp_path / "a" / "out" / told["folder"]) / path).resolve() == (folder / path).resolve()


def test_names_of_pictures_and_folders_are_text(folder, tmp_path):
    title = "<script>x</script>{style}"
    assert "<script>x" not in page(title)
    assert "{style}" in page(title)
    (folder / "ring.png").rename(folder / "<b>&.png")
    label(folder, tmp_path / "out")
    assert "<b>&.png" in paths(tmp_path / "out")


def test_a_second_run_writes_the_same_and_less_leaves_nothing_behind(folder, tmp_path):
    label(folder, tmp_path / "out")
    before = files_in(tmp_path / "out")
    label(folder, tmp_path / "out")
    assert files_in(tmp_path / "out") == before
    label(folder, tmp_path / "out", review=0)
    assert [name for name in files_in(tmp_path / "out") if name.startswith("review/")] == ["review/index.js"]


def test_pictures_that_no_browser_shows_have_small_copies(tmp_path):
    folder = painted_folder(tmp_path / "photos")
    Image.open(folder / "ring.png").resize((4000, 3000), 0).save(folder / "large.tif")
    label(folder, tmp_path / "out")
    (line,) = [line for line in index_of(tmp_path / "out")["pictures"] if line[0] == "large.tif"]
    assert Image.open(tmp_path / "out" / line[1]).size == (1600, 1200)
    (folder / "large.tif").unlink()
    label(folder, tmp_path / "out", prune=True, on_note=lambda note: None)
    assert not list((tmp_path / "out" / "review" / "pictures").iterdir())


def row(name, unsure, *parts):
    masks = tuple(Part(own, 0.5, box[2] * box[3], box, "") for own, box in parts)
    return Row(name, name, (100, 100), unsure, masks)


def test_the_order_is_as_its_rule_says():
    one, other = ("dog", (0, 0, 10, 10)), ("cat", (5, 0, 10, 10))
    apart, rare = ("cat", (50, 50, 10, 10)), ("lynx", (50, 50, 10, 10))
    assert disagreement(row("a", 0.5, one, other)) == 50 / 150
    assert disagreement(row("a", 0.5, one, ("dog", (5, 0, 10, 10)))) == 0
    rows = [
        *(row(f"unsure{number}", 0.9 - number / 100, one, apart) for number in range(2)),
        row("apart", 0.5, one, apart),
        row("rare", 0.49, one, rare),
        row("over", 0.48, one, other),
        row("nothing", 0.47),
        *(row(f"sure{number}", 0.1 - number / 1000, one) for number in range(34)),
    ]
    pictures_of = {"dog": 39, "cat": 4, "lynx": 1}
    order = teaching_order(rows, len(rows), pictures_of)  # two a step
    assert order[:6] == ["unsure0", "unsure1", "rare", "apart", "over", "nothing"]
    assert teaching_order([row("b", 0.0, one), row("a", 0.0, one, other)], 2, pictures_of) == ["a", "b"]  # no scores


def test_what_was_said_is_shown_again_with_masks_that_came_from_elsewhere(folder, tmp_path):
    label(folder, tmp_path / "out")
    told = index_of(tmp_path / "out")
    number, line = next((n, each) for n, each in enumerate(told["pictures"]) if each[0] == "parts.png")
    counts = read_script(tmp_path / "out" / "review" / "masks-00000.js", "masks")[number][1]
    mended = np.zeros((24, 24), bool)
    mended[20:, 20:] = True
    masks = (
        MaskVerdict("red", counts[0], ACCEPTED, "blue"),
        MaskVerdict("lynx", encoded_mask(mended)["counts"], ACCEPTED),
    )
    away = Correction("away.png", "0" * 64, (1, 1), REJECTED)
    said = [Correction("parts.png", line[2], (24, 24), ACCEPTED, masks), away]
    write_corrections(tmp_path / "out" / FILE_NAME, said)
    label(folder, tmp_path / "out", on_note=lambda note: None)
    told = index_of(tmp_path / "out")
    assert told["verdicts"][line[2]] == {
        "v": ACCEPTED,
        "m": [[ACCEPTED, "red"], [REJECTED, None], [ACCEPTED, None]],  # the second was taken away
    }
    assert told["elsewhere"] == [away.to_json()]
    assert "lynx" in [name for name, _ in told["names"]]
    assert json.loads((tmp_path / "out" / FILE_NAME).read_text())["pictures"] == [
        each.to_json() for each in sorted(said, key=lambda each: each.picture)
    ]
