"""Real files that a test needs."""
import pytest

from cl_lib.datasets.sources import DataError, File, locate


def needs(*files: File) -> None:
    """Skip where a file is not at hand; a file that is there and is not the right one is a failure."""
    for file in files:
        try:
            locate(file, download=False)
        except DataError as error:
            if "is not to be had" not in str(error):
                raise
            pytest.skip(str(error))
