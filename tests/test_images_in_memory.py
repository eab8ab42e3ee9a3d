"""PIL images, arrays and folders of pictures."""

import errno
import io
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from support.picture_files import (
    GREY,
    PICTURE,
    assert_a_picture_of_its_own,
    distance,
    encoded,
    film,
    noise,
    over_white,
    rgb,
)
from wordmask.pictures import images
from wordmask.pictures.images import (
    ImageReadError,
    find_images,
    read_image,
)

# PIL images and arrays


def test_a_pil_image_is_neither_changed_nor_closed(counted_notices):
    with Image.open(io.BytesIO(film("GIF"))) as image:
        image.seek(1)
        assert (read_image(image) == (0, 250, 0)).all()
        assert image.tell() == 1
        image.seek(0)
        assert (read_image(image) == (250, 0, 0)).all()
    for image in (Image.new("P", (3, 2)), Image.new("RGBA", (3, 2), (1, 2, 3, 4)), Image.new("I", (3, 2), 500)):
        mode, info, content = image.mode, dict(image.info), image.tobytes()
        read_image(image)[:] = 9
        assert (image.mode, image.info, image.tobytes()) == (mode, info, content)


def test_a_pil_image_that_is_closed_or_empty_is_an_error():
    image = Image.open(io.BytesIO(encoded(PICTURE, "PNG")))
    image.close()
    with pytest.raises(ImageReadError, match="<PIL image>: is corrupt or cut short"):
        read_image(image)
    with pytest.raises(ImageReadError, match="<PIL image>: has no pixels"):
        read_image(Image.new("RGB", (0, 5)))


ARRAYS = {
    "uint8": PICTURE,
    "strided": PICTURE[:, ::-1][:, ::-1],
    "fortran": np.asfortranarray(PICTURE),
    "float32": PICTURE / np.float32(255),
    "float64": PICTURE / 255,
    "uint16": PICTURE.astype(np.uint16) * 257,
    "big endian": (PICTURE.astype(np.uint16) * 257).astype(">u2"),
    "rgba": np.dstack([PICTURE, np.full((6, 10), 255, np.uint8)]),
}


@pytest.mark.parametrize("array", ARRAYS.values(), ids=ARRAYS)
def test_arrays_of_one_picture_are_the_same_picture(array):
    image = read_image(array)
    assert np.array_equal(image, PICTURE)
    assert_a_picture_of_its_own(image)
    assert not np.shares_memory(image, array)


def test_grey_and_boolean_arrays_become_grey_rgb():
    for array in (GREY, GREY[..., None], (GREY / 255).astype(np.float16)):
        assert np.array_equal(read_image(array), rgb(GREY))
    assert np.array_equal(read_image(GREY > 99), rgb(np.where(GREY > 99, 255, 0)))


def test_the_alpha_of_an_array_is_composited_over_white():
    alpha = np.linspace(0, 1, 60).reshape(6, 10)
    assert distance(read_image(np.dstack([PICTURE / 255, alpha])), over_white(PICTURE, alpha * 255)) <= 1.5


@pytest.mark.parametrize(
    ("array", "reason"),
    [
        (np.zeros((3, 448, 448), np.uint8), r"shape is \(3, 448, 448\), not .* channels last"),
        (np.zeros((4, 4, 2), np.uint8), "shape"),
        (np.zeros(5, np.uint8), "shape"),
        (np.zeros((1, 4, 4, 3), np.uint8), "shape"),
        (np.zeros((0, 4, 3), np.uint8), "no pixels"),
        (np.zeros((4, 4, 3), np.int64), "type is int64, .* convert it to uint8"),
        (np.zeros((4, 4, 3), complex), "type is complex128"),
        (np.full((2, 2), None), "type is object"),
        (np.full((4, 4, 3), 255.0), "values run from 255 to 255, outside 0 to 1"),
        (np.full((4, 4), -0.1), "outside 0 to 1"),
        (np.full((4, 4), np.nan), "outside 0 to 1"),
    ],
)
def test_arrays_that_are_no_picture_are_refused(array, reason):
    with pytest.raises(ImageReadError, match=f"<array>: .*{reason}"):
        read_image(array)


def test_floats_that_overshoot_by_rounding_are_white_and_black():
    assert read_image(np.array([[-1e-6, 1 + 1e-6]]))[0, :, 0].tolist() == [0, 255]


def in_threads(count, read):
    """Read at once in so many threads."""
    barrier = threading.Barrier(count)
    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(lambda _: (barrier.wait(), read())[1], range(count)))


def test_many_threads_read_at_once(tmp_path):
    good, bad = tmp_path / "good.png", tmp_path / "bad.jpg"
    good.write_bytes(encoded(PICTURE, "PNG"))
    bad.write_bytes(encoded(PICTURE, "JPEG")[:200])

    def read():
        for _ in range(20):
            assert np.array_equal(read_image(good), PICTURE)
            with pytest.raises(ImageReadError):
                read_image(bad)

    in_threads(8, read)


def test_many_threads_read_one_pil_image_at_once():
    content = encoded(noise(700, 700, 4), "JPEG")
    expected = read_image(content)
    for _ in range(5):
        image = Image.open(io.BytesIO(content))
        assert all(np.array_equal(seen, expected) for seen in in_threads(6, lambda image=image: read_image(image)))


def test_what_a_picture_will_take_is_told_before_it_is_decoded(monkeypatch):
    told = []
    for source in (encoded(GREY, "PNG"), Image.fromarray(PICTURE), GREY):
        assert read_image(source, reserve=told.append).nbytes == told[-1] == 6 * 10 * 3
    monkeypatch.setattr(PngImagePlugin.PngImageFile, "load", lambda _: pytest.fail("it was decoded"))

    def refuse(_):
        raise LookupError("no room")

    with pytest.raises(LookupError, match="no room"):
        read_image(encoded(PICTURE, "PNG"), reserve=refuse)


def test_a_stack_of_pictures_is_many_and_a_picture_is_one():
    for one in ("a.png", Path("a.png"), b"", Image.new("L", (1, 1)), PICTURE, GREY, GREY[..., None]):
        assert images.is_one_picture(one)
    for many in (["a.png"], iter(()), PICTURE[None], np.zeros((2, 5, 7), np.uint8)):
        assert not images.is_one_picture(many)


def test_reading_does_not_wait_for_torch():
    code = "import sys, wordmask.pictures.images; assert not {'torch', 'torchvision'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


# Folders


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def test_pictures_are_found_in_the_order_of_sorted_paths(tmp_path, counted_notices):
    names = ["b.PNG", "a.jpg", "a/z.JPeG", "a/b/c.webp", "c d/ü.tiff", "z.gif", "a.b/x.bmp"]
    touch(tmp_path, *names, "notes.txt", ".hidden.jpg", ".git/x.jpg", "a/.cache/y.png", "jpg", "movie.mp4")
    (tmp_path / "folder.jpg").mkdir()
    assert list(find_images(tmp_path)) == sorted(tmp_path / name for name in names)
    assert list(find_images(str(tmp_path))) == list(find_images(tmp_path))


def test_links_are_followed_and_no_folder_is_entered_twice(tmp_path):
    touch(tmp_path, "pictures/near.png", "elsewhere/far.png")
    pictures, elsewhere = tmp_path / "pictures", tmp_path / "elsewhere"
    links = {"link": elsewhere, "again": elsewhere, "up": tmp_path, "here": pictures}
    links |= {"circle.png": pictures / "circle.png", "dangling.png": tmp_path / "nowhere.png"}
    for name, target in {**links, "picture.png": elsewhere / "far.png"}.items():
        (pictures / name).symlink_to(target)
    (pictures / "dangling.txt").symlink_to(tmp_path / "nowhere.txt")
    passed = []
    found = [path.relative_to(pictures).as_posix() for path in find_images(pictures, on_passed=passed.append)]
    assert found == ["again/far.png", "near.png", "picture.png"]
    nowhere = "is a link that leads nowhere"
    assert [(Path(each.source).name, each.reason) for each in passed] == [
        ("circle.png", nowhere),
        ("dangling.png", nowhere),
    ]


def test_a_folder_is_listed_only_when_it_is_reached(tmp_path):
    touch(tmp_path, "a/1.png", "b/2.png")
    found = find_images(tmp_path)
    assert next(found).name == "1.png"
    (tmp_path / "b/3.png").touch()
    assert [path.name for path in found] == ["2.png", "3.png"]


@pytest.fixture
def secret(tmp_path, monkeypatch):
    """A folder that may not be listed, and pictures beside it."""
    touch(tmp_path, "a/1.png", "secret/2.png", "z/3.png")
    scandir = os.scandir

    def refuse(folder):  # chmod does not stop an administrator
        if Path(folder).name == "secret":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", refuse)
    return tmp_path / "secret"


def test_a_folder_that_may_not_be_listed_is_reported_and_its_neighbours_are_searched(secret):
    bad = []
    assert [path.name for path in find_images(secret.parent, bad.append)] == ["1.png", "3.png"]
    assert [str(error) for error in bad] == [f"{secret}: cannot be looked into (Permission denied)"]
    with pytest.warns(UserWarning, match=r"left out: .*secret: cannot be looked into"):
        assert len(list(find_images(secret.parent))) == 2


def test_a_folder_asked_for_that_is_none_or_may_not_be_listed_is_refused_at_once(secret):
    for name, says in (
        ("secret", r"secret: cannot be looked into \(Permission denied\)"),
        ("a/1.png", "is not a folder"),
        ("nothing", "there is no such folder"),
    ):
        with pytest.raises(ImageReadError, match=says):
            find_images(secret.parent / name)
