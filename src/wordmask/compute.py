"""What networks compute on and with: a device and a precision, chosen in one place; and what this machine is.

Where a device offers several precisions and only a measurement tells which is faster, "auto" stays open until there is
a network to measure: `wordmask.encoders.precision.settled`.
"""

import os
import platform
import re
import subprocess
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, Protocol, cast, get_args

from wordmask.errors import WordmaskError
from wordmask.extras import is_installed, need

if TYPE_CHECKING:
    import torch

Precision = Literal["fp32", "bf16", "int8"]
TrainingPrecision = Literal["fp32", "bf16"]
"""What networks learn in."""
Auto = Literal["auto"]
AUTO: Final = "auto"
VARIABLE = "WORDMASK_PRECISION"
"""Of the environment: what "auto" is to be, where it is set."""
TF32 = "WORDMASK_TF32"
"""Of the environment: whether fp32 on CUDA rounds what it multiplies to 10 bits (1) or not (0). Unset, it is as torch
has it: convolutions do, and matrix products do not."""
INSTRUCTIONS = ("avx512_bf16", "amx_bf16", "bf16")
"""Any of these multiplies bf16, in the words of `torch.cpu.get_capabilities`; the last is Arm's."""
INT8_INSTRUCTIONS = ("avx512_vnni", "avx_vnni", "amx_int8", "asimddp")
"""Any of these multiplies int8 without loss, in the words of Linux; the last is Arm's."""
INT8_PACKAGES = ("onnx", "onnxruntime")
"""What computes in int8."""


class HasPrecision(Protocol):
    """An encoder, or another network that says what it computes with."""

    @property
    def precision(self) -> Precision: ...


class DeviceError(WordmaskError):
    """No such device, or none that this machine can use."""


class PrecisionError(WordmaskError):
    """No such precision."""


@dataclass(frozen=True)
class Compute:
    """A device and a precision, for whoever builds or holds a network.

    "auto" of the device is settled as the value is made: the accelerator of this machine, or else its processor. That
    of the precision is settled by `pick_precision` where the device leaves one choice, and else stays "auto" until the
    loader of a network has measured which is faster. `Compute()` is what `wordmask.load` computes with.

    if_same: int8 is only for networks that keep their labels in it; the others compute in fp32.
    """

    device: str = AUTO
    precision: str = AUTO
    if_same: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "device", pick_device(str(self.device)))
        object.__setattr__(self, "precision", pick_precision(self.precision, self.device))

    @property
    def is_open(self) -> bool:
        """Return whether the precision is still to be measured."""
        return self.precision == AUTO

    def like(self, network: "HasPrecision") -> "Compute":
        """Return this for one more network of a method, whose first one has settled what all compute with: int8 where
        that network keeps its labels, too.
        """
        return replace(self, precision=network.precision, if_same=True)

    @property
    def of_parameters(self) -> TrainingPrecision:
        """What a network's parameters are in. While the precision is open it is that in which they are exact; int8 is
        made of those.
        """
        return "bf16" if self.precision == "bf16" else "fp32"

    @property
    def dtype(self) -> "torch.dtype":
        """Return `of_parameters`, as torch has it."""
        import torch

        return torch.bfloat16 if self.precision == "bf16" else torch.float32


def pick_device(device: str) -> str:
    """Return a device that this machine can use; "auto" is its accelerator, or the processor."""
    if device == "cpu":
        return device
    import torch

    if device != AUTO:
        try:
            torch.empty(0, device=device)
        except (RuntimeError, AssertionError, NotImplementedError) as error:  # each backend has its own way to say no
            # The first sentence: behind it torch may list every device and every build that there is.
            reason = str(error).splitlines()[0].partition(". ")[0]
            if reason.startswith(("Expected one of", "Invalid device string")):
                reason = "there is none of this name (auto, cpu, cuda, cuda:1, mps)"
            raise DeviceError(f"device {device!r} cannot be used: {reason}; try cpu") from error
        if device.startswith("cuda"):
            set_tf32(os.environ.get(TF32, ""))
        return device
    if torch.cuda.is_available():
        return pick_device("cuda")
    return "mps" if torch.backends.mps.is_available() else "cpu"


def set_tf32(told: str) -> None:
    """Set what fp32 is on CUDA, for this process: "1", "0", or "" to leave it as it is."""
    import torch

    if told not in ("", "0", "1"):
        raise PrecisionError(f"{TF32}={told!r} is unknown: choose 1 (faster) or 0 (exact)")
    if told:
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = told == "1"


def pick_precision(precision: str, device: "str | torch.device") -> Precision | Auto:
    """Return what to compute with on a device.

    "auto" is what the environment's `WORDMASK_PRECISION` says. Without that it is bf16 on an accelerator that has it,
    fp32 on a device that has nothing else, and "auto" on a processor with more, where it takes a measurement.
    """
    if precision == AUTO:
        chosen = os.environ.get(VARIABLE) or AUTO
        if chosen != AUTO:
            return _known(chosen, device, f"{VARIABLE}={chosen!r}")
        if is_processor(device) and has_int8():
            return AUTO
        if not has_bf16(device):
            return "fp32"
        return AUTO if is_processor(device) else "bf16"
    return _known(precision, device, f"precision {precision!r}")


def _known(precision: str, device: "str | torch.device", what: str) -> Precision:
    if precision not in get_args(Precision):
        raise PrecisionError(f"{what} is unknown: choose auto, fp32, bf16 or int8")
    if precision == "int8":
        if not is_processor(device):
            raise PrecisionError(f"{what} is for processors, not for {str(device)!r}: choose bf16, or the device cpu")
        need(*INT8_PACKAGES)
        if not multiplies_int8():
            raise PrecisionError(f"{what}: this processor has no instructions for it (VNNI): choose auto or fp32")
    return cast(Precision, precision)


def is_processor(device: "str | torch.device") -> bool:
    return str(device).partition(":")[0] == "cpu"


def has_int8() -> bool:
    """Return whether networks can compute in int8 on this machine's processor."""
    return all(map(is_installed, INT8_PACKAGES)) and multiplies_int8()


def multiplies_int8() -> bool:
    """Return whether the processor multiplies int8 without loss, or nobody says. Others let sums of two run over."""
    flags = processor().flags
    return flags is None or any(flag in flags for flag in INT8_INSTRUCTIONS)


def has_bf16(device: "str | torch.device") -> bool:
    """Return whether the device multiplies bf16 itself. Elsewhere it is emulated, and always slower than fp32."""
    import torch

    device = torch.device(device)
    if device.type == "cuda":
        with torch.cuda.device(device):
            return torch.cuda.is_bf16_supported(including_emulation=False)
    # On processors it is oneDNN that uses the instructions. Before torch 2.11 nothing public tells of them.
    if device.type != "cpu" or not torch.backends.mkldnn.is_available() or not hasattr(torch.cpu, "get_capabilities"):
        return False
    told = torch.cpu.get_capabilities()
    return any(told.get(instruction, False) for instruction in INSTRUCTIONS)


PLAIN = Compute("cpu", "fp32")
"""The processor, in single precision: where nobody says otherwise, and labels must be the same on all machines."""

CPUINFO = Path("/proc/cpuinfo")
MODEL = ("cpu family", "model", "stepping", "CPU implementer", "CPU variant", "CPU part")
"""Lines of that file that tell processors apart which bear one name, as those of a cloud do."""
FLAGS = (
    "avx2",
    "avx512f",
    "avx512_bf16",
    "avx512_fp16",
    "avx512_vnni",
    "avx_vnni",
    "amx_bf16",
    "amx_int8",
    "amx_fp16",
    "asimd",
    "asimddp",
    "sve",
    "bf16",
    "i8mm",
)
"""Instructions that networks are computed with, in the words of Linux."""


@dataclass(frozen=True)
class Processor:
    """name: what it is called. model: the numbers of its kind, where the system tells them. flags: those of `FLAGS`
    that it has, or None where nobody says.
    """

    name: str
    model: str = ""
    flags: tuple[str, ...] | None = None


@cache
def processor() -> Processor:
    """Return this machine's processor."""
    try:
        return read_cpuinfo(CPUINFO.read_text(errors="replace"))
    except OSError:
        return Processor(_name_elsewhere())


def read_cpuinfo(text: str) -> Processor:
    """Return the first processor of a text as Linux's /proc/cpuinfo holds it."""
    lines = (line.partition(":") for line in text.split("\n\n", 1)[0].splitlines())
    told = {key.strip(): value.strip() for key, _, value in lines}
    words = (told.get("flags") or told.get("Features") or "").split()
    model = ", ".join(f"{key} {told[key]}" for key in MODEL if key in told)
    return Processor(
        told.get("model name") or platform.processor() or platform.machine(),
        model,
        tuple(flag for flag in FLAGS if flag in words) if words else None,
    )


def _name_elsewhere() -> str:
    if platform.system() == "Darwin":
        command = ["/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string"]
        try:
            told = subprocess.run(command, capture_output=True, text=True, timeout=5, check=True).stdout.strip()
        except (OSError, subprocess.SubprocessError):
            told = ""
        if told:
            return told
    return platform.processor() or platform.machine()


def cores() -> tuple[int, int]:
    """Return how many cores this process may use, and how many there are."""
    every = os.cpu_count() or 1
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else every
    return allowed, every


def memory() -> tuple[int | None, int | None]:
    """Return the bytes of memory that there are and those that are free, where the system says so."""
    try:
        told = dict(re.findall(r"^(\w+):\s+(\d+) kB", Path("/proc/meminfo").read_text(), re.MULTILINE))
        return int(told["MemTotal"]) * 1024, int(told["MemAvailable"]) * 1024
    except (OSError, KeyError):
        pass
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), None
    except (AttributeError, ValueError, OSError):  # on Windows there is no such call
        return None, None
