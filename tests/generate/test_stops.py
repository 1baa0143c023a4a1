"""Stop strings never come out, wherever pieces are cut."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from beholder.generate.stops import StopFilter


def through(stops, pieces):
    watch = StopFilter(stops)
    text = "".join(watch.add(piece) for piece in pieces)
    return text + watch.finish(), watch.stopped


def test_a_stop_string_split_over_pieces_is_not_emitted():
    assert through(["STOP"], ["ab", "S", "TO", "P", "cd"]) == ("ab", True)


def test_a_beginning_that_leads_nowhere_comes_out():
    assert through(["STOP"], ["ab", "ST", "x"]) == ("abSTx", False)
    assert through(["STOP"], ["ab", "ST"]) == ("abST", False)


def test_the_earliest_of_several_decides():
    assert through(["cc", "b"], ["aabcc"]) == ("aa", True)


def test_nothing_is_held_back_without_need():
    watch = StopFilter(["###"])
    assert watch.add("hello") == "hello"
    assert watch.add(" #") == " "
    assert watch.add("x") == "#x"


@settings(deadline=None, max_examples=200)
@given(
    st.lists(st.text("ab", min_size=1, max_size=3), max_size=3),
    st.lists(st.text("abc", max_size=4), max_size=8),
)
def test_equals_looking_at_the_whole_text(stops, pieces):
    watch, text, out = StopFilter(stops), "", ""
    for piece in pieces:
        text += piece
        out += watch.add(piece)
        if watch.stopped:
            break
    out += watch.finish()
    places = [place for place in (text.find(stop) for stop in stops) if place >= 0]
    assert watch.stopped == bool(places)
    assert out == (text[: min(places)] if places else text)
