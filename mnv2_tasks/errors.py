"""What a user can get wrong: every message says what, where, and how to mend it."""


class ConfigError(ValueError):
    """A setting, a file or a folder that the user named cannot work."""


class DataError(ValueError):
    """A record of a data set is broken; the message names the file and the record."""
