"""Writes the demo model with all weights as F32: no conversion loses anything there, so every backend must agree.

    python build_scripts/demo_f32.py OUT.gguf

For tests on software GPUs, where F16 or quantized weights tip near-ties between tokens. Needs gguf and numpy only.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import gguf
import numpy as np

DEMO = Path(__file__).resolve().parent.parent / "bundler" / "demo" / "demo.gguf"
FILE_TYPE = "general.file_type"


def write_f32(source: Path, target: Path) -> None:
    """Copies every key and tensor; the file type and the tensors become F32."""
    reader = gguf.GGUFReader(source)
    architecture = reader.fields[gguf.Keys.General.ARCHITECTURE].contents()
    writer = gguf.GGUFWriter(target, architecture)
    for key, field in reader.fields.items():
        if key.startswith("GGUF.") or key in (gguf.Keys.General.ARCHITECTURE, FILE_TYPE):
            continue  # written by the writer itself, or below
        element = field.types[-1] if field.types[0] == gguf.GGUFValueType.ARRAY else None
        writer.add_key_value(key, field.contents(), field.types[0], sub_type=element)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, tensor.data.astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, metavar="OUT.gguf")
    write_f32(DEMO, parser.parse_args().out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
