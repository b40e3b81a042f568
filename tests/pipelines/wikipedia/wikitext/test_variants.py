"""Language variants: read on wikis that convert them, text everywhere else."""

import pytest

from stoker.pipelines.wikipedia.wikitext.clean import WikiLocale, plain_text
from stoker.pipelines.wikipedia.wikitext.variants import variants_of

CHEMICAL = "N-{[(2S)-2-amino]oxy}-6-methyl and 4-{2-[(3R)-x]ethyl}-phenol"


@pytest.mark.parametrize("language", ["en", "de", "ja", "fr", "", "be", "yue", "lzh"])
def test_wikis_without_variants_show_the_marks_as_text(language: str) -> None:
    assert plain_text(CHEMICAL, WikiLocale.of(language)) == CHEMICAL


@pytest.mark.parametrize("language", ["zh", "sr", "kk", "ku", "shi", "iu", "tg", "uz", "crh", "gan", "ban", "tly"])
def test_wikis_with_variants_show_one_form(language: str) -> None:
    first, last = variants_of(language)[0], variants_of(language)[-1]
    page = f"a -{{{first}:X; {last}:Y}}- b -{{{last}:Y;{first}:X;}}-"
    assert plain_text(page, WikiLocale.of(language)) == "a X b X"
    assert plain_text(page, WikiLocale.of(language, variant=last)) == "a Y b Y"


ZH = {
    "-{zh-hans:计算机;zh-hant:電腦}-和-{zh-tw:軟體; zh-cn:软件}-": ("计算机和软件", "電腦和軟體"),
    "-{zh-tw:資訊;zh-cn:信息;zh-hk:資訊}-": ("信息", "資訊"),
    "-{H|zh-cn:a;zh-tw:b}-T-{T|zh-cn:c}--{-|zh:x}-": ("T", "T"),
    "-{A|zh-cn:锡;zh-tw:錫}-": ("锡", "錫"),
    "-{R|原文}--{原文}-": ("原文原文", "原文原文"),
    "-{zh-hans;zh-hant|原文}-": ("原文", "原文"),
    "-{zh-hans:[[锡|a]]; zh-hant:{{nowrap|錫}};}-": ("a", "錫"),
    "-{zh-hans:a&nbsp;b;zh-hant:c; d}-": ("a b", "c; d"),
    "-{zh-hans:外-{zh-hans:内;zh-hant:內}-;zh-hant:x}-": ("外内", "x"),
    "-{你=>zh-hans:他;zh-hant:她}-": ("他", "她"),
    "{{nowrap|-{zh-hans:简;zh-hant:繁}-}}": ("简", "繁"),
    "3-{a}-4 <math>x-{1}-2</math>": ("3a4 x-{1}-2", "3a4 x-{1}-2"),
}


@pytest.mark.parametrize("wikitext", ZH)
def test_chinese_pages_come_in_one_script(wikitext: str) -> None:
    simplified, traditional = (WikiLocale.of("zh", variant=variant) for variant in ("zh-cn", "zh-tw"))
    assert (plain_text(wikitext, simplified), plain_text(wikitext, traditional)) == ZH[wikitext]


def test_a_dump_in_a_variant_is_read_in_it() -> None:
    assert WikiLocale.of("zh-hant").variant == "zh-hant"
    assert WikiLocale.of("zh").variant == "zh"
    assert WikiLocale.of("de").variant == ""
