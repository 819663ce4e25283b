"""Unit tests that are about one system only."""

import os

import pytest

posix_only = pytest.mark.skipif(
    os.name == "nt", reason="about what Windows lacks: owners, modes, Unix sockets, menu entries"
)
