from pathlib import Path

from launcher.commands import COMMANDS

README = Path(__file__).parents[2] / "README.md"


def test_the_readme_lists_every_command() -> None:
    rows = ["| command | what it does |", "| --- | --- |"]
    for command in COMMANDS:
        also = f" (also {', '.join(f'`{name}`' for name in command.aliases)})" if command.aliases else ""
        usage = command.usage.replace("|", "\\|")
        rows.append(f"| `{usage}` | {command.help}{also} |")
    text = README.read_text(encoding="utf-8")
    assert text.split("by a test -->\n")[1].split("\n<!-- end")[0] == "\n".join(rows)
