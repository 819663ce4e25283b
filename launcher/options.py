"""What the user asked for: the result of reading the command line (`launcher.arguments`). Launcher only."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any


class Face(Enum):
    """The three ways to use a bundle."""

    CHAT = "--chat"
    SERVER = "--server"
    CLI = "--cli"


class Action(Enum):
    """Run the face, or print something and leave."""

    RUN = ""
    HELP = "--help"
    HELP_ENGINE = "--help-engine"
    VERSION = "--version"
    LICENSES = "--licenses"
    LIST_DEVICES = "--list-devices"
    SHOW_SETTINGS = "--show-settings"
    INSTALL_DESKTOP = "--install-desktop"
    UNINSTALL_DESKTOP = "--uninstall-desktop"


class Work(Enum):
    """What --cli does with its input."""

    ANSWER = ""
    EMBEDDING = "--embedding"
    TOKENIZE = "--tokenize"
    COUNT_TOKENS = "--count-tokens"
    BENCH = "--bench"


@dataclass(frozen=True, kw_only=True)
class LaunchOptions:
    """What the user asked for. None means: not said, so the default of the model, the mode or the face."""

    face: Face = Face.CHAT
    action: Action = Action.RUN
    model: Path | None = None
    context: int | None = None
    gpu: str | None = None
    gpu_layers: str | None = None
    device: str | None = None
    threads: int | None = None
    predict: int | None = None
    thinking: bool | None = None
    sampling: Mapping[str, float | int] = field(default_factory=dict)
    stop: tuple[str, ...] = ()
    schema: Any = None
    grammar: str | None = None
    prompt: str | None = None
    files: tuple[Path, ...] = ()
    system: str | None = None
    system_file: Path | None = None
    raw: bool = False
    escapes: bool = False
    json: bool = False
    stream_json: bool = False
    show_thinking: bool = False
    display_prompt: bool = False
    work: Work = Work.ANSWER
    rows: str | None = None
    output: str | None = None
    unordered: bool = False
    short_rows: bool = False
    parallel: int | None = None
    shell: str | None = None
    host: str | None = None
    port: int | None = None
    api_key: str | None = None
    need_key: bool = True
    allowed_hosts: tuple[str, ...] = ()
    cors_origins: str = ""
    max_body: int | None = None
    port_file: Path | None = None
    browser: bool = True
    logo: bool = True
    history: bool = True
    resume: bool = False
    auto_forget: bool = False
    truncate: bool = False
    ascii: bool = False
    serve: bool = False
    draft: bool = True
    force: bool = False
    verbose: bool = False
    debug: bool = False
    engine_args: tuple[str, ...] = ()
