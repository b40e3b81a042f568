"""Language identification by script, common short words, and letters that few languages have.

Reliable for prose of a hundred words, mostly right for single sentences. Closely related languages (Croatian and
Serbian in Latin letters, Malay and Indonesian) count as one. Deterministic; no model and no download.
"""

import re
from collections import Counter
from functools import cache

import numpy as np

_MAX_CHARACTERS = 20_000  # that are read of a text: more do not change the result


def _table(text: str) -> dict[str, str]:
    """The words behind each language code and colon, up to the next code."""
    parts = re.split(r"(\w+): ", " ".join(text.split()))
    return {code: rest.strip() for code, rest in zip(parts[1::2], parts[2::2], strict=True)}


_WORDS = _table("""
    af: die en van in is nie het dat te om vir wat met op dit aan was sy hulle ook maar deur word hy na toe kan
        ek jy een
    ca: de la el i a que en els les un una per amb del és no es al va són com més aquest seva dels pel però
        també ha seu
    cs: a se v na je že s z do o to i jako pro za by ale jsou který která byl bylo po od podle při nebo jeho
        také ve k si
    cy: yn y a o i ar yr ei mae oedd gan am wedi eu bod at hefyd un cael fel sydd ond iawn hwn dros nid ac
    da: om når anden andre af op hvor bliver dette meget nogle være hvis havde kunne deres og i at er en det til
        den på som med for de et var har ikke der fra blev han også kan men efter sig eller ved
    de: der die und in den von zu das mit sich des auf für ist im dem nicht ein eine als auch es an werden aus
        er hat dass sie nach wird bei einer um am sind noch wie einem über einen so zum war haben nur oder aber
        vor zur bis
    en: the of and to in a is that for it as was with be by on not he are this or his from at which but have an
        had they you were their one all we can her has there been if more when will would who so no its what
        about
    eo: la de kaj en estas al ke ne por mi li kun oni ĝi sed kiel pri tio vi ankaŭ per el ili estis kiu iu tre
        pli
    es: de la que el en y a los del se las por un para con no una su al lo como más pero sus le ya o fue este ha
        sí porque esta son entre cuando muy sin sobre también me hasta hay donde está desde todo nos durante es
    et: ja on ei et ta oli see kui ka oma aga mis ning või seda kes tema siis nii välja üks kus veel kuid pärast
        olid
    eu: eta da ez du bat dira zen ere izan baina edo duen hau zuen bere dute egin dago zuten hori egiten nahi
        oso
    fi: asti siinä missä mutta ja on ei että se oli hän joka kun ovat myös hänen kuin sen niin tai jos mukaan
        mitä olivat sitä ole voi vain
    fr: de la le et les des en un du une que est pour qui dans a par plus pas au sur ne se ce il sont avec son
        aux d l mais comme ou si leur y dont ces tout être fait elle cette été aussi même deux nous ont était
        c'est vous sans
    ga: an na agus a ar i is go ag le bhí do atá sé sin níl de chun mar tá ach ó leis seo nó siad gur aon
    gl: de a o que e do da en os un unha por para con non se no as dos na ao foi máis como á súa polo tamén é
        ten pola
    hr: i u je na se da za su od s koji a o ne kao iz do bi što ili ali koja po će nije sa bio samo te bila jer
        može više
    hu: a az és hogy nem is egy ez volt de meg van csak el mint már azt még ki vagy ha amely mely lehet ezt után
    id: yang dan di dengan untuk dari ini dalam pada itu adalah tidak oleh sebagai ke juga akan atau telah dapat
        mereka saya ada kami tersebut bahwa karena lebih
    is: og í að er á sem til var um við en með ekki af það hann hún eru því eftir þess eða þar hafa fyrir frá
        þegar
    it: di e il la che in a per un è non una del sono con da si le dei al i ha come della più anche ma nel alla
        o gli lo su delle questo suo stato essere dal era tra nella ed hanno quando molto
    la: et in est non ad ut cum quod qui de sed ab ex si quae esse aut per enim nec hoc quam atque sunt eius ac
        erat
    lt: ir yra į kad su iš buvo o ne tai kaip jo bet nuo taip per jis už dėl po arba kurie kuris labai savo dar
        ji ar
    lv: un ir ar no par uz ka kas bija tas gan pēc kā arī vai pie bet ne tika viņš līdz lai ko tā savu kurš vēl
    nl: de van het een en in is dat op te zijn voor met die niet aan er om ook als bij was werd wordt naar heeft
        uit door maar of tot deze zich nog hij over haar zij kan meer hun dan worden geen wel
    no: når annen andre av opp hvor blir dette mye noen være hvis hadde kunne deres og i det er på som en til
        for at med de den ikke har et var fra han seg om ble men også kan etter jeg eller mot ved vi
    pl: w i na z się do nie jest to że o od po jak za dla przez a oraz był który jego są tym ma przy ze jako
        tego ale czy
    pt: de a o que e do da em um para é com não uma os no se na por mais as dos como mas foi ao ele das tem à
        seu sua ou ser quando muito há nos já está eu também só pelo pela até isso ela são entre
    ro: de în și a la cu o din care pe nu că este un al pentru mai ca sunt fost prin dar au ce sau după se lui
        fi cel sa
    sk: a v sa na je že s z do o to aj ako pre za by ale sú ktorý ktorá bol bolo po od podľa pri alebo jeho tiež
        vo k
    sl: in je v na se za da so z ki s pa po kot ni bil tudi od iz ali o do bi bilo ne ker ko sta med pri lahko
    sq: e të në dhe i për me një që nga është u ka si nuk së më kjo ishte por edhe janë duke ky kanë
    sv: och i att det som en på är av för med den till de inte om ett har han var från sig vid men kan efter
        också eller när så hade blev hon över
    tr: ve bir bu da de için ile olarak çok daha gibi olan en ne kadar sonra ise olduğu ama var o değil her ya
        mi
    vi: và của là có trong cho được các với một không những người đã này khi đến từ cũng tại như về năm ra để ở
        nhiều
    be: і у на з што не ў як да па ад за гэта але для ён яго ці быў якія таксама пры яна
    bg: и на в от за се да е с по не са че като към които или до при която през след бил също който беше
    kk: және мен бұл бір үшін болып деп бар да де болды ол осы кейін жылы туралы
    mk: и на во од за се да е со не што како по до но кој која биле овој таа беше бил исто
    ru: и в на с не что по как из к для он от это за то его но а у все так о же или был до при также она бы
        которые
    sr: и у је на се да за су од са који а о не као из до би што или али која по ће није био само
    uk: і в на з що не до у як та за від для по це його він але про є або був який також вона при
    ar: في من على إلى أن التي الذي هذا هذه عن مع كان ما لا بعد كما أو قد بين وقد كل ثم
    fa: و در به از که این را با است برای آن یک های می خود تا کرد بر هم نیز شده بود
    ur: کے کی میں ہے کا اور سے کو ہیں یہ نے پر اس ایک کہ بھی تھا نہیں جو تھے
    hi: के है में की से और का को पर यह हैं ने एक कि भी था इस हो तो नहीं लिए जो
    mr: आहे आणि या हे च्या ते होते एक तर नाही म्हणून होता त्या असे केले व
    ne: छ र को मा लाई पनि यो हो ले छन् भने एक गर्न थियो तर भएको
""")
# Letters that distinguish languages of one script; each counts like a word.
_LETTERS = _table("""
    cs: řěů
    da: æøå
    de: ßäöü
    eo: ĉĝĥĵŝŭ
    es: ñ¿¡
    et: õäöü
    fi: äö
    fr: çœêèùà
    hr: đćčšž
    hu: őű
    is: þð
    it: àèìòù
    lt: ėųįūž
    lv: āēīūķļņģ
    no: æøå
    pl: łąęśżźćń
    pt: ãõç
    ro: ăâîșțşţ
    sk: ľĺŕôčšž
    sl: čšž
    sq: ëç
    sv: åäö
    tr: ğışç
    vi: ơưđạảấầậếềệịọốồộớờợụủứừự
    be: ўі
    bg: ъщ
    kk: әңғқұүһі
    mk: ќѓѕј
    ru: ыэё
    sr: ђћјљњџ
    uk: їєґі
    fa: پچژگیک
    ur: ٹڈڑںےہ
    ar: ةىيكأإ
""")
# First and last code point, script. Scripts of one language are named after it.
_SCRIPTS = (
    (0x41, 0x5A, "Latin"), (0x61, 0x7A, "Latin"), (0xAA, 0x24F, "Latin"), (0x370, 0x3FF, "el"),
    (0x400, 0x52F, "Cyrillic"), (0x531, 0x58A, "hy"), (0x591, 0x5F4, "he"), (0x600, 0x77F, "Arabic"),
    (0x900, 0x97F, "Devanagari"), (0x980, 0x9FF, "bn"), (0xA00, 0xA7F, "pa"), (0xA80, 0xAFF, "gu"),
    (0xB00, 0xB7F, "or"), (0xB80, 0xBFF, "ta"), (0xC00, 0xC7F, "te"), (0xC80, 0xCFF, "kn"), (0xD00, 0xD7F, "ml"),
    (0xD80, 0xDFF, "si"), (0xE00, 0xE7F, "th"), (0xE80, 0xEFF, "lo"), (0xF00, 0xFFF, "bo"), (0x1000, 0x109F, "my"),
    (0x10A0, 0x10FF, "ka"), (0x1100, 0x11FF, "ko"), (0x1200, 0x139F, "am"), (0x1780, 0x17FF, "km"),
    (0x1E00, 0x1EFF, "Latin"), (0x1F00, 0x1FFF, "el"), (0x3041, 0x30FF, "ja"), (0x3400, 0x4DBF, "zh"),
    (0x4E00, 0x9FFF, "zh"), (0xAC00, 0xD7AF, "ko"), (0xF900, 0xFAFF, "zh"), (0xFB50, 0xFDFF, "Arabic"),
    (0x20000, 0x3FFFF, "zh"),
)  # fmt: skip
_LANGUAGES_OF_SCRIPT = {
    "Cyrillic": ("be", "bg", "kk", "mk", "ru", "sr", "uk"),
    "Arabic": ("ar", "fa", "ur"),
    "Devanagari": ("hi", "mr", "ne"),
}
_WORD_BOUNDARY = re.compile(r"[\s'’]+")
_PUNCTUATION = '.,;:!?…–—-·"“”„‚‘«»()[]{}<>*/\\|¿¡।،؛؟'
LANGUAGES = frozenset(_WORDS) | frozenset(name for *_, name in _SCRIPTS if name.islower())


def identify_language(text: str) -> tuple[str, float]:
    """The language's code (ISO 639-1) and a confidence in [0, 1]; ("", 0.0) if it cannot be told.

    >>> identify_language("The cat sat on the mat and it was not amused by what they had done.")[0]
    'en'
    >>> [identify_language(text)[0] for text in ("Der Hund ist nicht mit dem Mann gegangen.", "鉄塔は高い。")]
    ['de', 'ja']
    """
    text = text[:_MAX_CHARACTERS]
    script, share = _script(text)
    if script not in _LANGUAGES_OF_SCRIPT and script != "Latin":
        return script, round(share, 3)
    lower = text.lower()
    words = [
        word for part in _WORD_BOUNDARY.split(lower) if (word := part.strip(_PUNCTUATION)) and not word.isdecimal()
    ]
    evidence: list[tuple[tuple[str, ...], float]] = []  # languages, and the weight that each of them gets
    by_word = _languages_by_word(script)
    for word, times in Counter(words).items():
        if word in by_word:
            evidence.append((by_word[word], times / len(by_word[word])))
    for letter, languages in _languages_by_letter(script).items():
        if letter in lower:
            evidence.append((languages, lower.count(letter) / len(languages)))
    scores = dict.fromkeys(_LANGUAGES_OF_SCRIPT.get(script) or _LATIN, 0.0)
    for languages, weight in evidence:
        for language in languages:
            scores[language] += weight
    best, second = sorted(scores, key=lambda language: (-scores[language], language))[:2]
    # In prose every third word is a common one; where far fewer are known, the language is not listed here.
    if not words or scores[best] < max(0.06 * len(words), 0.01):
        return "", 0.0
    # Evidence that both languages share says nothing about which of them it is.
    best_only = sum(weight for languages, weight in evidence if best in languages and second not in languages)
    second_only = sum(weight for languages, weight in evidence if second in languages and best not in languages)
    return best, round(share * best_only**2 / (best_only**2 + second_only**2), 3) if best_only else 0.5


_LATIN = tuple(sorted(set(_WORDS) - {code for codes in _LANGUAGES_OF_SCRIPT.values() for code in codes}))


@cache
def _languages_by_word(script: str) -> dict[str, tuple[str, ...]]:
    """For each common word of a script's languages the languages that have it."""
    codes = _LANGUAGES_OF_SCRIPT.get(script) or _LATIN
    by_word: dict[str, list[str]] = {}
    for language in codes:
        for word in dict.fromkeys(_WORDS[language].split()):
            by_word.setdefault(word, []).append(language)
    return {word: tuple(languages) for word, languages in by_word.items()}


@cache
def _languages_by_letter(script: str) -> dict[str, tuple[str, ...]]:
    """For each distinguishing letter the languages that have it."""
    codes = _LANGUAGES_OF_SCRIPT.get(script) or _LATIN
    letters = dict.fromkeys("".join(_LETTERS.get(language, "") for language in codes))
    return {letter: tuple(code for code in codes if letter in _LETTERS.get(code, "")) for letter in letters}


def _script(text: str) -> tuple[str, float]:
    """The script of most letters and its share. Chinese characters with a kana for every 16 are Japanese."""
    points = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")
    starts = np.array([first for first, _, _ in _SCRIPTS])
    ends = np.array([last for _, last, _ in _SCRIPTS])
    ranges = np.searchsorted(starts, points, side="right") - 1
    inside = (ranges >= 0) & (points <= ends[ranges])
    counts = np.bincount(ranges[inside], minlength=len(_SCRIPTS))
    totals: dict[str, int] = {}
    for (_, _, name), count in zip(_SCRIPTS, counts.tolist(), strict=True):
        totals[name] = totals.get(name, 0) + count
    if totals["ja"] * 16 >= totals["zh"] and totals["ja"]:
        totals["ja"] += totals.pop("zh")
    letters = sum(totals.values())
    if not letters:
        return "", 0.0
    best = max(sorted(totals), key=lambda name: totals[name])
    return best, totals[best] / letters
