from cl_lib.datasets.occupations import STATS, occupations
from support.files import needs


def test_occupations():
    needs(STATS)
    found = occupations()
    assert len(found) == 60 and found["nurse"] > 80 > 20 > found["mechanic"] and all(0 <= share <= 100 for share in found.values())
