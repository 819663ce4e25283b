"""/stats tells how often a draft model guessed right, where there is one."""

from launcher.client import Timings
from launcher.tell_commands import _costs


def test_acceptance_is_shown() -> None:
    rows = _costs(Timings(prompt=1, prompt_ms=1.0, generated=8, generated_ms=10.0, guessed=8, accepted=6))
    assert rows[-1] == "  draft            6 of 8 guesses were right (75 %)"


def test_without_a_draft_nothing_is_said_about_one() -> None:
    assert not any("draft" in row for row in _costs(Timings(generated=8)))
