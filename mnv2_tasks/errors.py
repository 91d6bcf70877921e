"""What a user can get wrong: every message says what, where, and how to mend it. And memory that runs out."""

import re

NO_MEMORY = re.compile("out of memory|can't allocate|Cannot allocate|not enough memory|ALLOC_FAILED", re.IGNORECASE)


class ConfigError(ValueError):
    """A setting, a file or a folder that the user named cannot work."""


class DataError(ValueError):
    """A record of a data set is broken; the message names the file and the record."""


def ran_out_of_memory(error: BaseException) -> bool:
    """Whether an allocation failed, which each of torch's allocators tells in its own words."""
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and bool(NO_MEMORY.search(str(error))))
