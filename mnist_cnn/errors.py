"""The one distinction between errors: what the user can mend, and what is a bug of ours."""


class UserError(ValueError):
    """What a user did, asked for or has on the machine cannot work; the message says what would.

    The command line prints it as a line and exits with status 2. Any other exception is a bug and
    shows its traceback.
    """
