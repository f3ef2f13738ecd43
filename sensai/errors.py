"""The one exception for what a user can mend."""


class InputError(ValueError):
    """Bad input: one line that names the parameter or file, its value, and what is allowed.

    The entry points print the line and end with status 2; everything else that is raised is a defect of ours.
    """
