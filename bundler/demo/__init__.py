"""The embedded demo model (a tiny Qwen3 trained by build_scripts/train_demo.py) and where it lies."""
