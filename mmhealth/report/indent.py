"""The indent of what stands below a heading on a terminal."""

from rich.console import RenderableType
from rich.padding import Padding
from rich.text import Text


def indent(content: RenderableType, by: int = 2) -> RenderableType:
    """The content ``by`` columns to the right; text as it is, without markup."""
    shown = Text(content) if isinstance(content, str) else content
    return Padding(shown, (0, 0, 0, by), expand=False)
