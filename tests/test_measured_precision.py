"""What a network computes with is measured on this machine, once, and kept; the clock here is the tests' own."""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
import torch

from support import plain_saliency
from support.small_clip import small_clip
from wordmask.compute import Compute, Processor, read_cpuinfo
from wordmask.encoders import precision
from wordmask.encoders.clip_building import build_clip
from wordmask.encoders.precision import LEAST_ROUNDS, MOST_SERIES, Measured, Sample, fastest, measure, settled
from wordmask.encoders.samples import clip_sample, transformer_sample, whole_sample
from wordmask.encoders.timm_building import build_dino


class Clock:
    """A clock that only calls move: each takes what it is said to."""

    def __init__(self):
        self.now = 0.0
        self.calls = []

    def __call__(self):
        return self.now

    def sample(self, what="a network", shape="768 on 785", **seconds):
        def call(chosen):
            times = seconds[chosen]
            taken = iter(times) if isinstance(times, list) else None

            def compute():
                self.calls.append(chosen)
                self.now += times if taken is None else next(taken, times[-1])

            return compute

        return Sample(what, shape, call)


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def open_processor(monkeypatch):
    """A processor with both precisions, and nobody who says which."""
    monkeypatch.delenv("WORDMASK_PRECISION")
    monkeypatch.setattr("wordmask.compute.has_bf16", lambda device: True)


@pytest.fixture
def measured(clock, tmp_path):
    def new(machine="Xeon, 2 threads, torch 2.14", offered=("fp32", "bf16")):
        return Measured(clock, lambda: tmp_path / "kept", lambda: machine, lambda: offered)

    return new


@pytest.mark.parametrize(
    ("fp32", "bf16", "chosen"),
    [
        (1.0, 0.5, "bf16"),
        (1.0, 1.6, "fp32"),
        (1.0, 1.0, "fp32"),
        (1.0, 0.96, "fp32"),
        (1.0, 0.93, "bf16"),
    ],
)
def test_the_faster_is_chosen_and_a_tie_is_fp32(measured, clock, fp32, bf16, chosen):
    found = measured().of(clock.sample(fp32=fp32, bf16=bf16))
    assert found.chosen == chosen
    assert found.seconds == pytest.approx({"fp32": fp32, "bf16": bf16})


@pytest.mark.parametrize("bf16", [0.2, 0.94, 0.951, 0.953, 1.0, 1.04, 1.06, 3.0])
def test_the_choice_is_never_slower_than_the_best_by_more_than_a_tie(bf16):
    seconds = {"fp32": 1.0, "bf16": bf16}
    assert seconds[fastest(seconds)] <= 1.05 * min(seconds.values())


def test_calls_take_turns_behind_a_warm_up_and_the_least_time_counts(measured, clock):
    found = measured().of(clock.sample(fp32=[9.0, 0.3, 0.1, 0.4], bf16=[9.0, 0.5, 0.6, 0.2]))
    assert clock.calls[:8] == ["fp32", "bf16", "fp32", "bf16", "bf16", "fp32", "fp32", "bf16"]
    assert found.seconds == pytest.approx({"fp32": 0.1, "bf16": 0.2})


def test_a_close_choice_on_a_machine_with_other_work_is_measured_again(clock):
    def calls(**seconds):
        sample = clock.sample(**seconds)
        return {name: sample.call(name) for name in seconds}

    rounds = LEAST_ROUNDS
    noisy = measure(calls(fp32=[0.2, 0.3, 0.3, 0.1, 0.1], bf16=[0.19, 0.3, 0.3, 0.05, 0.05]), clock)
    assert noisy == pytest.approx({"fp32": 0.1, "bf16": 0.05})
    assert len(clock.calls) > 2 * rounds
    clock.calls.clear()
    measure(calls(fp32=0.2, bf16=0.19), clock)  # a quiet machine
    assert len(clock.calls) == 2 * rounds
    clock.calls.clear()
    measure(calls(fp32=[0.2, 0.4, 0.4], bf16=[0.1, 0.3, 0.3]), clock)  # plain to see, for all the noise
    assert len(clock.calls) == 2 * rounds


def test_a_measurement_takes_a_bounded_time(clock):
    slow = clock.sample(fp32=[3.0, 6.0], bf16=[3.1, 6.1])
    measure({name: slow.call(name) for name in ("fp32", "bf16")}, clock)
    assert clock.calls == ["fp32", "bf16"]
    clock.calls.clear()
    tiny = clock.sample(fp32=[1e-4, 2e-4], bf16=[1e-4, 2e-4])
    measure({name: tiny.call(name) for name in ("fp32", "bf16")}, clock)
    assert len(clock.calls) <= 2 * precision.MOST_ROUNDS * MOST_SERIES


def test_what_is_kept_is_not_measured_again(measured, clock):
    first = measured().of(clock.sample(fp32=1.0, bf16=0.5))
    clock.calls.clear()
    own = measured()
    assert own.of(clock.sample(fp32=1.0, bf16=7.0)) == own.of(clock.sample(fp32=1.0, bf16=7.0)) == first
    assert clock.calls == []


def test_another_machine_torch_or_shape_is_measured_anew(measured, clock):
    measured().of(clock.sample(fp32=1.0, bf16=0.5))
    for machine, shape in [("Xeon, 2 threads, torch 2.15", "768 on 785"), ("Xeon, 2 threads, torch 2.14", "64 on 65")]:
        clock.calls.clear()
        assert measured(machine).of(clock.sample(fp32=1.0, bf16=2.0, shape=shape)).chosen == "fp32"
        assert clock.calls
    assert len(measured().kept()) == 2
    assert len(measured("Xeon, 2 threads, torch 2.15").kept()) == 1


def test_the_machine_is_its_processor_its_threads_and_torch(monkeypatch):
    own = precision.this_machine()
    monkeypatch.setattr(torch, "__version__", "2.99")
    assert precision.this_machine() != own
    monkeypatch.undo()
    monkeypatch.setattr(torch, "get_num_threads", lambda: 77)
    assert precision.this_machine() != own
    monkeypatch.undo()
    for other in (
        Processor("Another"),
        Processor("One", "model 1", ("avx2",)),
        Processor("One", "model 1", ("avx512f",)),
    ):
        monkeypatch.setattr(precision, "processor", lambda other=other: other)
        assert precision.this_machine() not in (own, own := precision.this_machine())[:1]
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    assert precision.this_machine() != own


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\x00",
        b"[]",
        b"{}",
        b"[" * 100_000,
        b'{"format": 1, "seconds": 3}',
        b'{"format": 1, "seconds": {"fp32": "x"}, "what": "", "machine": "", "shape": "", "when": ""}',
        b'{"format": 1, "seconds": {"fp32": NaN, "bf16": 1}, "what": "", "machine": "", "shape": "", "when": ""}',
        b'{"format": 1, "seconds": {"bf16": 1}, "what": "", "machine": "", "shape": "", "when": ""}',
        b'{"format": 1, "seconds": {"fp32": 1, "fp4": 0.1}, "what": "", "machine": "", "shape": "", "when": ""}',
        b'{"format": 9, "seconds": {"fp32": 1, "bf16": 0.1}, "what": "", "machine": "", "shape": "", "when": ""}',
    ],
)
def test_what_is_damaged_is_measured_anew_and_written_anew(measured, clock, tmp_path, content):
    measured().of(clock.sample(fp32=1.0, bf16=0.5))
    (file,) = (tmp_path / "kept").iterdir()
    file.write_bytes(content)
    clock.calls.clear()
    assert measured().kept() == []
    assert measured().of(clock.sample(fp32=1.0, bf16=2.0)).chosen == "fp32"
    assert clock.calls
    assert [own.chosen for own in measured().kept()] == ["fp32"]


def test_a_file_of_another_s_under_the_same_name_is_not_believed(measured, clock, tmp_path):
    measured().of(clock.sample(fp32=1.0, bf16=0.5))
    (file,) = (tmp_path / "kept").iterdir()
    file.write_text(json.dumps({**json.loads(file.read_text()), "machine": "another"}))
    assert measured().of(clock.sample(fp32=1.0, bf16=2.0)).chosen == "fp32"


def test_without_a_folder_every_process_measures(measured, clock, tmp_path, caplog):
    (tmp_path / "kept").write_text("in the way")
    caplog.set_level("DEBUG", precision.__name__)
    own = measured()
    assert own.of(clock.sample(fp32=1.0, bf16=0.5)).chosen == "bf16"
    assert "times are not kept" in caplog.text
    clock.calls.clear()
    own.of(clock.sample(fp32=1.0, bf16=0.5))
    assert clock.calls == []
    measured().of(clock.sample(fp32=1.0, bf16=0.5))
    assert clock.calls
    assert own.kept() == []


def test_a_machine_without_a_home_folder_measures_too(clock):
    def nowhere():
        raise RuntimeError("Could not determine home directory.")

    own = Measured(clock, nowhere, lambda: "Xeon", lambda: ("fp32", "bf16"))
    assert own.of(clock.sample(fp32=1.0, bf16=0.5)).chosen == "bf16"
    assert own.kept() == []


def test_threads_measure_one_after_the_other(measured, clock):
    own = measured()
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: own.of(clock.sample(fp32=1.0, bf16=0.5)), range(8)))
    assert len({id(one) for one in found}) == 1


PROCESS = """
import sys
from pathlib import Path
from wordmask.encoders.precision import Measured, Sample
clock = iter(range(10**6))
for number in range(40):
    own = Measured(lambda: float(next(clock)), lambda: Path(sys.argv[1]), lambda: "Xeon")
    own.of(Sample("a network", str(number % 4), lambda precision: lambda: None))
"""


def test_processes_that_measure_at_once_do_no_harm(tmp_path):
    command = [sys.executable, "-c", PROCESS, str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    running = [subprocess.Popen(command, env=environment) for _ in range(2)]
    assert [process.wait(timeout=120) for process in running] == [0, 0]
    assert len(Measured(folder=lambda: tmp_path, machine=lambda: "Xeon").kept()) == len(list(tmp_path.iterdir())) == 4


def test_a_precision_that_a_network_cannot_compute_in_is_not_offered(measured, clock):
    def call(chosen):
        def compute():
            if chosen == "bf16":
                raise RuntimeError('"svd" not implemented for BFloat16')
            clock.now += 1

        return compute

    found = measured().of(Sample("a network", "shape", call))
    assert (found.chosen, set(found.seconds)) == ("fp32", {"fp32"})
    assert measured().of(Sample("a network", "shape", call)) == found


def test_measuring_anew_forgets_what_was_known(measured, clock):
    own = measured()
    own.of(clock.sample(fp32=1.0, bf16=0.5))
    with own.anew() as found:
        assert own.of(clock.sample(fp32=1.0, bf16=3.0)).chosen == "fp32"
        own.of(clock.sample(fp32=1.0, bf16=0.1))  # once for each network
    assert [one.chosen for one in found] == ["fp32"]
    assert own.of(clock.sample(fp32=1.0, bf16=0.1)).chosen == measured().kept()[0].chosen == "fp32"


def test_only_what_is_open_is_measured(measured, clock, monkeypatch, open_processor):
    monkeypatch.setattr(precision, "MEASURED", measured())
    assert Compute("cpu").is_open
    for told in ("fp32", "bf16"):
        assert settled(Compute("cpu", told), lambda: pytest.fail("measured")) == Compute("cpu", told)
    assert settled(Compute("cpu"), lambda: clock.sample(fp32=1.0, bf16=0.5)).precision == "bf16"
    monkeypatch.setenv("WORDMASK_PRECISION", "fp32")
    assert settled(Compute("cpu"), lambda: pytest.fail("measured")) == Compute("cpu", "fp32")


def _small_student():
    from wordmask.segmenters.deeplab import DeepLabV3Plus, small_resnet_settings
    from wordmask.segmenters.namedmask import student_sample

    return student_sample(DeepLabV3Plus(3, small_resnet_settings()).eval())


def build_clip_on_meta(architecture, chosen):
    return build_clip(architecture, precision=chosen, device="meta")


SAMPLES = {
    "vision transformer": lambda: clip_sample("CLIP", partial(build_clip_on_meta, "ViT-B-32")),
    "resnet": lambda: clip_sample("CLIP", partial(build_clip_on_meta, "RN50")),
    "timm's": lambda: clip_sample("CLIP", partial(build_clip_on_meta, "ViT-B-16-SigLIP")),
    "DINO": lambda: transformer_sample("DINO", plain_saliency.tiny_dino().model),
    "DINOv3": lambda: transformer_sample("DINO", build_dino("vit_small_patch16_dinov3.lvd1689m")),
    "student": _small_student,
}


@pytest.mark.parametrize("network", SAMPLES)
def test_a_part_of_every_family_of_networks_is_computed_in_both_precisions(network):
    sample = SAMPLES[network]()
    state = torch.random.get_rng_state()
    for chosen in ("fp32", "bf16"):
        with torch.inference_mode():
            out = sample.call(chosen)()
        for part in out if isinstance(out, list) else [out]:
            assert part.dtype == (torch.bfloat16 if chosen == "bf16" else torch.float32)
            assert part.isfinite().all()
    assert torch.equal(state, torch.random.get_rng_state())  # whoever draws numbers gets the same ones


def test_building_a_sample_draws_no_numbers():
    state = torch.random.get_rng_state()
    assert SAMPLES["resnet"]().shape == SAMPLES["resnet"]().shape
    assert torch.equal(state, torch.random.get_rng_state())


def test_shapes_tell_networks_apart():
    shapes = [sample().shape for sample in SAMPLES.values()]
    assert len(set(shapes)) == len(shapes)
    heads = [build_dino("vit_tiny_patch16_224", num_heads=heads) for heads in (3, 6)]
    assert len({transformer_sample("DINO", own).shape for own in heads}) == 2
    run = torch.nn.Conv2d(3, 4, 3)
    assert len({whole_sample("x", run, lambda precision: run, (1, 3, side, side)).shape for side in (8, 9)}) == 2


FASTER = {"fp32": {"fp32": 1.0, "bf16": 2.0}, "bf16": {"fp32": 1.0, "bf16": 0.5}}


@pytest.fixture
def measuring(monkeypatch, open_processor):
    """Says what every network is fastest in; gives the networks that were asked for."""
    seen = []

    def say(chosen):
        def of(sample):
            seen.append(sample.what)
            return precision.Measurement(sample.what, FASTER[chosen], "", "", "")

        monkeypatch.setattr(precision.MEASURED, "of", of)
        return seen

    return say


@pytest.mark.parametrize("chosen", ["fp32", "bf16"])
def test_every_method_computes_with_what_is_faster(measuring, chosen):
    import wordmask
    from wordmask import saliency
    from wordmask.methods import networks_behind

    seen = measuring(chosen)
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[chosen]
    for method in ("maskclip", "clip-diy", "clip-dinoiser", "selfmask-clip", "namedmask"):
        loaded = wordmask.load(method, preset="world", device="cpu")
        assert loaded.precision == chosen
    diy = wordmask.load("clip-diy", preset="world", device="cpu")
    behind = networks_behind(diy.objectness, "saliency")["saliency.dino"]
    assert behind.patch_embed.proj.weight.dtype == diy.clip.dtype == dtype  # a method has one precision
    for method in ("found", "seed", "selfmask"):
        loaded = saliency.load(method, preset="world", device="cpu")
        assert loaded.precision == chosen
    told = wordmask.load("maskclip", preset="world", device="cpu", precision="fp32")
    assert told.precision == "fp32"
    assert {what.split()[0] for what in seen} == {"CLIP", "DINO", "SelfMask", "DeepLabV3+"}


def test_what_is_chosen_is_the_network_that_its_name_brings(measuring):
    """Loaded by choice or by name: the same weights."""
    import wordmask

    measuring("bf16")
    for method in ("maskclip", "clip-diy"):
        chosen = wordmask.load(method, preset="world", device="cpu")
        named = wordmask.load(method, preset="world", device="cpu", precision="bf16")
        for name, network in named.networks.items():
            own = chosen.networks[name].state_dict()
            for key, value in network.state_dict().items():
                assert own[key].dtype == value.dtype
                assert torch.equal(own[key], value), (name, key)


def test_processors_are_read_as_linux_tells_of_them():
    intel = read_cpuinfo(
        "processor\t: 0\nmodel name\t: Intel(R) Xeon(R) Processor\ncpu family\t: 6\nmodel\t\t: 143\n"
        "flags\t\t: fpu avx2 avx512f amx_bf16\n\nprocessor\t: 1\nmodel name\t: another\n"
    )
    assert intel == Processor("Intel(R) Xeon(R) Processor", "cpu family 6, model 143", ("avx2", "avx512f", "amx_bf16"))
    arm = read_cpuinfo("processor\t: 0\nFeatures\t: asimd bf16 i8mm\nCPU implementer\t: 0x41\nCPU part\t: 0xd40\n")
    assert arm.flags == ("asimd", "bf16", "i8mm")
    assert "0xd40" in arm.model
    assert read_cpuinfo("").flags is None


def test_the_small_clip_s_own_encoder_says_what_a_second_network_computes_with():
    assert Compute("cpu", "fp32").like(replace_dtype(small_clip())).precision == "bf16"


def replace_dtype(clip):
    clip.dtype = torch.bfloat16
    return clip
