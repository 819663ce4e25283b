"""The workflows, as far as can be checked here: GitHub's schema, actionlint, actions pinned, all targets served."""

import re
import sys
from pathlib import Path

import pytest

from tests.integration.conftest import ROOT, Runner

WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_the_schema_accepts_it(run: Runner, path: Path) -> None:
    checked = run(
        Path(sys.executable).with_name("check-jsonschema"), "--builtin-schema", "vendor.github-workflows", path
    )
    assert checked.code == 0, checked.out + checked.err


def test_actionlint_finds_nothing(run: Runner, tmp_path: Path) -> None:
    actionlint = Path(sys.executable).with_name("actionlint")
    checked = run(actionlint, "-oneline", *WORKFLOWS)
    assert (checked.code, checked.out) == (0, "")
    wrong = tmp_path / "wrong.yml"
    wrong.write_text(WORKFLOWS[0].read_text("utf-8").replace("github.workflow", "github.nothing"))
    assert "nothing" in run(actionlint, "-oneline", wrong).out


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_actions_are_pinned_by_commit_and_name_their_version(path: Path) -> None:
    used = re.findall(r"uses: (.*)", path.read_text("utf-8"))
    assert used
    for action in used:
        assert re.fullmatch(r"actions/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", action), action


def test_a_release_builds_and_runs_every_target(run: Runner) -> None:
    asked = run(sys.executable, ROOT / "build_scripts/release.py", "--help")
    assert asked.code == 0, asked.err
    known = re.search(r"\{([\w,-]+)\}", asked.out)
    assert known
    targets = re.findall(r"target: ([\w-]+),", (ROOT / ".github/workflows/release.yml").read_text("utf-8"))
    assert sorted(targets) == sorted(2 * known[1].split(","))
