"""The embedded demo model (a tiny Qwen3 trained by build_scripts/train_demo.py) and where it lies."""

from pathlib import Path
from typing import Final

DEMO_MODEL: Final = Path(__file__).with_name("demo.gguf")
"""GGUF file of the demo model: F16, under 6 MB. accuracy.json beside it holds its measured accuracy."""
