"""Every check: lint, types, unit tests, integration tests on real bundles. Arguments go to pytest.

`python3 build_scripts/test.py [PYTEST ARGUMENTS]`. Standard library only.
"""

import subprocess
import sys
from collections.abc import Sequence

from environment import NEEDS, PYTHON, ROOT, STAGES, prepare
from stages import StageError, Stages


def main(arguments: Sequence[str]) -> int:
    """Run the checks; the exit code is that of the first that fails."""
    print(f"test: {NEEDS}", file=sys.stderr)
    stages = Stages(STAGES + 3)
    try:
        prepare(stages, "--bare")  # tests compare the engine with unmodified llama.cpp
        stages.command("lint", [PYTHON, "-m", "ruff", "check", ROOT])
        stages.command("format", [PYTHON, "-m", "ruff", "format", "--check", ROOT])
        stages.command("types", [PYTHON, "-m", "mypy", "--config-file", ROOT / "pyproject.toml"])
    except StageError as error:
        print(f"test: {error}", file=sys.stderr)
        return 1
    return subprocess.run([PYTHON, "-m", "pytest", *arguments], cwd=ROOT, check=False).returncode


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
