"""The registry reads, and says file and line of what is wrong in it."""
import re
import shutil

import pytest

from cl_lib import papers
from cl_lib.errors import InputError


def test_every_paper_of_the_book_has_a_row():
    assert len(papers.notebooks()) == 46
    assert len(papers.papers()) == 237
    for paper in papers.papers().values():
        assert paper.title and paper.idea and paper.authors, paper.id
        assert paper.arxiv is None or re.fullmatch(r"\d{4}\.\d{4,5}|[a-z-]+/\d{7}", paper.arxiv), paper.id
        assert paper.code is None or re.fullmatch(r"[\w.-]+/[\w.-]+", paper.code), paper.id


def test_every_paper_has_its_place_in_the_framework_and_every_word_is_used():
    places = [p.framework for p in papers.papers().values()]
    assert None not in places
    for axis, words in papers.FRAMEWORK.items():
        assert {place[axis] for place in places} - set(papers.EVERYWHERE) == set(words), axis
    known = {"simcse": "transformation batch shared projection softmax", "contriever": "context queue momentum none softmax",
             "convirt": "modality batch two projection softmax", "directpred": "transformation none momentum predictor distance"}
    for id, place in known.items():
        assert " ".join(papers.paper(id).framework.values()) == place


def test_places_hold_every_paper_once():
    for axes in (("positives", "loss"), ("encoder", "head")):
        found = papers.places(*axes)
        assert sorted(p.id for here in found.values() for p in here) == sorted(papers.papers())
    assert papers.paper("simcse") in papers.places()["transformation", "softmax"]
    with pytest.raises(InputError, match="unknown axis 'losses'; did you mean 'loss'"):
        papers.places("positives", "losses")


def test_most_papers_say_what_they_start_from_and_no_landmark_is_idle():
    related = [p for p in papers.papers().values() if p.relations]
    assert len(related) > 150
    named = {other for p in related for others in p.relations.values() for other in others}
    assert set(papers.landmarks()) <= named and not set(papers.landmarks()) & set(papers.papers())
    assert papers.paper("esimcse").relations["reduces_to"] == ("simcse",)


GOOD = """\
- id: demo
  title: A demo
  authors: Nobody
  year: 2020
  venue: null
  arxiv: null
  code: null
  framework: {positives: labels, negatives: batch, encoder: shared, head: none, loss: softmax}
  idea: Nothing much.
  headline: {says: it works}
  departures: []
  claims:
    - id: first
      says: It is better.
      where: abstract
      kind: effect
      fidelity: same
      metric: accuracy
      better: higher
      contrasts: [{arm: a, against: b, min_effect: 0.1}]
"""


@pytest.fixture
def registry(tmp_path):
    def write(text):
        shutil.rmtree(tmp_path / "data", ignore_errors=True)
        (tmp_path / "data/papers").mkdir(parents=True)
        (tmp_path / "data/book.yml").write_text(
            "- {name: part, title: Part, intro: '', notebooks: [{name: demo-notebook, title: Demo, intro: Few words.}]}\n")
        (tmp_path / "data/papers/demo-notebook.yml").write_text(text)
        (tmp_path / "data/landmarks.yml").write_text("- {id: simclr, title: SimCLR, year: 2020, arxiv: null}\n")
        papers.book.cache_clear()
        return tmp_path

    return write


def test_a_good_row_reads(registry):
    claim = papers.claim("demo.first", registry(GOOD))
    assert (claim.name, claim.sign, claim.contrasts[0].min_effect) == ("demo.first", 1, 0.1)


def test_the_place_in_the_framework_may_be_missing(registry):
    assert papers.paper("demo", registry(GOOD)).framework["positives"] == "labels"
    without = re.sub(r"  framework: .*\n", "", GOOD)
    assert papers.paper("demo", registry(without)).framework is None


@pytest.mark.parametrize(("old", "new", "message"), [
    ("  idea: Nothing much.\n", "", r"yml:1: paper demo: missing field 'idea'"),
    ("  idea:", "  ideas: x\n  idea:", r"yml:1: .*unknown field 'ideas'; did you mean 'idea'"),
    ("kind: effect", "kind: efect", r"yml:13: claim demo.first: unknown kind 'efect'; did you mean 'effect'"),
    ("better: higher", "better: more", r"unknown better 'more'"),
    ("fidelity: same", "fidelity: exact", r"unknown fidelity"),
    (", min_effect: 0.1", "", r"yml:20: .*missing field 'min_effect'"),
    ("min_effect: 0.1", "min_effect: -1", r"min_effect must be a number >= 0"),
    ("min_effect: 0.1", "margin: 0.1", r"unknown field 'margin'"),
    ("      contrasts: [{arm: a, against: b, min_effect: 0.1}]\n", "", r"takes `contrasts`"),
    ("kind: effect", "kind: identity", r"takes a number `tolerance`"),
    ("id: first", "id: control-first", r"yml:13: claim demo.control-first: ids that begin with control"),
    ("year: 2020", "year: soon", r"year must be a whole number"),
    ("  departures: []\n", "  departures: none\n", r"departures must be a list"),
    ("  claims:", "  title: Again\n  claims:", r"yml:1: .*'title' stands twice"),
    ("  title: A demo", "  title: [", r"yml:\d+: not valid YAML"),
    ("loss: softmax", "loss: sofmax", r"yml:1: paper demo: framework: unknown loss 'sofmax'; did you mean 'softmax'"),
    ("  idea:", "  relations: {extends: [simclr]}\n  idea:", r"yml:\d+: relations of demo: unknown field 'extends'"),
    ("  idea:", "  relations: {builds_on: [simcrl]}\n  idea:", r"relations of demo: unknown paper 'simcrl'; did you mean 'simclr'"),
    ("  idea:", "  relations: {builds_on: [demo]}\n  idea:", r"paper demo: builds_on must be a list of other papers"),
    ("negatives: batch", "negatives: labels", r"framework: unknown negatives 'labels'"),
    (", loss: softmax", "", r"framework of demo: missing field 'loss'"),
    ("loss: softmax", "loss: softmax, view: none", r"framework of demo: unknown field 'view'"),
    ("{positives: labels, negatives: batch, encoder: shared, head: none, loss: softmax}", "softmax", r"framework of demo is not"),
])
def test_a_bad_row_is_named_with_file_and_line(registry, old, new, message):
    assert old in GOOD
    root = registry(GOOD.replace(old, new, 1))
    with pytest.raises(InputError, match=message):
        papers.book(root)


def test_an_id_stands_once(registry):
    with pytest.raises(InputError, match="'demo' stands twice"):
        papers.book(registry(GOOD + GOOD))


@pytest.mark.parametrize(("call", "message"), [
    (lambda: papers.paper("dlc-fas"), "unknown paper 'dlc-fas'; did you mean 'dcl-fas'"),
    (lambda: papers.notebook("objective"), "did you mean 'objectives'"),
    (lambda: papers.claim("dcl.nothing"), "unknown claim 'dcl.nothing'"),
])
def test_the_nearest_name_is_shown(call, message):
    with pytest.raises(InputError, match=message):
        call()
