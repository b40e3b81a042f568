"""Steps on texts: one form, a fitting length, a known language."""

import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.pipelines.errors import RecipeError
from stoker.pipelines.recipe import parse
from stoker.pipelines.rejected import Rejected
from stoker.pipelines.step import Step
from stoker.pipelines.steps.language import Language
from stoker.pipelines.steps.text_length import TextLength
from stoker.pipelines.steps.text_normalise import TextNormalise
from stoker.pipelines.text.languages import identify_language, known_languages
from stoker.storage.shards.sample import Sample

STEPS = (TextNormalise(), TextLength(min_characters=3), Language(keep=("en",)))


def sample(text: str | bytes) -> Sample:
    return Sample("key", {"txt": text.encode() if isinstance(text, str) else text}, {"title": "x"})


def text_of(result: Sample | Rejected) -> str:
    assert isinstance(result, Sample)
    return result.fields["txt"].decode()


def reason(result: Sample | Rejected) -> str:
    assert isinstance(result, Rejected)
    return result.reason


@pytest.mark.parametrize("step", STEPS)
def test_a_sample_without_text_passes_untouched(step: Step) -> None:
    given = Sample("key", {"jpg": b"x"})
    assert step(given) is given


@pytest.mark.parametrize("step", STEPS)
def test_bytes_that_are_not_utf8_are_rejected(step: Step) -> None:
    assert reason(step(sample(b"caf\xe9 and more"))) == "not_utf8"
    assert reason(step(sample(b"\xed\xa0\x80 surrogate"))) == "not_utf8"


def test_texts_come_into_one_form() -> None:
    given = "\ufeffCafe\u0301\r\n\u200bTin\u00a0\u00a0is \t soft.\x00 \r\r\r\rEnd\u2028line\x85 \n\n"
    assert text_of(TextNormalise()(sample(given))) == "Café\nTin is soft.\n\nEnd\nline"
    assert text_of(TextNormalise(form="NFKC")(sample("ﬁve ²"))) == "five 2"
    assert text_of(TextNormalise(spaces=False)(sample("a:\n    b  c \n"))) == "a:\n    b  c"
    assert text_of(TextNormalise(blank_lines=0)(sample("a\n\n\nb"))) == "a\nb"


def test_joiners_that_words_need_stay() -> None:
    for word in ("می\u200cخواهم", "क्\u200dष", "👩\u200d🔬"):
        assert text_of(TextNormalise()(sample(word))) == word


def test_a_text_of_which_nothing_is_left_is_empty() -> None:
    for text in ("", " \n\t", "\ufeff\u200b", "\x00\x07"):
        assert reason(TextNormalise()(sample(text))) == "empty"


@given(st.text(), st.sampled_from(["NFC", "NFKC", "none"]), st.booleans())
def test_normalising_again_changes_nothing(text: str, form: str, spaces: bool) -> None:
    step = TextNormalise(form=form, spaces=spaces)  # type: ignore[arg-type]  # one of the literals
    once = step.normalised(text)
    assert step.normalised(once) == once
    if form != "none":
        assert unicodedata.is_normalized("NFC", once)


def test_lengths_are_counted_in_characters_and_words() -> None:
    step = TextLength(min_characters=5, max_characters=20, min_words=2, max_words=3)
    assert reason(step(sample("ab c"))) == "too_short"
    assert reason(step(sample("abcdefg"))) == "too_short"
    assert reason(step(sample("a b c d e"))) == "too_long"
    assert reason(step(sample("x" * 10 + " " + "y" * 10))) == "too_long"
    assert text_of(step(sample("just fitting"))) == "just fitting"
    assert reason(TextLength(min_words=4)(sample("鉄塔。"))) == "too_short"
    assert reason(TextLength()(sample(""))) == "too_short"


def test_limits_that_nothing_fits_are_a_recipe_error() -> None:
    with pytest.raises(RecipeError, match=r"min_words = 9 is more than max_words = 3"):
        parse(_recipe({"name": "text_length", "min_words": 9, "max_words": 3}), root=Path())
    with pytest.raises(RecipeError, match=r"no language 'eng' is known here; did you mean 'en'"):
        parse(_recipe({"name": "language", "keep": ["eng"]}), root=Path())


def _recipe(step: dict[str, object]) -> dict[str, object]:
    return {"corpus": "x", "source": {"name": "local_files", "files": "."}, "steps": [step]}


PROSE = {
    "en": "The old bridge stands where the river is widest; in spring the water comes up to its second stone.",
    "de": "Die alte Brücke steht dort, wo der Fluss am breitesten ist, im Frühling reicht ihr das Wasser zum Stein.",
    "fr": "Le vieux pont se trouve là où la rivière est la plus large, et au printemps l'eau monte à la pierre.",
    "es": "El viejo puente está donde el río es más ancho, y en primavera el agua sube hasta su segunda piedra.",
    "it": "Il vecchio ponte si trova dove il fiume è più largo, e in primavera l'acqua sale fino alla seconda pietra.",
    "pt": "A velha ponte fica onde o rio é mais largo, e na primavera a água sobe até à segunda pedra.",
    "nl": "De oude brug staat waar de rivier het breedst is, en in het voorjaar komt het water aan de tweede steen.",
    "sv": "Den gamla bron står där floden är som bredast, och på våren når vattnet upp till den andra stenen.",
    "da": "Den gamle bro står, hvor floden er bredest, og om foråret når vandet op til den anden sten af bropillen.",
    "fi": "Vanha silta on siinä missä joki on levein, ja keväällä vesi nousee sen toiseen kiveen asti, mutta ei yli.",
    "pl": "Stary most stoi tam, gdzie rzeka jest najszersza, a na wiosnę woda sięga do jego drugiego kamienia.",
    "cs": "Starý most stojí tam, kde je řeka nejširší, a na jaře se voda dostane až k jeho druhému kameni.",
    "hu": "A régi híd ott áll, ahol a folyó a legszélesebb, és tavasszal a víz a második kőig ér, de nem tovább.",
    "ro": "Podul vechi se află acolo unde râul este cel mai lat, iar primăvara apa ajunge până la a doua piatră.",
    "tr": "Eski köprü nehrin en geniş olduğu yerde durur ve ilkbaharda su ikinci taşa kadar çıkar, daha yukarı değil.",
    "id": "Jembatan tua itu berada di tempat sungai yang paling lebar, dan pada musim semi airnya naik ke batu kedua.",
    "vi": "Cây cầu cũ nằm ở nơi sông rộng nhất, và vào mùa xuân nước dâng lên đến hòn đá thứ hai của nó.",
    "ru": "Старый мост стоит там, где река шире всего, и весной вода поднимается до его второго камня.",
    "uk": "Старий міст стоїть там, де річка найширша, і навесні вода піднімається до його другого каменя.",
    "bg": "Старият мост се намира там, където реката е най-широка, и през пролетта водата стига до втория камък.",
    "ar": "يقف الجسر القديم حيث يكون النهر أوسع ما يكون، وفي الربيع يصل الماء إلى الحجر الثاني من الجسر.",
    "fa": "پل قدیمی در جایی است که رودخانه از همه جا پهن‌تر است و در بهار آب تا سنگ دوم آن بالا می‌آید.",
    "hi": "पुराना पुल वहाँ है जहाँ नदी सबसे चौड़ी है, और वसंत में पानी उसके दूसरे पत्थर तक आता है।",
    "el": "Η παλιά γέφυρα βρίσκεται εκεί όπου το ποτάμι είναι πιο πλατύ.",
    "he": "הגשר הישן עומד במקום שבו הנהר רחב ביותר.",
    "ja": "古い橋は川の一番広いところにあり、春には水が二つ目の石まで上がってくる。",
    "zh": "旧桥位于河流最宽的地方，春天水会涨到第二块石头。",
    "ko": "오래된 다리는 강이 가장 넓은 곳에 있고 봄에는 물이 두 번째 돌까지 올라온다.",
    "th": "สะพานเก่าตั้งอยู่ตรงที่แม่น้ำกว้างที่สุด",
}


@pytest.mark.parametrize("language", PROSE)
def test_a_sentence_tells_its_language(language: str) -> None:
    found, confidence = identify_language(PROSE[language])
    assert (found, confidence >= 0.6) == (language, True), confidence


def test_keep_keeps_those_languages_and_writes_what_was_found() -> None:
    kept = Language(keep=("en", "de"))(sample(PROSE["de"]))
    assert isinstance(kept, Sample)
    assert (kept.record["detected_language"], kept.record["title"]) == ("de", "x")
    assert "language_matches" not in kept.record
    wiki = Language()(Sample("key", {"txt": PROSE["de"].encode()}, {"language": "simple"}))
    assert isinstance(wiki, Sample)
    assert (wiki.record["language"], wiki.record["language_matches"]) == ("simple", False)
    assert 0.6 <= kept.measures["language_confidence"] <= 1
    refused = Language(keep=("en",))(sample(PROSE["de"]))
    assert isinstance(refused, Rejected)
    assert (refused.reason, refused.detail[:8]) == ("wrong_language", "found de")
    anything = Language()(sample("12345 !!!"))
    assert isinstance(anything, Sample)
    assert anything.record["detected_language"] == ""


def test_a_text_that_tells_nothing_is_in_no_language() -> None:
    for text in ("", "123 456", "!!!", "xqzt wvkj prgl ztrk bnmv qwrt hjkl"):
        assert identify_language(text) == ("", 0.0)


@given(st.text())
def test_any_text_can_be_identified(text: str) -> None:
    language, confidence = identify_language(text)
    assert language == "" or language in known_languages()
    assert 0 <= confidence <= 1
    assert identify_language(text) == (language, confidence)
