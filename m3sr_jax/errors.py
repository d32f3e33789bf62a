"""The one exception the command line turns into a message and exit code 2."""

LONGEST = 1500  # characters


class InputError(Exception):
    """Something the user gave cannot be used.

    The message is one the user can act on: it names the file or field, says what was found, what was expected and what
    to do. It is one line whatever a file made it quote: control characters are escaped, and the middle of a long
    message is left out.
    """

    def __init__(self, message: str) -> None:
        shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in message)
        if len(shown) > LONGEST:
            shown = f"{shown[: LONGEST // 2]} … {shown[-LONGEST // 2 :]}"
        super().__init__(shown)
