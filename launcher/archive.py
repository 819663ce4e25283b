"""Where a chat's conversations are kept: begins journals, finds earlier ones, goes on in them. Imported by the launcher
only."""

from collections.abc import Callable
from pathlib import Path

from launcher import sessions
from launcher.conversation import Conversation
from launcher.sessions import SUFFIX, Journal, Saved
from runtime.errors import UsageError


class Archive:
    """Conversations in a folder. `failed(reason)` is told when one cannot be written."""

    def __init__(self, folder: Path, model: str, failed: Callable[[str], None]) -> None:
        self.folder = folder
        self._model = model
        self._failed = failed
        self._journal: Journal | None = None

    @property
    def name(self) -> str:
        """The name of the conversation that is being written; "" before its first turn."""
        return self._journal.name if self._journal else ""

    def keep(self, conversation: Conversation) -> None:
        """Write this conversation down from now on, in a file of its own."""
        self.close()
        self._journal = Journal(self.folder, self._model, self._failed)
        conversation.keeper = self._journal
        conversation.keeper.system(conversation.system)

    def open(self, path: Path) -> tuple[Conversation, bool]:
        """The conversation in a file, and whether it goes on there; else in a copy: the file is none of this folder,
        another chat writes it, or it may not be written. Raises UsageError."""
        conversation = sessions.read(path)
        self.close()
        journal = Journal(self.folder, self._model, self._failed, path)
        if path.parent == self.folder and journal.resume(conversation):
            self._journal = journal
            conversation.keeper = journal
            return conversation, True
        self.keep(conversation)
        for turn in conversation.turns:
            conversation.keeper.turn(turn)
        return conversation, False

    def find(self, name: str) -> Path:
        """The file of a conversation by its name, or by a path. Raises UsageError naming those that are near."""
        path = Path(name).expanduser()
        if "/" not in name and not path.is_file():
            path = self.folder / (name.removesuffix(SUFFIX) + SUFFIX)
        if not path.is_file():
            import difflib

            near = difflib.get_close_matches(name, [each.stem for each in self.folder.glob(f"*{SUFFIX}")], n=3)
            remedy = f"did you mean {' or '.join(near)}?" if near else "/sessions lists them"
            raise UsageError(f"there is no conversation {name}", remedy)
        return path

    def saved(self) -> list[Saved]:
        """All conversations, newest first."""
        return sessions.saved(self.folder)

    def names(self) -> list[str]:
        """The names of all conversations, newest first."""
        return [each.name for each in self.saved()]

    def rename(self, name: str) -> None:
        """Give the conversation that is being written a name. Raises UsageError."""
        if self._journal is None:
            raise UsageError("there is nothing to save yet")
        self._journal.rename(name)

    def close(self) -> None:
        """Let another chat go on with the conversation."""
        if self._journal:
            self._journal.close()
        self._journal = None
