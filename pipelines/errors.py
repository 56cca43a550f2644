"""The errors a user can act on: each message names the value, the rule and the next act."""


class DataError(Exception):
    """Base of every error of this package that a user can act on."""


class StorageError(DataError):
    """A uri that cannot be listed, read or written."""


class OutageError(StorageError):
    """Storage that failed in a way that passes: what it holds is neither lost nor bad."""


class ImageError(DataError):
    """Bytes that are no image, or an image that a format cannot hold."""


class ManifestError(DataError):
    """A table of images that is missing, damaged or of another shape."""
