"""The srcset attribute."""

from hypothesis import given
from hypothesis import strategies as st

from stoker.pipelines.web.pages import srcset


@given(
    st.lists(
        st.tuples(
            st.text(st.sampled_from("ab/.:,()?="), min_size=1).filter(lambda u: u.strip(",") == u), st.integers(1, 9999)
        ),
        max_size=6,
    )
)
def test_a_srcset_is_parsed_into_the_entries_it_was_made_of(made: list[tuple[str, int]]) -> None:
    text = ", ".join(f"{url} {width}w" for url, width in made)
    assert [(entry.url, entry.width) for entry in srcset.parse(text)] == made


@given(st.text(st.sampled_from("ab,. 12wxh()\t"), max_size=60))
def test_any_srcset_is_read_in_bounded_time_without_an_error(text: str) -> None:
    for entry in srcset.parse(text):
        assert entry.url
        assert not entry.url.endswith(",")


def test_of_several_sizes_the_wanted_one_is_chosen() -> None:
    choices = srcset.parse("s.jpg 320w, m.jpg 640w, l.jpg 1280w")
    assert srcset.choose(choices, 0) == "l.jpg"
    assert srcset.choose(choices, 500) == "m.jpg"
    assert srcset.choose(choices, 5000) == "l.jpg"
    assert srcset.choose(srcset.parse("a.jpg, b.jpg 2x"), 100) == "b.jpg"
    assert srcset.choose([], 0) is None


ENTRIES = st.lists(st.builds(srcset.SrcsetEntry, st.text("ab", min_size=1), st.integers(0, 3), st.integers(1, 3)))


@given(ENTRIES, ENTRIES, st.integers(0, 4))
def test_the_choice_of_a_list_stands_for_the_list(
    first: list[srcset.SrcsetEntry], second: list[srcset.SrcsetEntry], width: int
) -> None:
    chosen = srcset.choose_entry(first, width)
    assert srcset.choose([*([] if chosen is None else [chosen]), *second], width) == srcset.choose(
        first + second, width
    )
