"""Lookup tables for wikitext: redirect words, language codes, names of languages, signs, currencies."""

from stoker.pipelines.wikipedia.wikitext.tags import word_set

# The word for "redirect" in the languages of the larger wikis. In others, a word in capitals after # at the very
# beginning of a page, followed by a link, counts as one.
REDIRECT_WORDS = word_set("""
    aanstuur birrideratze deorreratu doorverwijzing lencong lìmpɔ̂ng ohjaus omdirigering omdirigera przekieruj patrz
    preusmeritev preusmjeri redirección redireccion redirecionamento redirect redirection rinvia rinvio
    suuna tilvísun uudelleenohjaus weiterleitung yönlendirme yönlendir đổi átirányítás αναkατευθυνση ανακατευθυνση
    виклик перанакіраванне перенаправление перенапр пренасочване преусмери айдау הפניה تحويل تغییر_مسیر تغییرمسیر
    अनुप्रेषित पुनर्प्रेषित เปลี่ยนทาง 넘겨주기 転送 リダイレクト 重定向 重新導向
""")
# Language codes of wikis: [[de:Zinn]] is an interlanguage link, which the page's text does not show.
CODES = word_set("""
    aa ab ace ady af ak als alt am ami an ang ar arc ary arz as ast atj av avk awa ay az azb ba ban bar bat-smg
    bcl be be-tarask be-x-old bg bh bi bjn blk bm bn bo bpy br bs bug bxr ca cbk-zam cdo ce ceb ch cho chr chy
    ckb co cr crh cs csb cu cv cy da dag de din diq dsb dty dv dz ee el eml en eo es et eu ext fa ff fi fiu-vro
    fj fo fr frp frr fur fy ga gag gan gcr gd gl glk gn gom gor got gu guw gv ha hak haw he hi hif ho hr hsb ht
    hu hy hyw hz ia id ie ig ii ik ilo inh io is it iu ja jam jbo jv ka kaa kab kbd kbp kcg kg ki kj kk kl km kn
    ko koi kr krc ks ksh ku kv kw ky la lad lb lbe lez lfn lg li lij lld lmo ln lo lrc lt ltg lv mad mai map-bms
    mdf mg mh mhr mi min mk ml mn mni mnw mo mr mrj ms mt mus mwl my myv mzn na nah nap nds nds-nl ne new ng nia
    nl nn no nov nqo nrm nso nv ny oc olo om or os pa pag pam pap pcd pcm pdc pfl pi pih pl pms pnb pnt ps pt
    pwn qu rm rmy rn ro roa-rup roa-tara ru rue rw sa sah sat sc scn sco sd se sg sh shi shn si simple sk skr sl
    sm smn sn so sq sr srn ss st stq su sv sw szl szy ta tay tcy te tet tg th ti tk tl tn to tpi tr trv ts tt
    tum tw ty tyv udm ug uk ur uz ve vec vep vi vls vo wa war wo wuu xal xh xmf yi yo za zea zh zh-classical
    zh-min-nan zh-yue zu
""")
# English names of languages by code, as English wikis show them before a foreign word.
LANGUAGES = {
    "ar": "Arabic", "az": "Azerbaijani", "be": "Belarusian", "bg": "Bulgarian", "bn": "Bengali", "ca": "Catalan",
    "cs": "Czech", "cy": "Welsh", "da": "Danish", "de": "German", "el": "Greek", "en": "English", "eo": "Esperanto",
    "es": "Spanish", "et": "Estonian", "eu": "Basque", "fa": "Persian", "fi": "Finnish", "fr": "French",
    "ga": "Irish", "gl": "Galician", "grc": "Ancient Greek", "he": "Hebrew", "hi": "Hindi", "hr": "Croatian",
    "hu": "Hungarian", "hy": "Armenian", "id": "Indonesian", "is": "Icelandic", "it": "Italian", "ja": "Japanese",
    "ka": "Georgian", "kk": "Kazakh", "ko": "Korean", "la": "Latin", "lt": "Lithuanian", "lv": "Latvian",
    "mk": "Macedonian", "mn": "Mongolian", "ms": "Malay", "nl": "Dutch", "no": "Norwegian", "pl": "Polish",
    "pt": "Portuguese", "ro": "Romanian", "ru": "Russian", "rus": "Russian", "sa": "Sanskrit", "sk": "Slovak",
    "sl": "Slovene", "sq": "Albanian", "sr": "Serbian", "sv": "Swedish", "ta": "Tamil", "th": "Thai", "tr": "Turkish",
    "uk": "Ukrainian", "ur": "Urdu", "uz": "Uzbek", "vi": "Vietnamese", "yi": "Yiddish", "zh": "Chinese",
}  # fmt: skip
# Templates that stand for one sign, and the sign; markup as entities.
SIGNS = {
    "!": "&#124;", "!!": "&#124;&#124;", "pipe": "&#124;", "=": "&#61;", "'": "&#39;", "'s": "&#39;s",
    "''": "&#8243;", "(": "&#123;", ")": "&#125;", "((": "&#123;&#123;", "))": "&#125;&#125;", "*": "*", "·": " ·",
    "•": " •", "dot": " ·", "middot": " ·", "bullet": " •", "bull": " •", "–": "–", "ndash": "–", "en dash": "–",
    "snd": " – ", "spnd": " – ", "spaced ndash": " – ", "spaced en dash": " – ", "—": "—", "mdash": "—",
    "endash": "–", "nbndash": "–", "--": "–", "spacedendash": " – ", "spaced endash": " – ",
    "snds": " – ", "spndsp": " – ", "emdash": "—", "em dash": "—", "---": "—", "nbhyph": "‑",
    "nbhyphen": "‑", "hyphen": "-", "zwsp": "", "ensp": " ",
    "emsp": " ", "quad": " ", "nbs": " ", "okina": "ʻ", "hamza": "ʾ", "ayin": "ʿ", "asterisk": "*", "hash": "#",
    "number sign": "#", "colon": ":", "sect": "§", "section sign": "§", "pound sign": "£", "\\": " / ",
    "·w": " ·", "•w": " •", "yen": "¥", "increase": "▲", "decrease": "▼", "steady": "▬", "check": "✓", "tick": "✓",
    "n°": "nᵒ", "n°s": "nᵒˢ", "av jc": "av. J.-C.", "ap jc": "apr. J.-C.", "av. j.-c.": "av. J.-C.", "mme": "Mᵐᵉ",
    "mlle": "Mˡˡᵉ", "m.": "M.", "ier": "Iᵉʳ", "ire": "Iʳᵉ", "1re": "1re", "2e": "2e", "a. c.": "a. C.",
    "d. c.": "d. C.", "spaced mdash": " — ", "nbsp": " ", "space": " ", "sp": " ", "thinsp": " ", "hair space": " ",
    "pi": "π", "prime": "′", "deg": "°", "degree": "°", "dagger": "†", "wbr": "", "shy": "", "zwj": "",
    "zwnj": "\u200c", "euro": "€", "+": "+", "minus": "−", "times": "×", "1er": "1er",
}  # fmt: skip
# The sign of a currency by the name of its template.
CURRENCIES = {
    "us$": "US$", "usd": "US$", "$": "$", "€": "€", "eur": "€", "euro": "€", "£": "£", "gbp": "£", "inr": "₹",
    "indian rupee": "₹", "¥": "¥", "jpy": "¥", "cny": "CN¥", "aud": "A$", "au$": "A$", "a$": "A$", "cad": "C$",
    "ca$": "C$", "nz$": "NZ$", "hk$": "HK$", "₹": "₹", "₤": "£", "chf": "CHF ", "rub": "₽", "krw": "₩", "php": "₱",
    "₱": "₱",
}  # fmt: skip
