"""Run a command as on a processor without AMX, on Linux and x86-64.

    python benchmarks/without_amx.py python benchmarks/precision_speed.py

A process must ask the kernel before it may use AMX's tiles. Here the kernel says no to this process and to all that it
starts, so that every library falls back to what it does on a processor that has no AMX (AVX-512 with its bf16 and int8
instructions, where the processor has those).
"""

import ctypes
import errno
import os
import struct
import sys

ARCH_PRCTL, ASK_FOR_STATE = 158, 0x1023
"""The system call, and what it is asked for: ARCH_REQ_XCOMP_PERM."""
X86_64 = 0xC000003E
PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, FILTER = 38, 22, 2
LOAD, JUMP_IF_EQUAL, RETURN = 0x20, 0x15, 0x06
ALLOW, REFUSE = 0x7FFF0000, 0x00050000 | errno.EPERM


def refuse_amx() -> None:
    """From now on, for this process and its children."""
    program = [  # offsets in `struct seccomp_data`: 0 number, 4 architecture, 16 first argument
        (LOAD, 0, 0, 4),
        (JUMP_IF_EQUAL, 0, 5, X86_64),
        (LOAD, 0, 0, 0),
        (JUMP_IF_EQUAL, 0, 3, ARCH_PRCTL),
        (LOAD, 0, 0, 16),
        (JUMP_IF_EQUAL, 0, 1, ASK_FOR_STATE),
        (RETURN, 0, 0, REFUSE),
        (RETURN, 0, 0, ALLOW),
    ]
    packed = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in program))
    given = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(program), ctypes.addressof(packed)))
    system = ctypes.CDLL(None, use_errno=True)
    for option, *rest in ((PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), (PR_SET_SECCOMP, FILTER, ctypes.addressof(given), 0, 0)):
        if system.prctl(option, *map(ctypes.c_ulong, rest)):
            raise SystemExit(f"the kernel takes no filter: {os.strerror(ctypes.get_errno())}")


def main() -> None:
    if len(sys.argv) < 2:
        raise SystemExit(__doc__)
    refuse_amx()
    os.execvp(sys.argv[1], sys.argv[1:])


if __name__ == "__main__":
    main()
