"""From a clean clone to a bundle that answers: `python3 build_scripts/demo.py`. Standard library only."""

import subprocess
import sys

from environment import NEEDS, PYTHON, ROOT, STAGES, prepare
from stages import StageError, Stages

BUNDLE = ROOT / "dist" / "qwen3.run"
QUESTION = "What is the capital of France?"


def main() -> int:
    """Build everything that is missing, bundle the demo model, and ask it a question."""
    print(f"demo: {NEEDS}", file=sys.stderr)
    try:
        stages = Stages(STAGES + 2)
        prepare(stages)
        BUNDLE.parent.mkdir(exist_ok=True)
        stages.command("bundle", [PYTHON, "-m", "bundler", "build", "--demo", "--force", "-o", BUNDLE])
        stages.run("question", lambda: QUESTION)
    except StageError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    shown = BUNDLE.relative_to(ROOT)
    print(f'$ ./{shown} --cli -p "{QUESTION}"', flush=True)
    return subprocess.run([BUNDLE, "--cli", "-p", QUESTION], stdin=subprocess.DEVNULL, check=False).returncode


if __name__ == "__main__":
    raise SystemExit(main())
