"""Vision transformers in int8: against their equations, and taken by "auto" only where they are faster and say the
same.
"""

import math
from dataclasses import replace
from functools import partial

import numpy as np
import open_clip
import pytest
import torch
import torch.nn.functional as F
from open_clip.transformer import QuickGELU, ResidualAttentionBlock
from safetensors.torch import load_file
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer

import wordmask
from support import plain_saliency
from support.small_clip import small_clip
from wordmask import saliency
from wordmask.compute import Compute, PrecisionError, Processor, pick_precision
from wordmask.encoders import int8_agreement, precision
from wordmask.encoders.clip_building import build_clip
from wordmask.encoders.clip_dense import CLIP_DINOISER
from wordmask.encoders.int8 import Int8Stack
from wordmask.encoders.int8_agreement import compute_in_int8, kept, leaves, same_directions
from wordmask.encoders.int8_blocks import Linear, NoInt8Error, PlainStack, Turns, blocks_of
from wordmask.encoders.int8_calibration import ACTIVATED, AROUND_ZERO, Int8Linear, in_int8, with_equal_ranges
from wordmask.encoders.int8_rounding import to_nearest
from wordmask.encoders.precision import Measured, Measurement, Sample, confirmed
from wordmask.encoders.samples import clip_sample, transformer_sample
from wordmask.extras import MissingExtraError
from wordmask.methods import MethodError
from wordmask.weights.loading import read_metadata, write_state_dict

pytest.importorskip("onnxruntime")
pytestmark = pytest.mark.filterwarnings("ignore")
OF_THE_WORLD = {"preset": "world", "device": "cpu"}


@pytest.fixture(autouse=True)
def few_tokens(monkeypatch):
    """Networks here are small: one picture is enough to round them by."""
    monkeypatch.setattr(int8_agreement, "ENOUGH_TOKENS", 1)


def random_weights(network, seed=0, gains=0.4):
    """Weights of any size, and norms that weigh channels unlike."""
    chance = torch.Generator().manual_seed(seed)
    for value in network.parameters():
        spread = value.shape[1] ** -0.5 if value.ndim == 2 else 0.3
        value.data.normal_(0, spread, generator=chance)
    for module in network.modules():
        if isinstance(module, torch.nn.LayerNorm):
            module.weight.data.normal_(0, gains, generator=chance).exp_()
    return network.eval().requires_grad_(False)


def clip_blocks(activation=torch.nn.GELU):
    blocks = [ResidualAttentionBlock(48, 3, act_layer=activation, ls_init_value=0.1) for _ in range(3)]
    return random_weights(torch.nn.ModuleList(blocks)), lambda block, x: block(x), None


def timm_blocks():
    network = VisionTransformer(img_size=32, patch_size=8, embed_dim=48, depth=3, num_heads=3, init_values=0.5)
    return random_weights(network).blocks, lambda block, x: block(x), None


def rotary_blocks(half):
    network = Eva(
        img_size=32,
        patch_size=8,
        embed_dim=48,
        depth=3,
        num_heads=3,
        swiglu_mlp=False,
        use_rot_pos_emb=True,
        rope_rotate_half=half,
        qkv_fused=not half,
        num_reg_tokens=2,
        dynamic_img_size=True,
        num_classes=0,
    )
    random_weights(network)
    rope = network.rope.get_embed(shape=[4, 5])
    turns = Turns.of(rope, network.num_prefix_tokens)
    return network.blocks, lambda block, x: block(x, rope=rope), turns


FAMILIES = {
    "open_clip's": clip_blocks,
    "OpenAI's": partial(clip_blocks, QuickGELU),
    "timm's": timm_blocks,
    "DINOv3's": partial(rotary_blocks, True),
    "rotary in pairs": partial(rotary_blocks, False),
}


@pytest.fixture(params=FAMILIES)
def family(request):
    """Modules, how one is called, rotary positions, tokens, and both stacks."""
    modules, call, turns = FAMILIES[request.param]()
    x = torch.randn(2, 23, 48, generator=torch.Generator().manual_seed(1))
    blocks = blocks_of(modules)
    return modules, call, turns, x, PlainStack(blocks), Int8Stack(in_int8(blocks, x, turns))


@torch.inference_mode()
def test_what_blocks_are_made_of_computes_what_they_do(family):
    modules, call, turns, x, plain, _ = family
    wanted = x
    for module in modules:
        wanted = call(module, wanted)
    torch.testing.assert_close(plain(x, turns).x, wanted, atol=1e-5, rtol=1e-5)


@torch.inference_mode()
def test_int8_is_near_with_all_that_is_tapped(family):
    _, _, turns, x, plain, stack = family
    exact, found = (own(x, turns, outputs=[0, 1], normed=[1, 2]) for own in (plain, stack))
    pairs = [(exact.x, found.x)]
    pairs += [(exact.outputs[index], found.outputs[index]) for index in (0, 1)]
    pairs += [(exact.normed[index], found.normed[index]) for index in (1, 2)]
    for one, other in pairs:
        assert one.shape == other.shape
        off = (one - other).norm() / one.norm()
        assert 0 < off < 0.02  # else it is not int8
    assert set(found.outputs) == {0, 1}
    assert set(found.normed) == {1, 2}
    torch.testing.assert_close(stack(x, turns).x, found.x, atol=0, rtol=0)  # taps change nothing


@torch.inference_mode()
def test_a_token_hangs_on_its_picture_alone_and_sizes_are_free(family):
    _, _, turns, x, _, stack = family
    together = stack(x, turns).x
    loud = torch.cat([x[:1], 100 * x[1:]])
    for batch in (x[:1], loud, torch.cat([x[:1]] * 5)):
        torch.testing.assert_close(stack(batch, turns).x[:1], together[:1], atol=0, rtol=0)
    if turns is None:
        assert stack(x[:, :7]).x.shape == (2, 7, 48)


@torch.inference_mode()
def test_int8_is_its_equations():
    """One block, written out in whole numbers and double precision."""
    modules, _, _ = clip_blocks()
    (block,) = blocks_of(modules[:1])
    x = torch.randn(1, 9, 48, generator=torch.Generator().manual_seed(2))
    (made,) = in_int8([block], x)
    block = made.block

    def linear(read, layer, way=AROUND_ZERO):
        read, weight = read.astype(np.float32), layer.weight.numpy()
        out = np.zeros((len(read), len(weight)))
        for row, token in enumerate(read):
            most = np.abs(token).max() if way.least is None else token.max()
            scale = np.float32(max(most / (255 - way.middle), 0 if way.least is None else way.least / way.middle))
            whole = np.clip(np.rint(token / scale) + way.middle, 0, 255).astype(int) - way.middle
            for column, own in enumerate(weight.astype(int)):
                out[row, column] = scale * float(layer.scales[column]) * int(whole @ own) + float(layer.bias[column])
        return out

    def gelu(rows):
        return np.array([[0.5 * value * (1 + math.erf(value / math.sqrt(2))) for value in row] for row in rows])

    def norm(x, own):
        middle, spread = x.mean(axis=1, keepdims=True), x.var(axis=1, keepdims=True)
        return (x - middle) / np.sqrt(spread + own.epsilon) * own.gain.numpy() + own.bias.numpy()

    tokens = x[0].double().numpy()
    first = norm(tokens, block.norm_1)
    q, k, v = (linear(first, own).reshape(9, 3, 16) for own in (block.query, block.key, block.value))
    mixed = np.zeros((9, 3, 16))
    for head in range(3):
        weights = np.exp(q[:, head] @ k[:, head].T / 4)
        mixed[:, head] = weights / weights.sum(axis=1, keepdims=True) @ v[:, head]
    tokens = tokens + linear(mixed.reshape(9, 48), block.out)
    second = norm(tokens, block.norm_2)
    loud = gelu(second @ made.loud_in.weight.numpy().T + made.loud_in.bias.numpy()) @ made.loud_out.numpy().T
    wanted = tokens + linear(gelu(linear(second, block.expand)), block.contract, ACTIVATED) + loud
    off = np.abs(Int8Stack([made])(x).x[0].numpy() - wanted)
    assert np.median(off) < 1e-5  # a number that lies between two bytes may go either way
    assert off.max() < 0.01 * np.abs(wanted).max()


@torch.inference_mode()
def test_what_is_known_while_blocks_are_made_is_what_they_compute(family):
    """Each block is made by what those before it give in int8: here that is checked against the graph."""
    modules, _, turns, x, _, stack = family
    blocks = blocks_of(modules)
    entered = stack(x, turns, outputs=[0]).outputs[0]
    (last,) = in_int8(blocks[1:2], entered, turns)
    again = in_int8(blocks, x, turns)[1]
    for name, value in last.tensors().items():
        other = again.tensors()[name]
        assert (value - other).abs().float().mean() <= 0.02 * value.abs().float().mean() + 1e-6, name


@torch.inference_mode()
def test_ranges_are_made_alike_and_nothing_changes(family):
    modules, _, turns, x, plain, _ = family
    blocks = blocks_of(modules)
    found = [with_equal_ranges(block, x, turns) for block in blocks]
    after = PlainStack([equal for equal, _, _ in found])
    torch.testing.assert_close(after(x, turns).x, plain(x, turns).x, atol=1e-4, rtol=1e-4)
    for block, (equal, scale, shift) in zip(blocks, found, strict=True):
        torch.testing.assert_close(equal.norm_2(x) * scale + shift, block.norm_2(x), atol=1e-4, rtol=1e-4)
        assert equal.norm_1(x).mean(dim=(0, 1)).abs().max() < 1e-5
        before, now = (own.norm_1(x).abs().amax(dim=(0, 1)) for own in (block, equal))
        assert now.max() / now.min() < 0.8 * before.max() / before.min()


def test_rounding_a_layer_moves_no_output_on_average():
    chance = torch.Generator().manual_seed(3)
    exact = Linear(torch.randn(9, 30, generator=chance), torch.randn(9, generator=chance))
    read = AROUND_ZERO.read(torch.randn(2, 40, 30, generator=chance) + 1)
    made = Int8Linear.of(exact, read, to_nearest)
    assert torch.equal(made.weight.float(), (exact.weight / exact.weight.abs().amax(dim=1)[:, None] * 127).round())
    torch.testing.assert_close(made(read).mean(dim=(0, 1)), exact(read).mean(dim=(0, 1)), atol=1e-5, rtol=1e-5)
    assert not torch.allclose(F.linear(read, exact.weight, made.bias).mean(), exact(read).mean(), atol=1e-5)


def test_the_loudest_hidden_channels_stay_in_single_precision():
    modules, _, _ = clip_blocks()
    modules[0].mlp.c_fc.bias[[5, 100]] += 50
    x = torch.randn(2, 23, 48, generator=torch.Generator().manual_seed(1))
    block = blocks_of(modules[:1])
    (made,) = in_int8(block, x)
    assert made.loud_in.weight.shape == (16, 48)
    assert {5, 100} <= set((made.block.expand.weight == 0).all(dim=1).nonzero().flatten().tolist())
    assert (made.block.contract.weight[:, [5, 100]] == 0).all()
    exact = PlainStack(block)(x).x
    assert (Int8Stack([made])(x).x - exact).norm() / (exact - x).norm() < 0.02


@pytest.mark.parametrize(
    ("module", "what"),
    [
        (lambda: torch.nn.TransformerEncoderLayer(48, 3), "TransformerEncoderLayer"),
        (lambda: VisionTransformer(embed_dim=48, depth=1, num_heads=3, qk_norm=True).blocks[0], "q_norm"),
        (lambda: Eva(embed_dim=48, depth=1, num_heads=3, swiglu_mlp=True).blocks[0], "GluMlp"),
        (lambda: ResidualAttentionBlock(48, 3, act_layer=torch.nn.ReLU), "ReLU"),
    ],
)
def test_what_is_of_another_form_is_refused(module, what):
    with pytest.raises(NoInt8Error, match=what):
        blocks_of([module()])


def test_directions_are_the_same_where_nothing_changes_and_not_where_all_does():
    exact = torch.randn(3, 50, 32, generator=torch.Generator().manual_seed(0))
    assert same_directions(exact, exact + 0) == 1
    assert same_directions(exact + 9, exact + 9) == 1
    assert same_directions(exact, exact.flip(1)) < 0.3
    near, far = (exact + size * torch.randn(exact.shape) for size in (0.01, 0.1))
    assert 0.8 < same_directions(exact, far) < same_directions(exact, near) < 1


def test_pictures_are_drawn_alike_every_time():
    drawn = leaves(2, 32)
    assert drawn.shape == (2, 3, 32, 32)
    assert torch.equal(drawn, leaves(2, 32))
    assert drawn.min() >= 0
    assert not torch.equal(drawn, leaves(2, 32, seed=1))
    assert drawn.std() > 0.1


@pytest.fixture
def clip():
    return small_clip()


def test_a_clip_in_int8_is_near_and_says_so(clip):
    images = torch.rand(2, 3, 40, 56)
    dense = partial(clip.dense, images, reading=CLIP_DINOISER, ln_2=[0, -1], keys=True)
    exact, pooled, known = dense(), clip.encode_image(images), clip.image_fingerprint
    compute_in_int8(clip.int8_host())
    assert clip.precision == "int8"
    found = dense()
    for one, other in [(exact.values, found.values), (exact.keys, found.keys), (exact.ln_2[-1], found.ln_2[-1])]:
        assert 0 < (one - other).norm() / one.norm() < 0.05
    assert 0.99 < (pooled * clip.encode_image(images)).sum(dim=1).min() < 1
    again = small_clip()
    compute_in_int8(again.int8_host())
    assert again.image_fingerprint != known  # what is kept of pictures is not mixed


@pytest.mark.parametrize("tower", ["RN50", "ViT-B-16-SigLIP"])
def test_a_tower_that_is_no_plain_transformer_is_not_offered(tower):
    sample = clip_sample("CLIP", lambda precision: build_clip(tower, precision=precision, device="meta"))
    with pytest.raises(NoInt8Error, match="no plain vision transformer"):
        sample.call("int8")


@torch.inference_mode()
def test_a_part_is_timed_in_int8():
    sample = clip_sample("CLIP", lambda precision: build_clip("ViT-B-32", precision=precision, device="meta"))
    (out,) = sample.call("int8")()
    assert out.isfinite().all()
    assert sample.in_int8 == pytest.approx(11 / 12)  # the last block is read in its own way
    dino = transformer_sample("DINO", plain_saliency.tiny_dino().model)
    assert dino.call("int8")()[0].isfinite().all()
    assert transformer_sample("SelfMask", plain_saliency.tiny_dino().model, last_in_fp32=False).in_int8 == 1


def test_times_count_what_stays_in_fp32(tmp_path):
    now = 0.0

    def call(chosen):
        def compute():
            nonlocal now
            now += {"fp32": 1.0, "int8": 0.2}[chosen]

        return compute

    own = Measured(lambda: now, lambda: tmp_path, lambda: "Xeon", lambda: ("fp32", "int8"))
    found = own.of(Sample("a network", "shape", call, in_int8=0.75))
    assert found.seconds == pytest.approx({"fp32": 1.0, "int8": 0.4})
    assert found.chosen == "int8"


def test_the_answer_is_kept_and_what_is_damaged_is_asked_anew(clip):
    asked = []

    def host():
        own = clip.int8_host()
        return replace(own, features=lambda pictures: asked.append(1) or own.features(pictures))

    first = compute_in_int8(host())
    assert (len(asked), [one.same for one in kept()]) == (4, [first.same])
    exact = clip.dense(torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))).values
    clip = small_clip()
    assert compute_in_int8(host()).same == first.same
    assert len(asked) == 4
    assert torch.equal(clip.dense(torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))).values, exact)
    (file,) = (int8_agreement.cache_dir() / int8_agreement.FOLDER).iterdir()
    for content in (b"", b"\xff" * 100, file.read_bytes()[:-9]):
        file.write_bytes(content)
        assert kept() == []
        asked.clear()
        clip = small_clip()
        assert compute_in_int8(host()).same == pytest.approx(first.same, abs=0.002)
        assert len(asked) == 4
        assert len(kept()) == 1


def test_what_is_of_other_blocks_or_another_format_is_asked_anew(clip):
    host = clip.int8_host()
    first = compute_in_int8(host)
    (file,) = (int8_agreement.cache_dir() / int8_agreement.FOLDER).iterdir()
    state, metadata = load_file(file), read_metadata(file)
    assert metadata["format"] == int8_agreement.FORMAT
    wider = state | {"0.query.scales": torch.ones(7)}
    floats = state | {"0.out.weight": state["0.out.weight"].float()}
    fewer = {name: value for name, value in state.items() if not name.startswith("1.")}
    for other in (wider, floats, fewer):
        write_state_dict(file, other, metadata)
        assert compute_in_int8(small_clip().int8_host()).same == pytest.approx(first.same, abs=0.002)
        assert set(load_file(file)) == set(state)
    write_state_dict(file, state, metadata | {"format": "1"})
    assert kept() == []
    assert compute_in_int8(host).same == pytest.approx(first.same, abs=0.002)
    assert read_metadata(file)["format"] == int8_agreement.FORMAT


def test_the_weights_of_a_file_are_those_that_compute(clip):
    compute_in_int8(clip.int8_host())
    (file,) = (int8_agreement.cache_dir() / int8_agreement.FOLDER).iterdir()
    pictures = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    before = clip.dense(pictures).values
    state = load_file(file)
    write_state_dict(file, state | {"0.out.weight": 0 * state["0.out.weight"]}, read_metadata(file))
    compute_in_int8(clip.int8_host())
    assert not torch.allclose(before, clip.dense(pictures).values, atol=1e-3)


def test_without_a_cache_every_process_asks(clip, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("WORDMASK_CACHE", str(tmp_path / "file"))
    assert compute_in_int8(clip.int8_host()).same > 0
    assert kept() == []


def test_an_error_leaves_the_network_as_it_was(clip, monkeypatch):
    monkeypatch.setattr(int8_agreement, "same_directions", lambda one, other: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        compute_in_int8(clip.int8_host())
    assert clip.precision == "fp32"


SECONDS = {"fp32": 1.0, "bf16": 0.7, "int8": 0.3}


@pytest.fixture
def fastest_in_int8(monkeypatch):
    """A processor with all three, on which int8 is the fastest; and nobody who says which."""
    monkeypatch.delenv("WORDMASK_PRECISION")
    monkeypatch.setattr("wordmask.compute.has_bf16", lambda device: True)
    monkeypatch.setattr(precision.MEASURED, "of", lambda sample: Measurement(sample.what, SECONDS, "", "", ""))


def agreeing(monkeypatch, same):
    monkeypatch.setattr(int8_agreement, "same_directions", lambda exact, other: same)


METHODS = ["maskclip", "clip-diy", "clip-dinoiser", "selfmask-clip"]


@pytest.mark.parametrize("method", METHODS)
def test_auto_takes_int8_where_weights_say_the_same_in_it(method, fastest_in_int8, monkeypatch):
    agreeing(monkeypatch, 0.999)
    assert wordmask.load(method, **OF_THE_WORLD).precision == "int8"
    agreeing(monkeypatch, 0.9)  # the kept answer holds
    assert wordmask.load(method, **OF_THE_WORLD).precision == "int8"


@pytest.mark.parametrize("method", METHODS)
def test_auto_refuses_int8_where_they_do_not(method, fastest_in_int8, monkeypatch):
    agreeing(monkeypatch, 0.9)
    loaded = wordmask.load(method, **OF_THE_WORLD)
    assert loaded.precision == "bf16"  # the faster of the others
    assert loaded.clip.dtype == torch.bfloat16
    assert wordmask.load(method, precision="int8", **OF_THE_WORLD).precision == "int8"  # who says it gets it


@pytest.mark.parametrize("method", ["found", "selfmask"])
def test_saliency_is_asked_in_the_same_way(method, fastest_in_int8, monkeypatch):
    agreeing(monkeypatch, 0.9)
    assert saliency.load(method, **OF_THE_WORLD).precision == "bf16"
    assert saliency.load(method, precision="int8", **OF_THE_WORLD).precision == "int8"


def test_a_method_s_second_network_is_in_int8_where_it_keeps_its_labels():
    first = small_clip()
    compute_in_int8(first.int8_host())
    compute = Compute("cpu", "int8").like(first)
    made = []

    def ask(host, is_enough):
        def other(given):
            made.append(given.precision)
            return "another"

        with pytest.MonkeyPatch.context() as patch:
            agreement = int8_agreement.Agreement("", 1.0 if is_enough else 0.5)
            patch.setattr(precision, "compute_in_int8", lambda host: agreement)
            return confirmed("one", host, compute, None, other)

    placed = []
    host = int8_agreement.Host("", [], "", lambda pictures: [], placed.append)
    assert ask(lambda network: host, True) == "one"
    assert ask(lambda network: host, False) == "another"
    assert placed == [None]

    def none(network):
        raise NoInt8Error("its blocks")

    assert ask(none, True) == "another"
    assert made == ["fp32", "fp32"]


def test_what_has_no_int8_form_is_said_where_it_is_asked_for_and_passed_over_by_auto(fastest_in_int8):
    def host(network):
        raise NoInt8Error("its blocks are of a kind")

    again = lambda given: given.precision  # noqa: E731
    open_choice = Compute("cpu", "int8", if_same=True)
    assert confirmed("net", host, open_choice, lambda: Sample("", "", lambda own: None), again) == "bf16"
    with pytest.raises(NoInt8Error):
        confirmed("net", host, Compute("cpu", "int8"), None, again)


def test_only_processors_compute_in_int8(monkeypatch):
    with pytest.raises(PrecisionError, match="for processors, not for 'cuda:1'"):
        pick_precision("int8", "cuda:1")
    loaded = wordmask.load("maskclip", precision="int8", **OF_THE_WORLD)
    monkeypatch.setattr("wordmask.compute.pick_device", lambda device: device)
    with pytest.raises(MethodError, match="int8 is for processors"):
        loaded.to("cuda")
    assert loaded.to("cpu") is loaded


def test_without_the_packages_int8_is_an_error_for_who_asks_and_nothing_for_auto(monkeypatch):
    monkeypatch.delenv("WORDMASK_PRECISION")
    for module in ("wordmask.compute", "wordmask.encoders.precision"):
        monkeypatch.setattr(f"{module}.has_bf16", lambda device: False)
    for module in ("wordmask.compute", "wordmask.extras"):
        monkeypatch.setattr(f"{module}.is_installed", lambda package: package != "onnxruntime")
    with pytest.raises(MissingExtraError, match=r"onnxruntime is not installed: pip install 'wordmask\[export\]'"):
        pick_precision("int8", "cpu")
    assert pick_precision("auto", "cpu") == "fp32"
    assert precision.offered_here() == ("fp32",)


@pytest.mark.parametrize(
    ("flags", "has"),
    [(("avx2", "avx512f"), False), (("avx512_vnni",), True), (("asimd", "asimddp"), True), (None, True)],
)
def test_a_processor_whose_sums_run_over_is_not_offered(monkeypatch, flags, has):
    monkeypatch.delenv("WORDMASK_PRECISION")
    for module in ("wordmask.compute", "wordmask.encoders.precision"):
        monkeypatch.setattr(f"{module}.has_bf16", lambda device: False)
    monkeypatch.setattr("wordmask.compute.processor", lambda: Processor("One", "", flags))
    assert pick_precision("auto", "cpu") == ("auto" if has else "fp32")
    assert precision.offered_here() == (("fp32", "int8") if has else ("fp32",))
    if not has:
        with pytest.raises(PrecisionError, match="no instructions"):
            pick_precision("int8", "cpu")


def test_labels_in_int8_are_those_of_fp32_and_batches_change_none():
    names = ["dog", "tree", "sky", "background"]
    chance = np.random.default_rng(0)
    images = [chance.integers(0, 256, (40, 48, 3), dtype=np.uint8) for _ in range(3)]
    whole, loaded = (wordmask.load("maskclip", precision=own, **OF_THE_WORLD) for own in ("fp32", "int8"))
    alone = [loaded.segment(image, names).labels for image in images]
    together = [found.labels for found in loaded.segment_many(images, names, batch_size=3)]
    for one, other in zip(alone, together, strict=True):
        assert np.array_equal(one, other)
    same = [np.mean(whole.segment(image, names).labels == own) for image, own in zip(images, alone, strict=True)]
    assert np.mean(same) > 0.9


def test_open_clip_s_blocks_are_those_that_are_read():
    """Should a version make them of something else, this says so."""
    tower = open_clip.create_model("ViT-B-32", load_weights=False, device="meta").visual
    assert len(blocks_of(tower.transformer.resblocks[:1])) == 1
