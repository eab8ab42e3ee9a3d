"""Every data set is read from the layout it is published in: small ones, written here, give back what was put in."""

import json

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from support.data_sets import SIZE, grid, mask, own_folder, photo, voc_folder
from wordmask.benchmarks import list_benchmarks, open_benchmark
from wordmask.benchmarks.datasets import BenchmarkError, MissingDataError, spread
from wordmask.benchmarks.readers import READERS


def values_of(labels, *places):
    return tuple(int(labels[place]) for place in places)


def diagonal(benchmark, count):
    """The names of the first pixels from the upper left downwards."""
    return [benchmark.vocabulary.names[label] for label in np.diag(benchmark[0].labels)[:count]]


def refused(root, name, message):
    with pytest.raises(BenchmarkError, match=message):
        open_benchmark(name, root=root)[0]


def test_voc_has_21_names_and_its_borders_do_not_count(tmp_path):
    values = voc_folder(tmp_path)
    benchmark = open_benchmark("voc", root=tmp_path)
    assert (len(benchmark), benchmark.split, len(benchmark.vocabulary)) == (2, "val", 21)
    assert benchmark.vocabulary.names[0] == "background"
    sample = benchmark[1]
    assert sample.key == benchmark.key(1) == "2007_000042"
    assert np.array_equal(sample.labels, values)
    assert sample.labels[0, 0] == benchmark.ignore == 255
    assert (sample.image.shape, sample.objects) == ((*SIZE, 3), 2)
    for root in (tmp_path / "VOCdevkit", tmp_path / "VOCdevkit" / "VOC2012"):  # any of its usual folders
        assert len(open_benchmark("voc", root=root)) == 2


def test_voc20_leaves_background_out_and_moves_the_rest_down(tmp_path):
    values = voc_folder(tmp_path)
    benchmark = open_benchmark("voc20", root=tmp_path)
    labels = benchmark[0].labels
    assert benchmark.vocabulary.names == open_benchmark("voc", root=tmp_path).vocabulary.names[1:]
    assert values_of(labels, (0, 0), (1, 1), (2, 2)) == (255, 0, 19)
    assert set(np.unique(labels[values == 0])) == {255}


def test_a_list_may_not_lead_out_of_its_folder(tmp_path):
    voc_folder(tmp_path, split="train")
    listing = tmp_path / "VOCdevkit" / "VOC2012" / "ImageSets" / "Segmentation" / "val.txt"
    listing.write_text("../../../secret\n")
    refused(tmp_path, "voc", "no name of a picture")


def test_context_with_and_without_background(tmp_path):
    home = tmp_path / "VOCdevkit" / "VOC2010"
    (home / "ImageSets" / "SegmentationContext").mkdir(parents=True)
    (home / "ImageSets" / "SegmentationContext" / "val.txt").write_text("2008_000002\n")
    photo(home / "JPEGImages" / "2008_000002.jpg")
    values = grid(r0c0=1, r5c7=59)
    mask(home / "SegmentationClassContext" / "2008_000002.png", values)
    whole, part = (open_benchmark(name, root=tmp_path) for name in ("context", "context59"))
    assert (len(whole.vocabulary), len(part.vocabulary)) == (60, 59)
    assert np.array_equal(whole[0].labels, values)
    assert values_of(part[0].labels, (0, 0), (5, 7), (3, 3)) == (0, 58, 255)


def coco_folder(root, annotations, names=("000000000139",)):
    images = []
    for number, name in enumerate(names):
        photo(root / "coco" / "val2017" / f"{name}.jpg", seed=number)
        images.append({"id": int(name), "file_name": f"{name}.jpg", "height": SIZE[0], "width": SIZE[1]})
    path = root / "coco" / "annotations" / "instances_val2017.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [{"id": number, "image_id": int(names[0]), **row} for number, row in enumerate(annotations)]
    path.write_text(json.dumps({"images": images, "annotations": rows, "categories": []}))
    return path


def rle(values):
    """Uncompressed run lengths, column after column, as COCO writes crowds."""
    flat = np.asarray(values).ravel(order="F")
    starts = [0, *(np.flatnonzero(np.diff(flat)) + 1), len(flat)]
    counts = [int(count) for count in np.diff(starts)]
    return {"size": list(np.shape(values)), "counts": [0, *counts] if flat[0] else counts}


BOX = [[0, 0, 4, 0, 4, 4, 0, 4]]


def test_coco_objects_are_painted_from_polygons_and_crowds(tmp_path):
    crowd = np.zeros(SIZE, dtype=np.uint8)
    crowd[:, 4:] = 1
    small = [[5, 1, 7, 1, 7, 3, 5, 3]]  # x, y: two by two pixels inside the crowd
    polygon = [[0, 0, 2, 0, 2, 2, 0, 2]]
    parts = ((90, 0, small), (1, 1, rle(crowd)), (13, 0, polygon))
    coco_folder(tmp_path, [{"category_id": own, "iscrowd": many, "segmentation": part} for own, many, part in parts])
    benchmark = open_benchmark("coco-object", root=tmp_path)
    expected = np.where(crowd, 1, 0)
    for segmentation, label in ((small, 80), (polygon, 12)):
        inside = coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(segmentation, *SIZE))).astype(bool)
        assert inside.any()
        expected[inside] = label
    assert np.array_equal(benchmark[0].labels, expected)
    names = benchmark.vocabulary.names
    assert (len(names), names[80], names[12], names[1]) == (81, "toothbrush", "stop sign", "person")


def test_coco_masks_are_made_once(tmp_path):
    path = coco_folder(tmp_path, [{"category_id": 1, "segmentation": BOX}])
    first = open_benchmark("coco-object", root=tmp_path)
    stamp, labels = first.items[0].truth.stat().st_mtime_ns, first[0].labels
    again = open_benchmark("coco-object", root=tmp_path)
    assert again.items[0].truth.stat().st_mtime_ns == stamp
    assert np.array_equal(again[0].labels, labels)
    path.write_text(path.read_text().replace('"category_id": 1', '"category_id": 2'))
    assert set(np.unique(open_benchmark("coco-object", root=tmp_path)[0].labels)) == {0, 2}


def test_a_coco_picture_without_annotations_is_all_background(tmp_path):
    coco_folder(tmp_path, [{"category_id": 1, "segmentation": BOX}], ("000000000139", "000000000285"))
    assert open_benchmark("coco-object", root=tmp_path)[1].labels.max() == 0


def test_bad_coco_annotations_are_named(tmp_path):
    path = coco_folder(tmp_path, [{"category_id": 12, "segmentation": BOX}])
    refused(tmp_path, "coco-object", "category 12 is none of COCO's 80")
    path.write_text("{}")
    refused(tmp_path, "coco-object", "not COCO's instance annotations")


def test_coco_stuff_has_171_names_from_ids_with_gaps(tmp_path):
    photo(tmp_path / "coco" / "val2017" / "000000000139.jpg")
    drawn = tmp_path / "coco" / "stuffthingmaps" / "val2017" / "000000000139.png"
    mask(drawn, grid(r0c0=12, r1c1=181, r2c2=10, r5c7=255))
    benchmark = open_benchmark("coco-stuff", root=tmp_path)
    assert len(benchmark.vocabulary) == 171
    assert benchmark[0].labels[5, 7] == 255
    assert diagonal(benchmark, 4) == ["stop sign", "wood", "fire hydrant", "person"]
    mask(drawn, grid(r0c0=11))  # an id that COCO never used
    refused(tmp_path, "coco-stuff", "label 182 found, but the list has 171 names")


def cityscapes_folder(root, values):
    name = "frankfurt_000000_000294"
    photo(root / "cityscapes" / "leftImg8bit" / "val" / "frankfurt" / f"{name}_leftImg8bit.png")
    mask(root / "cityscapes" / "gtFine" / "val" / "frankfurt" / f"{name}_gtFine_labelIds.png", values)


def test_cityscapes_label_ids_become_the_19_that_count(tmp_path):
    cityscapes_folder(tmp_path, grid(r0c0=7, r1c1=33, r2c2=26, r3c3=29, r4c4=3))
    benchmark = open_benchmark("cityscapes", root=tmp_path)
    assert len(benchmark.vocabulary) == 19
    assert diagonal(benchmark, 3) == ["road", "bicycle", "car"]
    # caravan, out of roi and unlabelled do not count
    assert values_of(benchmark[0].labels, (3, 3), (4, 4), (5, 5)) == (255, 255, 255)
    assert benchmark.key(0) == "frankfurt/frankfurt_000000_000294"


def test_cityscapes_objects_are_14_and_all_else_is_background(tmp_path):
    cityscapes_folder(tmp_path, grid(r0c0=7, r1c1=33, r2c2=17, r3c3=29, r4c4=18))
    benchmark = open_benchmark("cityscapes-object", root=tmp_path)
    assert len(benchmark.vocabulary) == 15
    assert diagonal(benchmark, 6) == ["background", "bicycle", "pole", "caravan", "polegroup", "background"]


def test_ade20k_zero_does_not_count(tmp_path):
    home = tmp_path / "ADEChallengeData2016"
    photo(home / "images" / "validation" / "ADE_val_00000001.jpg")
    mask(home / "annotations" / "validation" / "ADE_val_00000001.png", grid(r0c0=1, r1c1=150))
    benchmark = open_benchmark("ade20k", root=tmp_path)
    assert (len(benchmark.vocabulary), benchmark[0].labels[2, 2]) == (150, 255)
    assert diagonal(benchmark, 2) == ["wall", "flag"]


def test_coca_masks_bear_their_folders_name(tmp_path):
    home = tmp_path / "CoCA"
    for name in ("Accordion", "whisk"):
        photo(home / "image" / name / "1.jpg")
        mask(home / "binary" / name / "1.png", grid(r2c2=255))
    benchmark = open_benchmark("coca", root=tmp_path)
    names = benchmark.vocabulary.names
    assert (len(names), len(benchmark)) == (81, 2)
    assert [names[sample.labels[2, 2]] for sample in benchmark] == ["Accordion", "whisk"]
    assert all(names[sample.labels[0, 0]] == "background" for sample in benchmark)


def imagenet_s_folder(root, classes=50):
    """The first classes of ImageNet by folder name, with one picture in two of them."""
    from timm.data import ImageNetInfo

    folders = sorted(ImageNetInfo().label_names())[:classes]
    home = root / f"ImageNetS{classes}"
    for folder in folders:
        (home / "validation" / folder).mkdir(parents=True)
    values = np.zeros((*SIZE, 3), dtype=np.uint8)
    values[0, 0] = (1000 % 256, 1000 // 256, 0)
    values[1, 1] = (classes % 256, classes // 256, 0)
    values[2, 2] = (2, 0, 0)
    for folder in (folders[0], folders[1]):
        photo(home / "validation" / folder / "ILSVRC2012_val_00000001.JPEG")
        mask(home / "validation-segmentation" / folder / "ILSVRC2012_val_00000001.png", values)
    return folders


@pytest.mark.parametrize("classes", [50, 300])
def test_imagenet_s_reads_classes_of_two_bytes_and_1000_does_not_count(tmp_path, classes):
    imagenet_s_folder(tmp_path, classes)
    benchmark = open_benchmark(f"imagenet-s{classes}", root=tmp_path)
    assert len(benchmark.vocabulary) == classes + 1
    assert np.diag(benchmark[0].labels)[:4].tolist() == [1000, classes, 2, 0]
    assert benchmark.ignore == 1000
    assert benchmark.vocabulary.names[:3] == ("background", "tench", "goldfish")


def test_imagenet_s_with_a_class_missing_is_refused(tmp_path):
    folders = imagenet_s_folder(tmp_path)
    (tmp_path / "ImageNetS50" / "validation" / folders[-1]).rmdir()
    refused(tmp_path, "imagenet-s50", "49 folders of classes, not 50")


def test_pictures_of_imagenet_are_read_as_they_are_stored(tmp_path):
    """Its masks were drawn on the stored pixels, whatever a camera wrote about up and down."""
    folders = imagenet_s_folder(tmp_path)
    exif = Image.Exif()
    exif[0x0112] = 6
    picture = tmp_path / "ImageNetS50" / "validation" / folders[0] / "ILSVRC2012_val_00000001.JPEG"
    photo(picture, exif=exif)
    assert open_benchmark("imagenet-s50", root=tmp_path)[0].image.shape == (*SIZE, 3)


@pytest.mark.parametrize(
    ("name", "images", "masks"),
    [
        ("duts", "DUTS/DUTS-TE/DUTS-TE-Image", "DUTS/DUTS-TE/DUTS-TE-Mask"),
        ("dut-omron", "DUT-OMRON/DUT-OMRON-image", "DUT-OMRON/pixelwiseGT-new-PNG"),
        ("ecssd", "ECSSD/images", "ECSSD/ground_truth_mask"),
    ],
)
def test_saliency_sets_have_one_foreground(tmp_path, name, images, masks):
    photo(tmp_path / images / "0001.jpg")
    mask(tmp_path / masks / "0001.png", grid(r0c0=255, r1c1=200, r2c2=3))
    benchmark = open_benchmark(name, root=tmp_path)
    labels = benchmark[0].labels
    assert benchmark.vocabulary.names == ("background", "foreground")
    assert np.argwhere(labels == 1).tolist() == [[0, 0], [1, 1]]


def test_a_folder_of_ones_own_is_what_the_world_writes(tmp_path):
    from wordmask_world import NAMES, write_folder

    folder = write_folder(tmp_path / "pictures", 2, size=32, image_format="png")
    benchmark = open_benchmark("folder", root=folder)
    assert benchmark.vocabulary.names == tuple(NAMES)
    assert [benchmark.key(index) for index in range(2)] == ["000000", "000001"]
    for sample in benchmark:
        assert np.array_equal(sample.labels, np.asarray(Image.open(folder / "labels" / f"{sample.key}.png")))
        assert np.array_equal(sample.image, np.asarray(Image.open(folder / "images" / f"{sample.key}.png")))


def test_a_folder_of_ones_own_keeps_its_folders_and_what_is_wrong_in_it_is_named(tmp_path):
    own_folder(tmp_path)
    benchmark = open_benchmark("folder", root=tmp_path)
    assert (benchmark.key(0), benchmark[0].labels[0, 0]) == ("a/x", 1)
    (tmp_path / "names.txt").write_text("dog\n")
    refused(tmp_path, "folder", r"x\.png: label 1 found, but the list has 1 name")
    drawn = tmp_path / "masks" / "a" / "x.png"
    mask(drawn, np.zeros((5, 5), dtype=np.uint8))
    refused(tmp_path, "folder", r"x\.png: the mask has 5 x 5 pixels and its picture 8 x 6")
    mask(drawn, np.zeros((*SIZE, 3), dtype=np.uint8))
    refused(tmp_path, "folder", "must be a grey or palette picture")
    photo(tmp_path / "images" / "y.jpg")
    refused(tmp_path, "folder", r"y\.jpg has no mask")


@pytest.mark.parametrize("name", READERS)
def test_what_is_missing_is_said_and_how_the_folder_should_look(tmp_path, name):
    needs, source = ("", "") if name == "folder" else (f"^{name} needs its data, .* from ", "http.*")  # where to get it
    with pytest.raises(MissingDataError, match=rf"(?s)(?=.*has no)(?=.*should hold).*{source}"):
        open_benchmark(name, root=tmp_path)
    with pytest.raises(MissingDataError, match=f"{needs}{source}--root"):
        open_benchmark(name)
    with pytest.raises(MissingDataError, match="there is no folder"):
        open_benchmark(name, root=tmp_path / "nowhere")
    with pytest.raises(BenchmarkError, match="has no split 'nonsense'"):
        open_benchmark(name, root=tmp_path, split="nonsense")


def test_only_the_part_that_is_missing_is_named(tmp_path):
    voc_folder(tmp_path)
    home = tmp_path / "VOCdevkit" / "VOC2012"
    (home / "SegmentationClass").rename(home / "elsewhere")
    with pytest.raises(MissingDataError, match=r"VOC2012 has no SegmentationClass\. It should hold ImageSets"):
        open_benchmark("voc", root=tmp_path)


def test_some_pictures_are_spread_over_all():
    assert [spread(*of) for of in ((10, None), (10, 3), (3, 10))] == [list(range(10)), [0, 3, 6], [0, 1, 2]]


def test_every_benchmark_has_its_line():
    assert set(READERS) < set(list_benchmarks())
    with pytest.raises(BenchmarkError, match="choose one of world"):
        open_benchmark("nonsense")
