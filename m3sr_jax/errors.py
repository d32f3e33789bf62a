"""The exception that the command line turns into a message and exit code 2."""

from collections.abc import Sequence

MAX_LENGTH = 1500  # characters


class InputError(Exception):
    """Something the user gave cannot be used.

    The message names the file or field and says what was found, what was expected and what to do. It is always one
    line, even where it quotes a file: control characters are escaped, and a long message loses its middle.
    """

    def __init__(self, message: str) -> None:
        shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in message)
        if len(shown) > MAX_LENGTH:
            shown = f"{shown[: MAX_LENGTH // 2]} … {shown[-MAX_LENGTH // 2 :]}"
        super().__init__(shown)


def one_line(error: BaseException, limit: int = 300) -> str:
    """Returns a library's message on one line of at most `limit` characters; the error's type if it has none."""
    return " ".join(str(error).split())[:limit] or type(error).__name__


def short_of_memory(error: BaseException) -> bool:
    """Whether an error of Python, JAX or TensorStore is about too little memory, of the host or of a device."""
    return isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error)


def shortened(names: Sequence[str], limit: int = 8) -> str:
    """Joins names for a message, at most `limit` of them."""
    rest = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + rest
