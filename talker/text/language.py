"""Recognises texts that are not English: by the script, or by the commonest words of the language."""

import re
import unicodedata

from talker.errors import UserError

_SCRIPTS = {
    "CJK": "Chinese or Japanese", "HIRAGANA": "Japanese", "KATAKANA": "Japanese", "HANGUL": "Korean",
    "THAI": "Thai", "DEVANAGARI": "Devanagari",
}  # fmt: skip
# Common words of languages in the Latin alphabet. None of them is an English word.
_WORDS = {
    "French": "le la les des une et est sont dans avec pour que qui vous nous je il elle ils ne pas sur mais plus tout tous "
    "cette ces aux du bonjour merci être avoir fait très bien où c'est j'ai n'est d'un d'une l'on qu'il s'il suis êtes sommes "
    "ont avez mon mes ton sa ses leur leurs notre votre aussi comme quand si parce alors voici voilà monde jour oui",
    "German": "der das und ist nicht ich sie wir ihr ein eine einen einem einer mit auf für von zu dem den des auch sich wie "
    "aber oder wenn dass sind war haben hat hatte wird werden kann noch nur nach bei über mein meine dein guten tag danke bitte "
    "heute morgen sehr gut wo warum schon hier dann immer nichts etwas mehr keine kein uns ihm ihn zum zur vom beim",
    "Spanish": "el los las una y es son en con por para que no se lo su sus más pero como está estoy muy hola gracias qué cómo "
    "también yo tú usted nosotros ellos hay fue ser tiene tengo mi del al este esta eso donde cuando porque todo todos buenos "
    "buenas días hoy bien mucho aquí ahora sí señor",
    "Italian": "il gli lo una è sono con per che non di della del delle dei nel nella ma anche come questo questa ciao grazie "
    "buongiorno io tu lui lei noi voi loro ho hai ha molto più tutto tutti perché quando dove sei siamo mio mia suo sua oggi "
    "bene dal alla alle cosa essere fatto",
    "Portuguese": "os uma e é são em com por para que não se mais mas como está muito olá obrigado obrigada você eu ele ela nós "
    "eles do da dos das no na nos nas ao um foi ser tem tenho meu minha seu sua isso isto quando onde porque também bom dia hoje "
    "bem aqui agora sim",
    "Dutch": "het een en zijn niet ik je jij hij zij wij van met voor op dat die deze maar ook als naar bij hebben heeft wordt "
    "kan nog wel geen mijn jouw goedemorgen hallo dank u waar waarom heel goed vandaag hier dan altijd iets meer uit over aan",
    "Swedish": "och är inte jag du han hon vi ni det den ett en som på med för av till men också har hade kan ska från om mycket "
    "hej tack idag god morgon varför var här där nu bra",
    "Danish or Norwegian": "og er ikke jeg du han hun vi det den et en som på med for av af til men også har hadde havde kan skal "
    "fra om meget hei hej takk tak dag god morgen hvorfor hvor her der nå nu bra godt",
    "Polish": "i w na nie się jest są to że z do jak co ale czy dla tak przez był była dzień dobry dziękuję bardzo ja ty on ona "
    "my wy oni mój moja dziś tutaj gdzie dlaczego po od ich jego",
    "Czech or Slovak": "a je se na že to v s z do jak ale jsem jsou není ve pro tak byl byla dobrý den děkuji velmi já ty on ona "
    "my můj moje dnes tady kde proč som nie veľmi",
    "Turkish": "ve bir bu da de için çok ne var yok değil ben sen biz siz ile gibi daha ama merhaba teşekkür ederim nasıl nerede "
    "bugün iyi günler evet hayır olan olarak",
    "Romanian": "și este nu la cu pe de din un o care sunt mai ce dar eu tu el ea noi bună ziua mulțumesc foarte astăzi unde",
    "Hungarian": "az és nem van egy hogy ez is én te ő mi ti meg de vagy jó napot köszönöm nagyon ma hol miért",
    "Finnish": "ja on ei se että hän olen minä sinä me te he tämä mutta myös kun hyvää päivää kiitos paljon tänään missä miksi",
    "Indonesian or Malay": "yang dan di ini itu dengan untuk tidak saya kamu dia kami mereka ada akan dari ke pada juga selamat "
    "pagi terima kasih apa kabar sudah bisa",
    "Vietnamese": "và là của không có tôi bạn anh chị này đó được cho với một những xin chào cảm ơn rất",
}  # fmt: skip
# Particles of names ("Vincent van Gogh"): they do not count before a capital letter.
_PARTICLES = frozenset(
    [
        "de",
        "la",
        "las",
        "los",
        "le",
        "el",
        "du",
        "des",
        "del",
        "di",
        "da",
        "dos",
        "das",
        "der",
        "den",
        "dem",
        "van",
        "von",
        "zu",
        "y",
        "e",
        "i",
        "het",
    ]
)
_ENGLISH = frozenset(
    [
        "the",
        "a",
        "an",
        "of",
        "and",
        "to",
        "is",
        "are",
        "was",
        "were",
        "be",
        "been",
        "am",
        "i",
        "you",
        "he",
        "she",
        "it",
        "we",
        "they",
        "me",
        "him",
        "us",
        "them",
        "my",
        "your",
        "his",
        "her",
        "its",
        "our",
        "their",
        "this",
        "that",
        "these",
        "those",
        "in",
        "on",
        "at",
        "by",
        "for",
        "with",
        "from",
        "as",
        "into",
        "about",
        "after",
        "before",
        "over",
        "under",
        "not",
        "no",
        "yes",
        "or",
        "but",
        "if",
        "so",
        "then",
        "than",
        "there",
        "here",
        "what",
        "who",
        "when",
        "where",
        "why",
        "how",
        "which",
        "do",
        "does",
        "did",
        "done",
        "have",
        "has",
        "had",
        "will",
        "would",
        "can",
        "could",
        "should",
        "may",
        "might",
        "must",
        "shall",
        "let",
        "up",
        "down",
        "out",
        "off",
        "all",
        "any",
        "some",
        "each",
        "every",
        "one",
        "two",
        "many",
        "much",
        "more",
        "most",
        "very",
        "just",
        "only",
        "also",
        "now",
        "say",
        "said",
        "says",
        "go",
        "goes",
        "went",
        "come",
        "came",
        "get",
        "got",
        "make",
        "made",
        "know",
        "like",
        "love",
        "see",
        "saw",
        "look",
        "take",
        "good",
        "new",
        "old",
        "first",
        "last",
        "man",
        "men",
        "say",
        "tell",
        "told",
        "think",
        "want",
        "please",
        "thank",
        "thanks",
        "hello",
        "hi",
        "hey",
        "day",
        "today",
        "time",
        "people",
        "never",
        "always",
        "again",
        "name",
        "called",
        "read",
    ]
)
_SHARED = frozenset(
    [
        "i",
        "a",
        "no",
        "me",
        "in",
        "on",
        "an",
        "so",
        "to",
        "he",
        "is",
        "was",
        "do",
        "we",
        "will",
        "also",
        "my",
        "am",
        "has",
        "his",
        "and",
        "or",
        "de",
        "for",
    ]
)


def check_english(text: str) -> None:
    """Check that a text is in English, as far as that can be seen.

    A text of one or two words in the Latin alphabet is always accepted, and so is English with names or
    quotations of another language.

    Raises:
        UserError: the text is in another script or language, which the message names.
    """
    check_script(text)
    language = latin_language(text)
    if language is not None:
        raise UserError(
            f"the text seems to be {language}, but only English can be spoken: translate it, "
            "or give --force (in Python: force=True) to read it by English rules"
        )


def check_script(text: str) -> None:
    """Check that every letter is in the Latin alphabet. Single Greek letters are symbols and have names.

    Raises:
        UserError: a letter is in another script, which the message names.
    """
    for match in re.finditer(r"[^\W\d_]+", text):
        script = _foreign_script(match[0])
        if script is not None:
            raise UserError(
                f"the text has {script} letters ({match[0][:20]!r}), but only English text in the Latin alphabet can "
                "be spoken: translate it, or give --force (in Python: force=True) to leave them out"
            )


def _foreign_script(word: str) -> str | None:
    decomposed = unicodedata.normalize("NFKD", word)
    foreign = [char for char in decomposed if not char.isascii() and unicodedata.category(char)[0] == "L"]
    for char in foreign:
        script = unicodedata.name(char, "UNKNOWN").split()[0].split("-")[0]
        if script in ("LATIN", "MODIFIER", "FEMININE", "MASCULINE") or (
            script == "GREEK" and len(foreign) == 1
        ):
            continue
        return _SCRIPTS.get(script, script.title())
    return None


def latin_language(text: str) -> str | None:
    """The language of a text in the Latin alphabet, or None if it may be English.

    A language is named if the text has at least two of its common words, and more of them than of the common
    English ones.
    """
    text = unicodedata.normalize("NFC", text).replace("’", "'")
    if text.isupper():
        text = text.lower()
    words = list(re.finditer(r"[^\W\d_]+(?:'[^\W\d_]+)*", text))
    if len(words) < 3:
        return None
    counted: list[str] = []
    for index, match in enumerate(words):
        following = words[index + 1][0] if index + 1 < len(words) else ""
        starts = index == 0 or re.search(r"[.?!:¿¡\"\n]\W*$", text[words[index - 1].end() : match.start()])
        name = match[0][0].isupper() and not starts  # "La Paz"
        particle = match[0].lower() in _PARTICLES and following[:1].isupper() and not following.isupper()
        if not name and not particle:
            counted.append(match[0].lower())
    english = sum(word in _ENGLISH and word not in _SHARED for word in counted)
    scores = {
        language: len([word for word in counted if word in known]) for language, known in _LISTS.items()
    }
    language = max(scores, key=lambda name: scores[name])
    score = scores[language]
    distinct = len({word for word in counted if word in _LISTS[language] and word not in _SHARED})
    return language if distinct >= 2 and score > 1.5 * english and score >= 0.15 * len(words) else None


_LISTS = {language: frozenset(words.split()) for language, words in _WORDS.items()}
