"""The languages of Whisper, in the order of their tokens."""

from __future__ import annotations

from mynah.errors import ConfigError, nearest

_TABLE = """
en english zh chinese de german es spanish ru russian ko korean fr french ja japanese pt portuguese
tr turkish pl polish ca catalan nl dutch ar arabic sv swedish it italian id indonesian hi hindi
fi finnish vi vietnamese he hebrew uk ukrainian el greek ms malay cs czech ro romanian da danish
hu hungarian ta tamil no norwegian th thai ur urdu hr croatian bg bulgarian lt lithuanian la latin
mi maori ml malayalam cy welsh sk slovak te telugu fa persian lv latvian bn bengali sr serbian
az azerbaijani sl slovenian kn kannada et estonian mk macedonian br breton eu basque is icelandic
hy armenian ne nepali mn mongolian bs bosnian kk kazakh sq albanian sw swahili gl galician
mr marathi pa punjabi si sinhala km khmer sn shona yo yoruba so somali af afrikaans oc occitan
ka georgian be belarusian tg tajik sd sindhi gu gujarati am amharic yi yiddish lo lao uz uzbek
fo faroese ht haitian_creole ps pashto tk turkmen nn nynorsk mt maltese sa sanskrit
lb luxembourgish my myanmar bo tibetan tl tagalog mg malagasy as assamese tt tatar haw hawaiian
ln lingala ha hausa ba bashkir jw javanese su sundanese yue cantonese
"""

_WORDS = _TABLE.split()

# code: English name; the last came with the third large model
LANGUAGES = {
    code: name.replace("_", " ") for code, name in zip(_WORDS[::2], _WORDS[1::2], strict=True)
}
_OTHER_NAMES = {
    "burmese": "my",
    "castilian": "es",
    "flemish": "nl",
    "haitian": "ht",
    "jv": "jw",
    "letzeburgesch": "lb",
    "mandarin": "zh",
    "moldavian": "ro",
    "moldovan": "ro",
    "panjabi": "pa",
    "pushto": "ps",
    "sinhalese": "si",
    "valencian": "ca",
}
# written without spaces between words
WITHOUT_SPACES = frozenset({"zh", "ja", "th", "lo", "my", "yue"})


def language_code(name: str) -> str:
    """The code of a language that is given by its code or English name.

    Raises:
        ConfigError: Whisper does not know it.
    """
    wanted = name.strip().lower()
    if wanted in LANGUAGES:
        return wanted
    by_name = {**{name: code for code, name in LANGUAGES.items()}, **_OTHER_NAMES}
    if wanted not in by_name:
        raise ConfigError(f"language: {name!r} is not known{nearest(wanted, by_name)}")
    return by_name[wanted]
