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
        "alors voici voilà monde jour oui beaucoup me te m'appelle t'aime d'accord s'appelle allez "
        "comment parle parles mange aime veux père mère enfants vie revoir salut monsieur madame tu es "
        "bonsoir rien j'aime travaille"
    ),
    "German": _words(
        "im ins aus vor bis diese dieser dies geht ihnen ihr unser jetzt viel schläft kommt machen gehen "
        "der das und ist nicht ich sie wir ein eine einen einem einer mit auf für von zu dem den des auch "
        "sich wie aber oder wenn dass sind war haben hat hatte wird werden kann noch nur nach bei über "
        "mein meine dein guten tag danke bitte heute morgen sehr gut wo warum schon hier dann immer "
        "nichts etwas mehr keine kein uns ihm ihn zum zur vom beim mich dich mir dir euch heiße liebe "
        "ist's geht's abend nacht vielen wiedersehen bin bist sein seine ihre waren gibt deine müde "
        "tschüss entschuldigung straße ja nein hund haus dank gute sprechen spielt"
    ),
    "Spanish": _words(
        "quiero puedo hace hacer comer ir vamos bueno buena noche tarde noches dónde cuándo sobre entre "
        "sin el los las una y es son en con por para que no se lo su sus más pero como está estoy muy "
        "hola gracias qué cómo también yo tú usted nosotros ellos hay fue ser tiene tengo mi del al este "
        "esta eso donde cuando porque todo todos buenos buenas días hoy bien mucho aquí ahora sí señor la "
        "de un me te nos les mis tus nuestro nuestra llamo llama gusta quiere hablo habla hasta luego "
        "mañana muchas muchos adiós feliz favor come vive eres somos están había ella él casa amo tardes"
    ),
    "Italian": _words(
        "sul sulla sui nello ai agli degli stai sta questi quello vorrei andiamo il gli lo una è sono con "
        "per che non di della del delle dei nel nella ma anche come questo questa ciao grazie buongiorno "
        "io tu lui lei noi voi loro ho hai ha molto più tutto tutti perché quando dove sei siamo mio mia "
        "suo sua oggi bene dal alla alle cosa essere fatto la un mi ti ci si chiamo parlo parli capisco "
        "voglio vuoi buona sera notte arrivederci mille mangia dorme abito vivo stanno quale quanto "
        "nostro nostra casa gatto cane amo abiti buon scusi caldo fame"
    ),
    "Portuguese": _words(
        "quero posso fazer boa noite tarde sem sobre entre muita até os uma e é são em com por para que "
        "não se mais mas como está muito olá obrigado obrigada você eu ele ela nós eles do da dos das no "
        "na nos nas ao um foi ser tem tenho meu minha seu sua isso isto quando onde porque também bom dia "
        "hoje bem aqui agora sim o me te lhe meus minhas falo fala gosto quer dorme chamo obrigados tchau "
        "amanhã vai vou estão nome fica amo"
    ),
    "Dutch": _words(
        "de zit gaat er zo wij hoe wat moet komt goede het een en zijn niet ik je jij hij zij van met "
        "voor op dat die deze maar ook als naar bij hebben heeft wordt kan nog wel geen mijn jouw "
        "goedemorgen hallo dank u waar waarom heel goed vandaag hier dan altijd iets meer uit over aan "
        "jou hou heb ben bent naam spreek spreekt graag dag goedenavond ziens wil wilt zal zullen onze "
        "ons hun haar veel weet huis hond tot alsjeblieft morgen"
    ),
    "Swedish": _words(
        "och är inte jag du han hon vi ni det den ett en som på med för av till men också har hade kan "
        "ska från om mycket hej tack idag god morgon varför var här där nu bra heter älskar mig dig oss "
        "mår säger vill gillar hur vad vem godnatt snälla varsågod kommer går mitt din ditt natt talar"
    ),
    "Danish or Norwegian": _words(
        "og er ikke jeg du han hun vi det den et en som på med for av af til men også har hadde havde "
        "kan skal fra om meget hei hej takk tak dag god morgen hvorfor hvor her der nå nu bra godt "
        "hedder heter elsker mig meg dig deg os oss hvordan hvad hva hvem mange vil går kommer taler "
        "snakker velkommen mit min din dit"
    ),
    "Polish": _words(
        "i w na nie się jest są to że z do jak co ale czy dla tak przez był była dzień dobry dziękuję "
        "bardzo ja ty on ona my wy oni mój moja dziś tutaj gdzie dlaczego po od ich jego cię mnie mam "
        "mówię kocham nazywam imię ma widzenia proszę przepraszam cześć będzie może polsku"
    ),
    "Czech or Slovak": _words(
        "a je se na že to v s z do jak ale jsem jsou není ve pro tak byl byla dobrý den děkuji velmi "
        "já ty on ona my můj moje dnes tady kde proč som nie veľmi mě tě mám máš jmenuji děkuju ahoj "
        "prosím miluji dobré ráno jaký jste jsi nejsem mluvím ďakujem"
    ),
    "Turkish": _words(
        "ve bir bu da de için çok ne var yok değil ben sen biz siz ile gibi daha ama merhaba teşekkür "
        "ederim nasıl nerede bugün iyi günler evet hayır olan olarak seni seviyorum teşekkürler "
        "günaydın adım benim senin çocuk kedi dünya lütfen oldu"
    ),
    "Romanian": _words(
        "și este nu la cu pe de din un o care sunt mai ce dar eu tu el ea noi bună ziua mulțumesc "
        "foarte astăzi unde te iubesc mult vă rog îmi mea meu ești pentru când bine seara"
    ),
    "Hungarian": _words(
        "az és nem van egy hogy ez is én te ő mi ti meg de vagy jó napot köszönöm nagyon ma hol miért "
        "szia szeretlek reggelt szépen jól kérem igen beszélek vagyok mint csak lesz volt"
    ),
    "Finnish": _words(
        "ja on ei se että hän olen minä sinä me te he tämä mutta myös kun hyvää päivää kiitos paljon "
        "tänään missä miksi rakastan sinua hyvä huomenta anteeksi kissa koira nimeni sinun minun "
        "kuinka mitä ovat"
    ),
    "Indonesian or Malay": _words(
        "yang dan di ini itu dengan untuk tidak saya kamu dia kami mereka ada akan dari ke pada juga "
        "selamat pagi terima kasih apa kabar sudah bisa cinta nama anda baik bagaimana malam siang "
        "orang rumah satu"
    ),
    "Vietnamese": _words(
        "và là của không có tôi bạn anh chị này đó được cho với một những xin chào cảm ơn rất tên "
        "đang người trong"
    ),
}
# Particles of names ("Vincent van Gogh"): they do not count before a capital letter.
_PARTICLES = _words(
    "de la las los le el du des del di da do das dos der den dem van von zu y e i het al az og und et"
)
_ENGLISH = _words(
    "the a an of and to is are was were be been am i you he she it we they me him us them my your his her "
    "its our their this that these those in on at by for with from as into about after before over under "
    "not no yes or but if so then than there here what who when where why how which do does did done have "
    "has had will would can could should may might must shall let up down out off all any some each every "
    "one two many much more most very just only also now say said says go goes went come came get got "
    "make made know like love see saw look take good new old first last man men tell told think want "
    "please thank thanks hello hi hey day today time people never always again name called read used use "
    "using without because through between both same other another such own too still even back well "
    "while since until around during against instead within upon"
)
# Words with accents that English has borrowed.
_LOANWORDS = _words(
    "café cafés naïve naïvely naïveté crème brûlée résumé résumés façade façades fiancé fiancée cliché "
    "clichés déjà entrée entrées à soufflé jalapeño jalapeños piñata piñatas señor señora über "
    "doppelgänger touché passé exposé protégé sauté sautéed soirée pâté château matinée blasé risqué "
    "décor mêlée crêpe crêpes éclair née coöperate rosé consommé purée maître niño papier mâché mañana "
    "vis voilà bánh mì phở"
)
# English words of the lists above: they show no language.
_SHARED = _words(
    "also am an and bin bra care come con de den die do for god gut ha has hat hay he heel her his ho in "
    "is jest ma me men met my no of oh on or over per plus pour pro sent sin so son tack tag till to ton "
    "van var war was we will dies dove dank todo sans elle ella sera ciao para como entre bent ben wil "
    "wilt dir dig mange mitt mint mam mate cane nome vivo mig os op al az del aux eu au du ci si mult "
    "casa santa alla nella bien bene tutti este vent ja siang mia bella monde satu orang hon ni ska mina "
    "adios olen hier non notre saya pagi dass tiene"
)

# Articles that begin a text without names only in their own language.
_ARTICLES = _words("le la les un une el los las il lo gli ein eine het een o os as um uma")
# Phrases that English has borrowed, and names that are often written in small letters.
_PHRASES = re.compile(
    r"(?i)\b(?:c'est la vie|mi casa(?: es)? su casa|m[ée]nage [àa] trois|hasta la vista|je ne sais quoi|"
    r"bon voyage|bon app[ée]tit|au revoir|carpe diem|par excellence|faux pas|la la land|du jour|au jus|"
    r"au poivre|au gratin|au lait|au pair|con carne|con leche|pico de gallo|dulce de leche|cr[èe]me de la "
    r"cr[èe]me|et al|et tu|et cetera|mea culpa|sine qua non|per se|cul-de-sac|coup d'[ée]tat|"
    r"raison d'[êe]tre|joie de vivre|fait accompli|enfant terrible|los angeles|las vegas|el paso|la jolla|"
    r"el ni[ñn]o|la ni[ñn]a|lorem ipsum|à la|a la (?:carte|mode))\b"
)
_WORD = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)*")
_BORROWED = re.compile(r"[a-zα-ω'àáâäåæçèéêëíîïñóôöøûüœ]+")  # letters of words that English has borrowed


def check_english(text: str) -> None:
    """Check that a text is in English, as far as that can be seen.

    English with names, quotations or borrowed phrases of another language is accepted, and so are short
    texts in the Latin alphabet without a common word of another language.

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
    and more of them than of the common English ones. A text without common English words is foreign if it
    begins with an article and a word in small letters, if half of its words are common words of the language
    or unknown to the lexicon, if a word has letters that English does not borrow, or if most of at least four
    words are unknown. Names, quotations and borrowed phrases do not count.
    """
    text = unicodedata.normalize("NFKC", text).replace("’", "'")
    # Addresses, numbers with their units, and the numbers of list items
    text = re.sub(r"\S*[@/_#\\]\w\S*|\S+\.\w\S*|\S*\d\S*(?:\s[a-zA-Z]{1,4}\b)?", " ", text)
    text = re.sub(r"(?m)^\s*[ivx]+[.)]\s", "", text)
    unquoted = re.sub(r"[\"“„«][^\"“”„«»]*[\"”»]", ". ", text)
    if len(re.findall(r"[^\W\d_]+", unquoted)) >= 3:
        text = unquoted
    if text.isupper():
        text = text.lower()
    text = _PHRASES.sub(". ", text)
    words = list(_WORD.finditer(text))
    written = _counted(text, words)
    counted = [word.lower() for word in written]
    english = sum(word in _ENGLISH and word not in _SHARED for word in counted)
    own = [word for word in counted if len(word) > 1 and word not in _SHARED and word not in _LOANWORDS]
    scores = {
        name: (sum(w in known for w in counted), sum(w in known for w in own))
        for name, known in _WORDS.items()
    }
    leaders = [name for name in scores if scores[name] == max(scores.values())]
    known = _WORDS[leaders[0]]
    named = " or ".join(leaders) if len(leaders) < 3 else "in another language"
    distinct = known.intersection(own)
    marked = {word for word in counted if not word.isascii() and word not in _LOANWORDS}
    score = scores[leaders[0]][0] + len(marked)
    if all(match[0][0].isupper() for match in words):  # "Guten Morgen", but not "Buenos Aires"
        return named if any(len(word) >= 4 for word in distinct) and known.issuperset(counted) else None
    if distinct and len(distinct) + len(marked) >= 2 and score > 1.5 * english:
        return named if score >= 0.15 * len(words) else None
    if english:
        return None
    unknown = {word for word in counted if not in_lexicon(word.removesuffix("'s"))} - _LOANWORDS
    if distinct:
        article = counted[0] in _ARTICLES and len(counted) > 1 and counted[1] not in counted[0]
        if len(words) == 1:
            return named if len(counted[0]) >= 4 else None
        if article or 2 * sum(word in known or word in unknown for word in counted) >= max(len(counted), 3):
            return named
    strange = any(
        word[0].islower() and not _BORROWED.fullmatch(word) for word in marked.intersection(written)
    )
    if strange or (len(unknown) >= 4 and len(unknown) > 0.6 * len(set(counted))):
        return "in another language"
    return None


def _counted(text: str, words: list[re.Match[str]]) -> list[str]:
    """The words that show the language: those that are not part of a name, or all of a text in title case."""
    if all(match[0][0].isupper() for match in words):
        return [match[0] for match in words]
    counted: list[str] = []
    for index, match in enumerate(words):
        following = words[index + 1][0] if index + 1 < len(words) else ""
        starts = index == 0 or re.search(r"[.?!:¿¡\"\n]\W*$", text[words[index - 1].end() : match.start()])
        name = match[0][0].isupper() and not starts  # "La Paz"
        particle = match[0].lower() in _PARTICLES and following[:1].isupper() and not following.isupper()
        particle = particle and not (index == 0 and match[0] in ("Der", "Das"))  # "Der Hund bellt"
        if not name and not particle and len(match[0]) <= _LONGEST_WORD:
            counted.append(match[0])
    return counted
