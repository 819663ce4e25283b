"""The version of qwenfile; pyproject.toml takes it from here. Everybody may import it."""

VERSION = "0.1.0"
