from cl_lib import written


def test_what_repeats_is_marked(monkeypatch):
    shown = []
    monkeypatch.setattr(written, "display", lambda data, raw: shown.append(data))
    written.show({"greedy": "a b c a b c <d>", "other": "a b"}, n=2, begun="Once & again")
    assert shown[0]["text/plain"] == "Once & again ...\ngreedy: a b c a B C <d>\nother: a b"
    html = shown[0]["text/html"]
    assert html.count("<mark") == 2 and "&lt;d&gt;" in html and "Once &amp; again" in html and ">greedy</th>" in html


def test_the_first_words_repeat_nothing():
    assert written._parts("a a a a".split(), 3) == [("a", False), ("a", False), ("a", False), ("a", True)]
