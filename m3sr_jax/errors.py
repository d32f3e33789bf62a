"""The one exception the command line turns into a message and exit code 2."""


class InputError(Exception):
    """Something the user gave cannot be used.

    The message is one the user can act on: it names the file or field, says what was found, what was expected and what
    to do.
    """
