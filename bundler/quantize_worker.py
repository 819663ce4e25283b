"""The child process of `quantize`: python -m bundler.quantize_worker IN OUT TYPE REQUANTIZE. Nobody imports it.

Prints the name of each tensor when llama.cpp has done with it; on failure llama.cpp's reason on stderr, exit code 1;
3 if there is no binding to it.
"""

import ctypes
import re
import signal
import sys

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
    code = llama_cpp.llama_model_quantize(argv[0].encode(), argv[1].encode(), ctypes.byref(params))
    finish()
    return 1 if code else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
