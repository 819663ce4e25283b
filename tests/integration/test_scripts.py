"""The build scripts' own promises: needs are named in one line, a failed stage names its log."""

import os
import sys
from pathlib import Path

import pytest

from runtime.paths import build_cache
from tests.integration.conftest import ROOT, Runner

SCRIPTS = ROOT / "build_scripts"


@pytest.mark.parametrize("script", ["demo.py", "test.py"])
def test_a_missing_compiler_is_one_line_with_the_remedy(run: Runner, tmp_path: Path, script: str) -> None:
    (tmp_path / "bin").mkdir()
    done = run(sys.executable, "-S", SCRIPTS / script, PATH=str(tmp_path / "bin"))  # before anything is installed
    assert done.code == 1
    needs, failure = done.err.splitlines()
    assert "needs Python 3.11 or newer and a C/C++ compiler" in needs
    assert "there is no C compiler; install one" in failure


def test_a_failed_stage_names_its_log_and_shows_its_end(run: Runner, tmp_path: Path) -> None:
    script = (
        "from stages import Stages, StageError\n"
        "import sys\n"
        "stages = Stages(2)\n"
        "stages.run('first', lambda: 'fine')\n"
        "try: stages.command('second', [sys.executable, '-c', 'print(\"the reason\"); raise SystemExit(7)'])\n"
        "except StageError as error: sys.exit(str(error))\n"
    )
    done = run(sys.executable, "-c", script, PYTHONPATH=str(SCRIPTS), QWENFILE_BUILD_CACHE=str(tmp_path / "cache"))
    assert done.code == 1
    assert "[1/2] first" in done.err
    assert "stage 'second' failed with exit code 7" in done.err
    assert "the reason" in done.err
    (log,) = (tmp_path / "cache/logs").glob("second-*.log")
    assert str(log) in done.err
    assert "the reason" in log.read_text()


def test_a_failed_step_names_its_log_and_the_line_that_says_most(run: Runner, tmp_path: Path) -> None:
    script = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from steps import StepError, Steps\n"
        "steps = Steps(Path('build.log'))\n"
        "steps.run('the first', ['echo', 'an error: of another step'], Path(), os.environ)\n"
        "compile = ['sh', '-c', 'echo x.c:1: error: no; echo stopped; exit 3']\n"
        "try: steps.run('the compiler', compile, Path(), os.environ)\n"
        "except StepError as error: sys.exit(str(error))\n"
    )
    done = run(sys.executable, "-c", script, cwd=tmp_path, PYTHONPATH=str(SCRIPTS))
    assert done.err.splitlines() == ["the compiler failed (exit 3): x.c:1: error: no; the whole output is in build.log"]
    assert "stopped" in (tmp_path / "build.log").read_text()


@pytest.mark.parametrize("changes", [{}, {"XDG_CACHE_HOME": "/xdg"}, {"QWENFILE_BUILD_CACHE": "/given"}])
def test_scripts_and_packages_agree_on_the_build_cache(run: Runner, tmp_path: Path, changes: dict[str, str]) -> None:
    """The scripts cannot import runtime.paths before there is an environment, so they have a copy of its rule."""
    env = {"HOME": str(tmp_path), "PATH": os.environ["PATH"]}
    env |= {name: str(tmp_path) + value for name, value in changes.items()}
    shown = run(sys.executable, "-c", "import stages; print(stages.build_cache())", env=env, PYTHONPATH=str(SCRIPTS))
    assert shown.out.strip() == str(build_cache(env))
