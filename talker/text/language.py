"""Recognises texts that are not English: by the script, or by the commonest words of the language."""

import re
import unicodedata

from talker.errors import UserError
from talker.text.phonemes import in_lexicon

_SCRIPTS = {
    "CJK": "Chinese or Japanese", "HIRAGANA": "Japanese", "KATAKANA": "Japanese", "HANGUL": "Korean",
    "THAI": "Thai", "DEVANAGARI": "Devanagari",
}  # fmt: skip


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_LONGEST_WORD = 40  # letters; longer ones show no language


# Common words of languages in the Latin alphabet. Those that English has, too, are in _SHARED.
_WORDS = {
    "French": _words(
        "peut fais suis ça quoi chez sous sans deux trois bonne soir nuit ici là au pour le la les des "
        "une et est sont dans avec que qui vous nous je il elle ils ne pas sur mais plus tout tous cette "
        "ces aux du bonjour merci être avoir fait très bien où c'est j'ai n'est d'un d'une l'on qu'il "
        "s'il êtes sommes ont avez mon mes ton sa ses leur leurs notre votre aussi comme quand si parce "
        "alors voici voilà monde jour oui"
    ),
    "German": _words(
        "im ins aus vor bis diese dieser dies geht ihnen ihr unser jetzt viel schläft kommt machen gehen "
        "der das und ist nicht ich sie wir ein eine einen einem einer mit auf für von zu dem den des auch "
        "sich wie aber oder wenn dass sind war haben hat hatte wird werden kann noch nur nach bei über "
        "mein meine dein guten tag danke bitte heute morgen sehr gut wo warum schon hier dann immer "
        "nichts etwas mehr keine kein uns ihm ihn zum zur vom beim"
    ),
    "Spanish": _words(
        "quiero puedo hace hacer comer ir vamos bueno buena noche tarde noches dónde cuándo sobre entre "
        "sin el los las una y es son en con por para que no se lo su sus más pero como está estoy muy "
        "hola gracias qué cómo también yo tú usted nosotros ellos hay fue ser tiene tengo mi del al este "
        "esta eso donde cuando porque todo todos buenos buenas días hoy bien mucho aquí ahora sí señor"
    ),
    "Italian": _words(
        "sul sulla sui nello ai agli degli stai sta questi quello vorrei andiamo il gli lo una è sono con "
        "per che non di della del delle dei nel nella ma anche come questo questa ciao grazie buongiorno "
        "io tu lui lei noi voi loro ho hai ha molto più tutto tutti perché quando dove sei siamo mio mia "
        "suo sua oggi bene dal alla alle cosa essere fatto"
    ),
    "Portuguese": _words(
        "quero posso fazer boa noite tarde sem sobre entre muita até os uma e é são em com por para que "
        "não se mais mas como está muito olá obrigado obrigada você eu ele ela nós eles do da dos das no "
        "na nos nas ao um foi ser tem tenho meu minha seu sua isso isto quando onde porque também bom dia "
        "hoje bem aqui agora sim"
    ),
    "Dutch": _words(
        "de zit gaat er zo wij hoe wat moet komt goede het een en zijn niet ik je jij hij zij van met "
        "voor op dat die deze maar ook als naar bij hebben heeft wordt kan nog wel geen mijn jouw "
        "goedemorgen hallo dank u waar waarom heel goed vandaag hier dan altijd iets meer uit over aan"
    ),
    "Swedish": _words(
        "och är inte jag du han hon vi ni det den ett en som på med för av till men också har hade kan "
        "ska från om mycket hej tack idag god morgon varför var här där nu bra"
    ),
    "Danish or Norwegian": _words(
        "og er ikke jeg du han hun vi det den et en som på med for av af til men også har hadde havde kan "
        "skal fra om meget hei hej takk tak dag god morgen hvorfor hvor her der nå nu bra godt"
    ),
    "Polish": _words(
        "i w na nie się jest są to że z do jak co ale czy dla tak przez był była dzień dobry dziękuję "
        "bardzo ja ty on ona my wy oni mój moja dziś tutaj gdzie dlaczego po od ich jego"
    ),
    "Czech or Slovak": _words(
        "a je se na že to v s z do jak ale jsem jsou není ve pro tak byl byla dobrý den děkuji velmi já "
        "ty on ona my můj moje dnes tady kde proč som nie veľmi"
    ),
    "Turkish": _words(
        "ve bir bu da de için çok ne var yok değil ben sen biz siz ile gibi daha ama merhaba teşekkür "
        "ederim nasıl nerede bugün iyi günler evet hayır olan olarak"
    ),
    "Romanian": _words(
        "și este nu la cu pe de din un o care sunt mai ce dar eu tu el ea noi bună ziua mulțumesc foarte "
        "astăzi unde"
    ),
    "Hungarian": _words(
        "az és nem van egy hogy ez is én te ő mi ti meg de vagy jó napot köszönöm nagyon ma hol miért"
    ),
    "Finnish": _words(
        "ja on ei se että hän olen minä sinä me te he tämä mutta myös kun hyvää päivää kiitos paljon "
        "tänään missä miksi"
    ),
    "Indonesian or Malay": _words(
        "yang dan di ini itu dengan untuk tidak saya kamu dia kami mereka ada akan dari ke pada juga "
        "selamat pagi terima kasih apa kabar sudah bisa"
    ),
    "Vietnamese": _words(
        "và là của không có tôi bạn anh chị này đó được cho với một những xin chào cảm ơn rất"
    ),
}
# Particles of names ("Vincent van Gogh"): they do not count before a capital letter.
_PARTICLES = _words("de la las los le el du des del di da dos das der den dem van von zu y e i het")
_ENGLISH = _words(
    "the a an of and to is are was were be been am i you he she it we they me him us them my your his her "
    "its our their this that these those in on at by for with from as into about after before over under "
    "not no yes or but if so then than there here what who when where why how which do does did done have "
    "has had will would can could should may might must shall let up down out off all any some each every "
    "one two many much more most very just only also now say said says go goes went come came get got "
    "make made know like love see saw look take good new old first last man men say tell told think want "
    "please thank thanks hello hi hey day today time people never always again name called read"
)
# Words with accents that English has borrowed.
_LOANWORDS = _words(
    "café cafés naïve naïvely naïveté crème brûlée résumé résumés façade façades fiancé fiancée cliché "
    "clichés déjà entrée entrées à soufflé jalapeño jalapeños piñata piñatas señor señora über "
    "doppelgänger touché passé exposé protégé sauté sautéed soirée pâté château matinée blasé risqué "
    "décor mêlée crêpe crêpes éclair née coöperate rosé consommé purée maître niño papier mâché vis voilà"
)
# English words of the lists above: they show no language.
_SHARED = _words(
    "also am an and bin bra care come con de den die do for god gut ha has hat hay he heel her his ho "
    "in is jest ma me men met my no of oh on or over per plus pour pro sent sin so son tack tag till to "
    "ton van var war was we will"
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
            f"the text seems to be {language}, but only English can be spoken: translate it, or read it by "
            "English rules (say and dub: --force, in Python force=True)"
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
                f"the text has {script} letters ({match[0][:20]!r}), but only English in the Latin alphabet "
                "can be spoken: translate it, or leave them out (say and dub: --force, in Python force=True)"
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

    A language is named if the text has at least two of its common words (or one, and words with accents),
    and more of them than of the common English ones. Quotations do not count. A text without common words of
    any language is foreign if most of its words are missing in the lexicon.
    """
    text = unicodedata.normalize("NFC", text).replace("’", "'")
    text = re.sub(r"\S*[@/_#\\]\w\S*|\S+\.\w\S*", " ", text)  # addresses
    unquoted = re.sub(r"[\"“„«][^\"“”„«»]*[\"”»]", ". ", text)
    if len(re.findall(r"[^\W\d_]+", unquoted)) >= 3:
        text = unquoted
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
        if not name and not particle and len(match[0]) <= _LONGEST_WORD:
            counted.append(match[0].lower())
    english = sum(word in _ENGLISH and word not in _SHARED for word in counted)
    scores = {
        language: len([word for word in counted if word in known]) for language, known in _WORDS.items()
    }
    language = max(scores, key=lambda name: scores[name])
    score = scores[language]
    found = {word for word in counted if word in _WORDS[language] and len(word) > 1}
    distinct = len(found - _SHARED)
    marked = {word for word in counted if not word.isascii() and word not in _LOANWORDS}
    if distinct and distinct + len(marked) >= 2 and score + len(marked) > 1.5 * english:
        return language if score + len(marked) >= 0.15 * len(words) else None
    if english == 0 and len(counted) >= 4:
        unknown = {word for word in counted if not in_lexicon(word.removesuffix("'s"))}
        if len(unknown) >= 4 and len(unknown) > 0.6 * len(set(counted)):
            return "in another language"
    return None
