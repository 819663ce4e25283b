"""Reading and writing at a place, as systems with and without pread do it."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from bundler import positioned

WAYS = [
    (positioned.pread, positioned.pwrite, positioned.pread_into),
    (positioned._pread, positioned._pwrite, positioned._pread_into),
]


@pytest.mark.parametrize(("pread", "pwrite", "pread_into"), WAYS)
def test_threads_do_not_disturb_each_other(
    pread: Callable[[int, int, int], bytes],
    pwrite: Callable[[int, bytes, int], int],
    pread_into: Callable[[int, memoryview, int], int],
    tmp_path: Path,
) -> None:
    with (tmp_path / "file").open("w+b", buffering=0) as file, ThreadPoolExecutor(8) as pool:
        fd = file.fileno()
        places = [number * 1000 for number in range(200)]
        assert set(pool.map(lambda at: pwrite(fd, str(at).encode().ljust(1000, b"."), at), places)) == {1000}
        assert list(pool.map(lambda at: int(pread(fd, 1000, at).strip(b".")), places)) == places

        def fill(at: int) -> int:
            buffer = bytearray(1000)
            assert pread_into(fd, memoryview(buffer), at) == 1000
            return int(buffer.strip(b"."))

        assert list(pool.map(fill, places)) == places
        assert pread(fd, 1000, places[-1] + 900) == b"." * 100
        assert pread(fd, 10, places[-1] + 1000) == b""
        assert pread_into(fd, memoryview(bytearray(8)), places[-1] + 996) == 4
        assert os.fstat(fd).st_size == 200_000
