"""The tokenizer."""

from stoker.pipelines.web.pages.markup import EndTag, StartTag, tokenize


def test_tokens_are_tags_and_texts_in_order() -> None:
    tokens = list(tokenize("a<b c>d</b><!>e<<f"))
    assert tokens == ["a", StartTag("b", {"c": ""}), "d", EndTag("b"), "e", "<"]
