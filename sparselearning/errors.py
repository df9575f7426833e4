"""The one exception that is the caller's to mend."""


class UsageError(ValueError):
    """A mistake in what the caller asked for. The message is one line that names the mistake and the remedy."""
