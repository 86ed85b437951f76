"""The two ways a command ends badly; `python -m spo` turns each into one line and an exit code."""


class UserError(Exception):
    """Misuse: a wrong key, file, name or state folder. One line that names it and the remedy; exit code 2."""


class RunFailure(Exception):
    """A run that was set up correctly and could not go on (non-finite loss, dead worker, full disk); exit code 1."""
