"""Read mutated GGUF headers, many: never a crash, a hang or a large memory. Outside CI.

`.venv/bin/python build_scripts/fuzz_gguf.py [--cases N] [--seed N]`. The seeds are the demo model's header, two small
ones written by hand (one of a mixture of experts), and a set of three shards; each case changes, cuts or doubles a few
bytes, numbers above all. Every case must end in a description or in one QwenfileError. A test runs 2,000 cases.
"""

import argparse
import os
import random
import resource
import struct
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT)]

from bundler import model  # noqa: E402
from bundler.demo import DEMO_MODEL  # noqa: E402
from runtime.errors import QwenfileError  # noqa: E402
from runtime.gguf_header import read_header  # noqa: E402
from tests.unit.gguf_files import TinyGGUF, default_tensors, default_values, mixture  # noqa: E402

MAX_SECONDS = 1.0  # of the processor's time, so that a busy machine changes nothing
_LARGE = 10_000
MAX_MEGABYTES = 200
_NUMBERS = (0, 1, 2, 31, 255, 1 << 16, 1 << 31, (1 << 32) - 1, 1 << 40, (1 << 63) - 1, 1 << 63, (1 << 64) - 1)


def seeds() -> list[list[bytes]]:
    """Models as lists of files: one, or three shards."""
    demo = DEMO_MODEL.read_bytes()[: read_header(DEMO_MODEL).data_start]
    tensors = default_tensors()
    shards = []
    for number in range(3):
        split = {"split.no": number, "split.count": 3, "split.tensors.count": len(tensors)}
        values = {**(default_values() if number == 0 else {}), **split}
        own = tensors[number * len(tensors) // 3 : (number + 1) * len(tensors) // 3]
        shards.append(TinyGGUF(values=values, tensors=own).data())
    return [[TinyGGUF().data()], [demo], shards, [mixture().data()]]


def mutate(data: bytes, generator: random.Random) -> bytes:
    """A few changes."""
    changed = bytearray(data)
    for _ in range(generator.choice((1, 1, 1, 2, 4, 16))):
        at = generator.randrange(len(changed)) if changed else 0
        kind = generator.randrange(6)
        if kind == 0 and changed:
            changed[at] = generator.randrange(256)
        elif kind == 1:
            changed[at : at + 8] = struct.pack("<Q", generator.choice(_NUMBERS))
        elif kind == 2:
            changed[at : at + 4] = struct.pack("<I", generator.choice(_NUMBERS) & 0xFFFFFFFF)
        elif kind == 3:
            del changed[at : at + generator.randrange(1, 64)]
        elif kind == 4:
            changed[at:at] = changed[at : at + generator.randrange(1, 64)]
        else:
            changed[at:at] = generator.randbytes(generator.randrange(1, 16))
    return bytes(changed if generator.randrange(20) else changed[: generator.randrange(len(changed) + 1)])


def one_case(folder: Path, files: Sequence[bytes], generator: random.Random) -> bool:
    """Write, read, remove; whether the model was accepted. Any exception but QwenfileError gets out."""
    hurt = generator.randrange(len(files))
    count = len(files)
    paths = [folder / (f"m-{i + 1:05d}-of-{count:05d}.gguf" if count > 1 else "m.gguf") for i in range(count)]
    for index, (path, data) in enumerate(zip(paths, files, strict=True)):
        path.write_bytes(mutate(data, generator) if index == hurt else data)
        if len(data) > _LARGE:  # the tensors of a header that stands alone, as a hole in the file
            os.truncate(path, path.stat().st_size + DEMO_MODEL.stat().st_size)
    try:
        loaded = model.with_template(model.load(paths[0], any_architecture=bool(generator.randrange(2))))
        loaded.facts()
    except QwenfileError as error:
        if "\n" in str(error) or not str(error).isprintable():
            raise AssertionError(f"not one printable line: {str(error)!r}") from error
        return False
    return True


def main(argv: Sequence[str]) -> int:
    """Run the cases; on a failure name its number and seed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args(argv)
    accepted, slowest = 0, 0.0
    models = seeds()
    model.load(DEMO_MODEL)  # its imports are not what is measured
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        for case in range(asked.cases):
            generator = random.Random(f"{asked.seed}-{case}")
            start = time.process_time()
            try:
                accepted += one_case(Path(folder), models[case % len(models)], generator)
            except Exception:
                print(f"case {case} of seed {asked.seed}:", file=sys.stderr)
                raise
            slowest = max(slowest, time.process_time() - start)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1000
    print(
        f"{asked.cases:,} cases: {accepted:,} accepted, the others refused in one line; slowest {slowest:.3f} s; "
        f"memory grew by {grown:.0f} MB"
    )
    return int(slowest > MAX_SECONDS or grown > MAX_MEGABYTES)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
