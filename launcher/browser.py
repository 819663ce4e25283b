"""Opening a page where the person sits. Imported by the launcher only."""

from collections.abc import Mapping

from runtime.paths import host_target


def has_desktop(env: Mapping[str, str]) -> bool:
    """Whether a browser would open where the person sits: not over SSH, not without a display."""
    if env.get("SSH_CONNECTION") or env.get("SSH_TTY"):
        return False
    return bool(env.get("DISPLAY") or env.get("WAYLAND_DISPLAY")) or not host_target().startswith("linux")


def open_browser(url: str) -> None:
    """Open a page, without waiting for the browser."""
    import threading
    import webbrowser

    threading.Thread(target=webbrowser.open, args=(url,), daemon=True).start()  # it may wait for the browser
