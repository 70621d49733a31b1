"""What can go wrong in a way that a user can mend. Each message says what is wrong and what to do."""

from __future__ import annotations


class Problem(Exception):
    """Something this machine lacks or that is not as it must be. The message is one line for a person."""

    exit_status = 1


class ConfigurationError(Problem):
    """A wrong key, type or value in the configuration file or on the command line."""

    exit_status = 2
