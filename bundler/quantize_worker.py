"""The child process of `quantize`. Nobody imports it.

    python -m bundler.quantize_worker IN OUT TYPE REQUANTIZE [IMATRIX]

Prints the name of each tensor when llama.cpp has done with it; on failure llama.cpp's reason on stderr, exit code 1;
3 if there is no binding to it.
"""

import ctypes
import re
import signal
import sys
from pathlib import Path
from typing import Any

from bundler.imatrix import read

_TENSOR = re.compile(rb"\[\s*\d+/\s*\d+\]\s+(\S+)")
_ERROR = 4  # GGML_LOG_LEVEL_ERROR
_SPEAKER = re.compile(r"^(?:[A-Za-z_]\w*: )+")


def main(argv: list[str]) -> int:
    """Quantize and return the exit code."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer
    try:
        import llama_cpp
    except ModuleNotFoundError:
        return 3

    pending: list[bytes] = []

    def finish() -> None:
        while pending:
            sys.stdout.write(pending.pop().decode(errors="replace") + "\n")
            sys.stdout.flush()

    def log(level: int, text: bytes, _: ctypes.c_void_p) -> None:
        if found := _TENSOR.match(text):
            finish()
            pending.append(found[1])
        elif level == _ERROR:
            sys.stderr.write(_SPEAKER.sub("", text.decode(errors="replace").strip()) + "\n")

    callback = llama_cpp.llama_log_callback(log)  # kept until the end: llama.cpp holds no reference
    llama_cpp.llama_log_set(callback, None)
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype = int(argv[2])
    params.allow_requantize = argv[3] == "1"
    if len(argv) > 4:
        importance = _importance(Path(argv[4]))  # kept until the end, as what it points to
        params.imatrix = importance
    code = llama_cpp.llama_model_quantize(argv[0].encode(), argv[1].encode(), ctypes.byref(params))
    finish()
    return 1 if code else 0


def _importance(path: Path) -> Any:
    """The importance of each weight's columns as llama.cpp takes it: an array that ends with an empty row.

    Means of squares; 1 where an expert was never asked (llama.cpp's tools/quantize/quantize.cpp)."""
    import llama_cpp
    import numpy as np

    entries = read(path)
    rows = (llama_cpp.llama_model_imatrix_data * (len(entries) + 1))()
    for row, (name, entry) in zip(rows, entries.items(), strict=False):
        sums = np.fromfile(path, "<f4", entry.size, offset=entry.start).reshape(len(entry.counts), -1)
        counts = np.rint(np.array(entry.counts, np.float32))[:, None]
        means = np.where(counts > 0, sums / np.maximum(counts, 1), np.float32(1))
        row.name = name.encode()
        row.data = np.ctypeslib.as_ctypes(means.reshape(-1))
        row.size = means.size
    return rows


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
