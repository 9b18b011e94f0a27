import pytest

from cl_lib.datasets.occupations import occupations
from cl_lib.datasets.sources import DataError


def test_occupations():
    try:
        found = occupations()
    except DataError as error:
        pytest.skip(str(error))
    assert len(found) == 60 and found["nurse"] > 80 > 20 > found["mechanic"] and all(0 <= share <= 100 for share in found.values())
