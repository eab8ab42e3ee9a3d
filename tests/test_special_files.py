"""A pipe or a device, wherever a file of the user's is read, is refused in one line: nothing waits for it."""

import os
import signal

import pytest
from PIL import Image

from support.data_sets import photo, voc_folder
from wordmask.benchmarks import open_benchmark
from wordmask.collection.embedding_folder import EmbeddingFolder
from wordmask.collection.piles import open_pile
from wordmask.distillation.published import _read_lists
from wordmask.encoders.clip_building import load_clip_folder
from wordmask.errors import WordmaskError
from wordmask.masks.segmentation import Segmentation
from wordmask.pictures.image_files import ImageReadError
from wordmask.pictures.images import read_image
from wordmask.weights.checkpoints import read_embedding_pickle, read_state_dict
from wordmask_world.files.training_file import open_array

pytestmark = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes in folders")

MOST_SECONDS = 60  # of which most are imports, on a busy machine


class Waited(BaseException):
    """For the pipe; nothing may catch it."""


@pytest.fixture(autouse=True)
def no_waiting():
    def too_long(*_):
        raise Waited

    before = signal.signal(signal.SIGALRM, too_long)
    signal.alarm(MOST_SECONDS)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture(params=["pipe", "device"])
def special(request, tmp_path):
    """Puts a pipe, or what leads to a device without end, at a place."""

    def put(path):
        path = tmp_path / path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        if request.param == "pipe":
            os.mkfifo(path)
        else:
            path.symlink_to("/dev/zero")
        return path

    return put


@pytest.fixture
def pictures(tmp_path):
    photo(tmp_path / "pictures" / "a.png")
    return tmp_path / "pictures"


@pytest.mark.parametrize(
    ("read", "name"),
    [
        (read_image, "photo.png"),
        (Segmentation.load, "masks.png"),
        (Segmentation.load, "masks.json"),
        (read_state_dict, "weights.pt"),
        (read_state_dict, "weights.safetensors"),
        (read_embedding_pickle, "embeddings.pkl"),
        (open_pile, "list.txt"),
        (open_pile, "pictures.tar"),
        (_read_lists, "archive.json"),
    ],
)
def test_a_file_that_is_none_is_refused(special, read, name):
    path = special(name)
    with pytest.raises(WordmaskError, match=name) as caught:
        read(path)
    assert "\n" not in str(caught.value)


VOC_PICTURE = "2007_000033"
VOC_FILES = [f"JPEGImages/{VOC_PICTURE}.jpg", *(f"Segmentation{of}/{VOC_PICTURE}.png" for of in ("Class", "Object"))]


@pytest.mark.parametrize("place", ["ImageSets/Segmentation/val.txt", *VOC_FILES])
def test_the_files_of_a_benchmark(tmp_path, special, place):
    voc_folder(tmp_path)
    special(f"VOCdevkit/VOC2012/{place}")
    with pytest.raises(WordmaskError, match=place.rpartition("/")[2]):
        open_benchmark("voc", root=tmp_path)[0]


@pytest.mark.parametrize("place", ["img_emb/img_emb_0.npy", "metadata/metadata_0.parquet", "collection.json"])
def test_the_files_of_an_embedding_folder(tmp_path, special, place):
    for name in ("img_emb/img_emb_0.npy", "metadata/metadata_0.parquet"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(b"")
    special(place)
    with pytest.raises(WordmaskError, match="is a pipe or a device"):
        EmbeddingFolder(tmp_path)


@pytest.mark.parametrize("suffix", [".npy", ".json", ".captions.jsonl"])
def test_the_parts_of_a_training_file(small_training_file, tmp_path, special, suffix):
    for file in small_training_file.parent.glob("train.*"):
        (tmp_path / file.name).symlink_to(file)
    special(f"train{suffix}")
    with pytest.raises(WordmaskError, match="is a pipe or a device"):
        open_array(tmp_path / "train.npy")


@pytest.mark.parametrize(
    ("place", "read"),
    [
        ("open_clip_config.json", load_clip_folder),
        (
            "coco/annotations/instances_val2017.json",
            lambda root: open_benchmark("coco-object", root=root),
        ),
    ],
)
def test_the_config_of_a_clip_s_folder_and_the_annotations_of_a_benchmark(tmp_path, special, place, read):
    photo(tmp_path / "coco" / "val2017" / "000000000001.jpg")
    with pytest.raises(WordmaskError, match=special(place).stem):
        read(tmp_path)


def test_one_in_a_folder_of_pictures_is_passed_over(command, special, pictures, tmp_path):
    special("pictures/b.png")
    status, out, _ = command(
        "segment", pictures, "--names", "dog,background", "--preset", "world", "--out", tmp_path / "masks"
    )
    assert (status, out.strip()) == (0, str(tmp_path / "masks" / "a.png"))


def test_one_in_a_list_of_pictures_is_told(tmp_path, special):
    special("b.png")
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    (tmp_path / "list.txt").write_text("a.png\nb.png\n")
    (part,) = open_pile(tmp_path / "list.txt", root=tmp_path).parts()
    good, _ = part.load()
    with pytest.raises(ImageReadError, match=r"b\.png"):
        [picture.ref.open(tmp_path) for picture in good]


@pytest.mark.parametrize(
    "arguments",
    [
        "segment FILE --names dog,background --preset world",
        "label FILE --names dog,background --preset world",
        "saliency FILE --preset world",
        "segment PICTURES --names dog,background --preset world --weights FILE",
        "segment PICTURES --names dog,background --preset world --method clip-dinoiser --weights FILE",
        "segment PICTURES --names dog,background --preset world --method clip-diy --set saliency_weights=FILE",
        "segment PICTURES --names dog,background --preset world --method reco --set archive=FILE",
        "segment PICTURES --names dog,background --preset world --runtime onnx --onnx FILE",
        "serve --student FILE --port 0",
        "export --method clip-dinoiser --preset world --weights FILE",
        "evaluate --benchmark voc --root FILE",
        "evaluate --benchmark folder --root FILE",
        "tables clip-diy-2 --root FILE",
        "search dog --preset world --collection FILE",
        "train-found --preset world --images FILE --out OUT",
        "train-selfmask --preset world --images FILE --out OUT",
        "train-dinoiser --preset world --images FILE --out OUT",
        "models --fetch FILE",
    ],
)
def test_every_verb_s_files(command, special, pictures, tmp_path, monkeypatch, arguments):
    path = special("pipe")
    monkeypatch.chdir(tmp_path)
    for word, place in {"FILE": str(path), "PICTURES": str(pictures), "OUT": "out"}.items():
        arguments = arguments.replace(word, place)
    status, out, err = command(*arguments.split())
    assert (status, out) == (1, "")
    assert err.splitlines()[-1].startswith("wordmask: error: ")
    assert str(path) in err
    assert "Traceback" not in err
