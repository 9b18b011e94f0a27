"""Occupations and how many of those who work in them are women, from statistics of the United States."""
import csv
import io
from functools import lru_cache

from cl_lib.datasets.sources import File, Mirror, locate

STATS = File("bias/winogender/occupations-stats.tsv", "3f7f37c16381a70571356982ea7fe613ac700ad04a6d3b19b9f2be18248df567", (
    Mirror("folder", "bias/winogender/occupations-stats.tsv"),
    Mirror("url", "https://raw.githubusercontent.com/rudinger/winogender-schemas/master/data/occupations-stats.tsv")))


@lru_cache
def occupations() -> dict[str, float]:
    """60 occupations -> share of women, in %, of the Bureau of Labor Statistics (Rudinger et al. 2018, 1804.09301; MIT).

    Raises: DataError when the file is not to be had.
    """
    rows = csv.DictReader(io.StringIO(locate(STATS)[0].read_text(encoding="utf8")), delimiter="\t")
    return {row["occupation"]: float(row["bls_pct_female"]) for row in rows}
