"""Plain text of the handbook as wikitext."""

from stoker.flows.demo import wikitext


def test_plain_text_becomes_wikitext() -> None:
    text = """The "del" statement
*******************

Deletes *names*; see section Other Things and "for". A **bold** word [1].

1. First, a
   second line.

   A paragraph of the item.

2. Then:

      del x

Other Things
============

Moved away.

-[ Footnotes ]-

[1] A note.
"""
    titles = {"for": "The for statement", "other things": "Other Things", "the del statement": "The del statement"}
    assert wikitext.title_of(text) == "The del statement"
    assert wikitext.convert(text, titles) == (
        "Deletes ''names''; see section [[Other Things]] and <code>[[The for statement|for]]</code>. "
        "A '''bold''' word <ref name=\"note1\">A note.</ref>.\n\n"
        "# First, a second line.\n"
        "#: A paragraph of the item.\n"
        "# Then:\n"
        '<syntaxhighlight lang="python">\ndel x\n</syntaxhighlight>\n\n'
        "== Other Things ==\n{{Main|Other Things}}\n\n"
        "== Notes ==\n<references />"
    )
