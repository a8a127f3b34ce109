"""How written numbers are said, in English and Mandarin, for aligners, which know what is said.

What a number is (a year, an amount, a row of digits) cannot be seen from it alone, so there may be
several readings; the likeliest comes first.
"""

from __future__ import annotations

import re

LANGUAGES = ("en", "zh")

_ONES = [
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten",
    "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen",
    "nineteen",
]  # fmt: skip
_TENS = ["", "", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
_SCALES = ((10**12, "trillion"), (10**9, "billion"), (10**6, "million"), (1000, "thousand"))
_ORDINALS = {
    "one": "first", "two": "second", "three": "third", "five": "fifth", "eight": "eighth",
    "nine": "ninth", "twelve": "twelfth",
}  # fmt: skip
_SIGNS = {"$": "dollars", "€": "euros", "£": "pounds", "¥": "yen", "%": "percent"}
_ONE_OF = {"dollars": "dollar", "euros": "euro", "pounds": "pound"}
_AROUND = "\"'“”‘’«»()[]{}<>.,;:!?¿¡…*_-–—"
_NUMBER = re.compile(
    r"(?P<minus>[-−])?(?P<sign>[$€£¥])?(?P<whole>\d{1,3}(?:,\d{3})+|\d+)(?:\.(?P<part>\d+))?"
    r"(?P<ending>st|nd|rd|th|s|'s|%|[$€£¥])?"
)
_DIGITS_MOST = 15  # of a number that is said as one
_HAN = "零一二三四五六七八九"
_HAN_SCALES = ("", "万", "亿", "万亿")


def readings(word: str, language: str) -> tuple[str, ...]:
    """What a written word with numbers may be said as; empty where that is not known.

    Punctuation around the word has no part in it. Numbers with ``-``, ``/`` or ``:`` between them
    are said one after another.
    """
    bare = word.strip(_AROUND.replace("-", ""))
    if not re.search(r"\d", bare) or (not bare.isascii() and not set(bare) & set("€£¥−")):
        return ()
    if language == "zh":
        return _mandarin(bare)
    if language != "en":
        return ()
    pieces = [part for part in re.split(r"(?<=\w)[-–/:](?=\w)", bare) if part]
    options = [_piece(part.strip("-")) if part is not bare else _piece(part) for part in pieces]
    if any(not option for option in options):
        return ()
    count = max(map(len, options))
    found = [" ".join(option[min(n, len(option) - 1)] for option in options) for n in range(count)]
    return tuple(dict.fromkeys(found))


def _piece(text: str) -> tuple[str, ...]:
    """Readings of a number, or a word of letters and digits such as ``B2B``, or ``A4``."""
    match = _NUMBER.fullmatch(text)
    if match is None:
        return _mixed(text)
    digits = match["whole"].replace(",", "")
    grouped = "," in match["whole"]
    before = "minus " if match["minus"] else ""
    unit = _SIGNS.get(match["sign"] or match["ending"] or "", "")
    ending = match["ending"] or ""
    if ending in ("st", "nd", "rd", "th", "s", "'s"):
        bent = _plural if ending.endswith("s") else _ordinal
        said = [one for one in _whole(digits, grouped) if one != _one_by_one(digits)]
        return tuple(bent(one) for one in said[:2] or [_one_by_one(digits)])
    if match["part"] is not None:
        return _decimal(digits, match["part"], before, unit)
    if unit:
        unit = _ONE_OF.get(unit, unit) if digits == "1" else unit
        return (f"{before}{_cardinal(int(digits))} {unit}",) if _is_one(digits) else ()
    return tuple(before + said for said in _whole(digits, grouped))


def _is_one(digits: str) -> bool:
    return len(digits) <= _DIGITS_MOST


def _decimal(digits: str, part: str, before: str, unit: str) -> tuple[str, ...]:
    if not _is_one(digits):
        return ()
    whole = _cardinal(int(digits))
    point = f"{before}{whole} point {_one_by_one(part)} {unit}".strip()
    if unit in _ONE_OF and len(part) == 2:
        money = f"{before}{whole} {unit}"
        cents = _cardinal(int(part))
        return (f"{money} {cents}", f"{money} and {cents} cents", f"{before}{whole} {cents}", point)
    return (point,)


def _mixed(text: str) -> tuple[str, ...]:
    parts = re.findall(r"\d+|[^\W\d_]+", text)
    if "".join(parts) != text or len(parts) > 8:
        return ()
    said = [_whole(part, False)[0] if part.isdecimal() else part for part in parts]
    return (" ".join(said),)


def _whole(digits: str, grouped: bool) -> tuple[str, ...]:
    """Readings of digits: a year, a number, one digit after another."""
    single = (_one_by_one(digits), _one_by_one(digits).replace("zero", "oh"))
    if (len(digits) > 1 and digits[0] == "0") or not _is_one(digits):
        return single
    number = int(digits)
    plain = _cardinal(number)
    found = [plain]
    if not grouped and len(digits) == 4 and number % 1000 >= 100 and number % 100:
        high, low = divmod(number, 100)
        rest = _cardinal(low) if low > 9 else f"oh {_cardinal(low)}"
        found.insert(0 if 1100 <= number < 2100 else 1, f"{_cardinal(high)} {rest}")
    elif not grouped and len(digits) == 4 and number % 1000 and not number % 100:
        found.insert(0, f"{_cardinal(number // 100)} hundred")
    elif not grouped and 2010 <= number < 2100:
        found.insert(0, f"twenty {_cardinal(number - 2000)}")
    if " hundred " in plain or re.search(r"thousand \w+$", plain):
        joint = re.sub(r"(hundred|thousand) (?=[\w-]+( [a-z]+)?$)", r"\1 and ", plain)
        found.append(joint)
    if plain.startswith("one "):
        found.append("a " + plain.removeprefix("one "))
    if len(digits) > 1:
        found += single
    return tuple(dict.fromkeys(found))


def _one_by_one(digits: str) -> str:
    return " ".join(_ONES[int(digit)] for digit in digits)


def _cardinal(number: int) -> str:
    if number < 20:
        return _ONES[number]
    if number < 100:
        tens, ones = divmod(number, 10)
        return _TENS[tens] + (f" {_ONES[ones]}" if ones else "")
    if number < 1000:
        hundreds, rest = divmod(number, 100)
        return f"{_ONES[hundreds]} hundred" + (f" {_cardinal(rest)}" if rest else "")
    scale, name = next((s, n) for s, n in _SCALES if number >= s)
    high, rest = divmod(number, scale)
    return f"{_cardinal(high)} {name}" + (f" {_cardinal(rest)}" if rest else "")


def _ordinal(said: str) -> str:
    *first, last = said.split(" ")
    if last.endswith("y"):
        last = f"{last[:-1]}ieth"
    else:
        last = _ORDINALS.get(last, f"{last}th")
    return " ".join([*first, last])


def _plural(said: str) -> str:
    *first, last = said.split(" ")
    last = f"{last[:-1]}ies" if last.endswith("y") else f"{last}{'es' if last == 'six' else 's'}"
    return " ".join([*first, last])


def _mandarin(text: str) -> tuple[str, ...]:
    match = _NUMBER.fullmatch(text)
    if match is None or match["ending"] not in (None, "%") or match["sign"]:
        digits = re.sub(r"[-/:.]", "", text)
        return (_han_digits(digits),) if digits.isdecimal() and digits.isascii() else ()
    digits = match["whole"].replace(",", "")
    single = _han_digits(digits)
    if not _is_one(digits) or (len(digits) > 1 and digits[0] == "0"):
        return (single,)
    said = _han(int(digits))
    if match["part"] is not None:
        said += "点" + _han_digits(match["part"])
    before = ("负" if match["minus"] else "") + ("百分之" if match["ending"] == "%" else "")
    found = [before + said]
    if not before and match["part"] is None and len(digits) > 1:
        # years and long numbers are said digit by digit
        found.insert(0 if len(digits) == 4 or len(digits) > 6 else 1, single)
        found.append(single.replace("一", "幺"))
    return tuple(dict.fromkeys(found))


def _han_digits(digits: str) -> str:
    return "".join(_HAN[int(digit)] for digit in digits)


def _han(number: int) -> str:
    if number == 0:
        return _HAN[0]
    groups = []
    while number:
        number, low = divmod(number, 10_000)
        groups.append(low)
    said = ""
    for place in range(len(groups) - 1, -1, -1):
        group = groups[place]
        if group:
            gap = said and (group < 1000 or groups[place + 1] == 0)
            said += ("零" if gap else "") + _han_group(group) + _HAN_SCALES[place]
    return said[1:] if said.startswith("一十") else said


def _han_group(group: int) -> str:
    said, gap = "", False
    for scale, name in ((1000, "千"), (100, "百"), (10, "十"), (1, "")):
        digit, group = divmod(group, scale)
        if digit:
            said += ("零" if gap and said else "") + _HAN[digit] + name
        gap = digit == 0
    return said
