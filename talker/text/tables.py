"""Tables of the text frontend: symbols, abbreviations, units, currencies, acronyms and codes."""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# fmt: off
# --- characters -------------------------------------------------------------------------------------------

# Characters with a plain equivalent. Applied before Unicode decomposition.
PLAIN = (
    {"“": '"', "”": '"', "„": '"', "«": '"', "»": '"', "‟": '"', "″": '"'}
    | {"‘": "'", "’": "'", "‚": ",", "‛": "'", "ʼ": "'", "`": "'", "´": "'", "′": "'"}
    | {"–": "-", "‐": "-", "‑": "-", "‒": "-", "−": "-", "—": " - ", "―": " - ", "…": "... ", "⁄": "/",
    "∕": "/"}
    | {"\u2028": "\n", "\u2029": "\n", "\u200b": "", "\ufeff": "", "、": ", ", "。": ". ", "？": "? ",
    "！": "! "}
    | {"ß": "ss", "ẞ": "SS", "ø": "o", "Ø": "O", "æ": "ae", "Æ": "Ae", "œ": "oe", "Œ": "Oe", "ł": "l",
    "Ł": "L"}
    | {"đ": "d", "Đ": "D", "ð": "d", "Ð": "D", "þ": "th", "Þ": "Th", "ı": "i", "ə": "e", "ŋ": "ng",
    "¿": "", "¡": ""}
    | {"≠": " != ", "№": " No. ", "℃": "°C", "℉": "°F", "℅": " care of ", "Ω": "Ω", "µ": "μ",
    "™": " trademark "}
    | {f"{char}": f" {char}" for char in "½⅓⅔¼¾⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞"}
)
SUPERSCRIPTS = dict(zip("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻", "0123456789+-", strict=True))
# Symbols that are kept until `spoken` names them; a symbol that is missing here and is no letter is dropped.
SYMBOLS = {
    "&": "and", "%": "percent", "+": "plus", "=": "equals", "@": "at", "#": "hash", "*": "asterisk",
    "^": "caret",
    "<": "less than", ">": "greater than", "~": "tilde", "|": "bar",
    "\\": "backslash", "/": "slash", "_": "underscore",
    "$": "dollar", "€": "euro", "£": "pound", "¥": "yen", "¢": "cent", "₹": "rupee", "₩": "won",
    "₽": "ruble",
    "₿": "bitcoin", "°": "degrees", "×": "times", "÷": "divided by", "±": "plus or minus",
    "≈": "approximately equals",
    "≠": "is not equal to", "≤": "less than or equal to", "≥": "greater than or equal to",
    "√": "square root of",
    "∞": "infinity", "∑": "sum", "∏": "product", "∫": "integral", "∂": "partial", "∆": "delta", "∈": "in",
    "∩": "intersection", "∪": "union", "∅": "empty set", "∀": "for all", "∃": "there exists", "¬": "not",
    "∝": "proportional to",
    "→": "arrow", "⇒": "implies", "←": "left arrow", "↑": "up arrow", "↓": "down arrow",
    "↔": "double arrow", "⇔": "if and only if",
    "➔": "arrow", "➜": "arrow", "⟶": "arrow",
    "©": "copyright", "®": "registered", "§": "section", "¶": "paragraph", "†": "dagger", "‰": "per mille",
    "μ": "micro", "Ω": "ohm", "•": "bullet", "✓": "check mark", "✔": "check mark", "✗": "cross",
    "★": "star", "☆": "star",
    "♥": "heart", "♭": "flat", "♯": "sharp", "…": "ellipsis",
    ".": "dot", ",": "comma", "?": "question mark", "!": "exclamation mark", ":": "colon",
    ";": "semicolon", "-": "dash",
    "(": "parenthesis", ")": "parenthesis", "[": "bracket", "]": "bracket", "{": "brace", "}": "brace",
    '"': "quote", "'": "apostrophe", "`": "backtick", "‡": "double dagger",
    "№": "number", "☎": "telephone", "฿": "baht",
}
FLAGS = {
    "AR": "Argentina", "AU": "Australia", "AT": "Austria", "BE": "Belgium", "BR": "Brazil",
    "CA": "Canada", "CH": "Switzerland", "CL": "Chile", "CN": "China", "CO": "Colombia", "CZ": "Czechia",
    "DE": "Germany", "DK": "Denmark", "EG": "Egypt", "ES": "Spain", "EU": "Europe", "FI": "Finland",
    "FR": "France", "GB": "Britain", "GR": "Greece", "HK": "Hong Kong", "HU": "Hungary",
    "ID": "Indonesia", "IE": "Ireland", "IL": "Israel", "IN": "India", "IR": "Iran", "IS": "Iceland",
    "IT": "Italy", "JP": "Japan", "KE": "Kenya", "KR": "Korea", "MA": "Morocco", "MX": "Mexico",
    "MY": "Malaysia", "NG": "Nigeria", "NL": "the Netherlands", "NO": "Norway", "NZ": "New Zealand",
    "PE": "Peru", "PH": "the Philippines", "PK": "Pakistan", "PL": "Poland", "PT": "Portugal",
    "RO": "Romania", "RU": "Russia", "SA": "Saudi Arabia", "SE": "Sweden", "SG": "Singapore",
    "TH": "Thailand", "TR": "Turkey", "TW": "Taiwan", "UA": "Ukraine", "US": "the United States",
    "VN": "Vietnam", "ZA": "South Africa",
}
# Symbols that are spoken in a text without words, such as "& %". A single mark is always named.
NAMED_ALONE = frozenset(SYMBOLS) - frozenset(".,?!:;-()[]{}\"'…")
# Symbols between or before numbers. A comparison is read with "is": "5 > 3".
OPERATORS = {
    "==": "equals", "=": "equals", "!=": "is not equal to", "≠": "is not equal to",
    "<=": "is less than or equal to",
    "≤": "is less than or equal to", ">=": "is greater than or equal to",
    "≥": "is greater than or equal to",
    "<": "is less than", ">": "is greater than", "≈": "is approximately", "+": "plus", "×": "times",
    "*": "times",
    "÷": "divided by", "±": "plus or minus", "->": "arrow", "=>": "arrow",
}
LETTERS = {"A": "eh", "E": "ee", "I": "eye", "O": "oh"}  # names that differ from the word of one letter

# --- abbreviations ----------------------------------------------------------------------------------------

# Written with a full stop that never ends a sentence, because a name or number follows.
TITLES = {
    "mr": "mister", "mrs": "missus", "ms": "miz", "mx": "mix", "dr": "doctor", "drs": "doctors",
    "prof": "professor",
    "gov": "governor", "sen": "senator", "rep": "representative", "pres": "president", "gen": "general",
    "col": "colonel",
    "lt": "lieutenant", "sgt": "sergeant", "cpl": "corporal", "capt": "captain", "cmdr": "commander",
    "maj": "major",
    "adm": "admiral", "rev": "reverend", "hon": "honorable", "fr": "father", "supt": "superintendent",
    "insp": "inspector",
    "st": "saint", "ste": "saint", "mt": "mount", "ft": "fort", "messrs": "messers", "mme": "madame",
    "mlle": "mademoiselle",
    "amb": "ambassador", "sec": "secretary", "treas": "treasurer", "atty": "attorney",
    "asst": "assistant", "vs": "versus", "v": "versus",
}
# Expanded only before a capital letter, since they are also words or other abbreviations.
BEFORE_NAME = _words(
    "gen rep pres sen rev hon fr st ste mt ft col maj adm lt sec amb gov supt insp asst treas capt cmdr "
    "v"
)
BEFORE_NUMBER = {
    "no": "number", "nos": "numbers", "fig": "figure", "figs": "figures", "p": "page", "pp": "pages",
    "vol": "volume",
    "vols": "volumes", "ch": "chapter", "sec": "section", "art": "article", "eq": "equation",
    "par": "paragraph", "ca": "circa", "c": "circa",
    "ext": "extension", "tel": "telephone", "apt": "apartment", "rm": "room", "ver": "version",
    "op": "opus", "d": "died", "b": "born", "nr": "number", "pt": "part", "ste": "suite", "bldg": "building",
    "fl": "floor", "rte": "route", "pg": "page", "pgs": "pages", "para": "paragraph", "ref": "reference",
    "sect": "section", "sects": "sections", "chap": "chapter", "chaps": "chapters", "tab": "table",
    "ex": "example", "app": "appendix",
    "rs": "Rs",
}
# Their full stop may also end a sentence.
ABBREVIATIONS = {
    "etc": "et cetera", "jr": "junior", "sr": "senior", "esq": "esquire", "inc": "incorporated",
    "ltd": "limited",
    "corp": "corporation", "co": "company", "bros": "brothers", "approx": "approximately",
    "dept": "department",
    "govt": "government", "univ": "university", "assn": "association", "intl": "international",
    "natl": "national",
    "ave": "avenue", "blvd": "boulevard", "rd": "road", "hwy": "highway", "pkwy": "parkway",
    "sq": "square", "ln": "lane", "apt": "apartment",
    "est": "established", "avg": "average", "max": "maximum", "min": "minimum", "temp": "temperature",
    "tel": "telephone",
    "ext": "extension", "incl": "including", "excl": "excluding", "esp": "especially",
    "misc": "miscellaneous",
    "cf": "compare", "al": "al", "ed": "editor", "eds": "editors", "vol": "volume", "viz": "namely",
    "orig": "originally", "dept's": "department's",
    "mgr": "manager", "ea": "each", "bldg": "building", "mfg": "manufacturing", "acct": "account",
    "amt": "amount", "qty": "quantity", "pkg": "package", "doz": "dozen", "attn": "attention",
    "encl": "enclosed", "admin": "administration", "exec": "executive", "mgmt": "management",
    "mktg": "marketing", "dist": "district",
    "qtr": "quarter", "qtrs": "quarters", "wt": "weight", "ht": "height", "assoc": "associates",
    "mfr": "manufacturer", "ctr": "center", "hts": "heights", "pl": "place", "ct": "court", "ter": "terrace",
    "fwy": "freeway", "expy": "expressway", "tpke": "turnpike", "prev": "previous", "elev": "elevation",
    "freq": "frequency", "diam": "diameter", "recd": "received", "reqd": "required", "pop": "population",
    "yr": "year", "yrs": "years", "wk": "week", "wks": "weeks", "hr": "hour", "hrs": "hours",
}
# Also words, so they are expanded only where a small letter, a comma or a digit follows the full stop.
AMBIGUOUS = _words(
    "max min temp ed al est sq co admin exec dist yr yrs wk wks hr hrs pop pl ct ter"
)
DOTTED = {  # abbreviations with inner full stops, in small letters
    "e.g": "for example", "i.e": "that is", "w.r.t": "with respect to", "n.b": "N B",
}
PLAIN_ABBREVIATIONS = {  # without a full stop
    "w/o": "without", "b/c": "because", "a/c": "eh C", "n/a": "N eh", "c/o": "care of", "eg": "for example",
    "ie": "that is",
}
MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October",
    "November", "December",
)
SHORT_MONTHS = {
    "jan": 1, "feb": 2, "mar": 3, "apr": 4, "jun": 6, "jul": 7, "aug": 8, "sep": 9, "sept": 9, "oct": 10,
    "nov": 11, "dec": 12,
}
WEEKDAYS = {
    "mon": "Monday", "tue": "Tuesday", "tues": "Tuesday", "wed": "Wednesday", "thu": "Thursday",
    "thur": "Thursday",
    "thurs": "Thursday", "fri": "Friday", "sat": "Saturday", "sun": "Sunday",
}
# Words that often begin a sentence, and rarely follow "U.S." or "Inc." as part of a name.
STARTERS = _words(
    "the a an it he she we they you i this that these those there here then but and or so if when while "
    "what who why how where in on at as for from by with after before since because although however my "
    "your his her our their its one some many most all no yes not now later today tomorrow yesterday "
    "meanwhile finally also both each every do did does is are was were can could will would should "
    "please let thank thanks nobody everyone everybody somebody someone nothing something buy see"
)

# After a street: "Ave NW".
DIRECTIONS = {"NW": "northwest", "NE": "northeast", "SW": "southwest", "SE": "southeast"}
STREETS = {short: ABBREVIATIONS[short.lower()] for short in ("Ave", "Blvd", "Rd", "Ln", "Hwy", "Pkwy", "Sq")}
STREETS |= {"St": "street", "Dr": "drive"}

# --- numbers ----------------------------------------------------------------------------------------------

SCALES = {
    "k": "thousand", "thousand": "thousand", "m": "million", "mn": "million", "mio": "million",
    "million": "million", "mil": "million",
    "b": "billion", "bn": "billion", "billion": "billion", "t": "trillion", "tn": "trillion",
    "trn": "trillion", "trillion": "trillion",
}
CURRENCIES = {  # sign or code -> one, many, one hundredth, many hundredths
    "$": ("dollar", "dollars", "cent", "cents"), "€": ("euro", "euros", "cent", "cents"), "£": ("pound",
    "pounds", "penny", "pence"),
    "¥": ("yen", "yen", "sen", "sen"), "₹": ("rupee", "rupees", "paisa", "paise"), "₩": ("won", "won",
    "jeon", "jeon"),
    "₽": ("ruble", "rubles", "kopeck", "kopecks"), "₿": ("bitcoin", "bitcoins", "", ""),
    "CHF": ("Swiss franc", "Swiss francs", "centime", "centimes"), "CNY": ("yuan", "yuan", "fen", "fen"),
    "RMB": ("yuan", "yuan", "fen", "fen"),
    "SEK": ("Swedish krona", "Swedish kronor", "", ""), "NOK": ("Norwegian krone", "Norwegian kroner", "",
    ""),
    "DKK": ("Danish krone", "Danish kroner", "", ""), "PLN": ("zloty", "zloty", "", ""), "BRL": ("real",
    "reals", "", ""),
    "CAD": ("Canadian dollar", "Canadian dollars", "cent", "cents"), "AUD": ("Australian dollar",
    "Australian dollars", "cent", "cents"),
}
CURRENCIES |= {code: CURRENCIES[sign] for code, sign in {
    "Rs": "₹",
    "USD": "$", "EUR": "€", "GBP": "£", "JPY": "¥", "INR": "₹", "KRW": "₩", "RUB": "₽", "BTC": "₿"}.items()}
COUNTRIES = {
    "US": "U S", "C": "Canadian", "CA": "Canadian", "A": "Australian", "AU": "Australian",
    "NZ": "New Zealand",
    "HK": "Hong Kong",
}
# Nouns after "1.2m" and "3b", which mean million and billion there.
COUNTED = _words(
    "accounts barrels books cars cases clicks copies customers deaths devices dollars downloads euros "
    "fans followers homes households images impressions inhabitants installs items jobs likes lines "
    "listeners members messages model models parameters params passengers people players plays posts "
    "pounds readers records requests residents rows samples shares streams students subscribers tokens "
    "tonnes tons tourists transactions tweets units users videos viewers views visitors visits voters "
    "votes workers years"
)
# Nouns after a unit, which is in the singular there: "10 lb bag".
MEASURED = _words(
    "bag bags bottle bottles box boxes cans pack packs jar jars tank tanks pole poles race races "
    "ladder ladders drive drives disk disks screen screens monitor monitors cable cables rope ropes board "
    "boards pipe pipes wall walls glass weight weights steak steaks fence hose sprint radius bulb"
)
NOTES = ("bill", "bills", "note", "notes", "coin", "coins", "ticket", "tickets", "gift", "fine", "fee",
    "discount", "coupon", "voucher", "check")

_UNITS = """
km kilometer|m meter|cm centimeter|mm millimeter|μm micrometer|um micrometer|nm nanometer|dm decimeter
mi mile miles|yd yard|ft foot feet|in. inch inches|kg kilogram|g gram|mg milligram|μg microgram
mcg microgram
lb pound|lbs pound|oz ounce|t ton|l liter|L liter|ml milliliter|mL milliliter|cl centiliter|dl deciliter
gal gallon|pt pint|qt quart
tsp teaspoon|tbsp tablespoon|h hour|hr hour|hrs hour|min minute|mins minute|sec second|secs second|s second
ms millisecond|μs microsecond|ns nanosecond
Hz hertz hertz|hz hertz hertz|kHz kilohertz kilohertz|khz kilohertz kilohertz|MHz megahertz megahertz
mhz megahertz megahertz|GHz gigahertz gigahertz|ghz gigahertz gigahertz
kB kilobyte|KB kilobyte|kb kilobit|MB megabyte|mb megabyte|Mb megabit|GB gigabyte|gb gigabyte|Gb gigabit
TB terabyte|tb terabyte|PB petabyte
KiB kibibyte|MiB mebibyte|GiB gibibyte|TiB tebibyte
W watt|kW kilowatt|MW megawatt|GW gigawatt|kWh kilowatt_hour|Wh watt_hour|mAh milliamp_hour|V volt
kV kilovolt|mV millivolt|mA milliamp|Ω ohm|kΩ kilo_ohm
J joule|kJ kilojoule|cal calorie|kcal kilocalorie|Pa pascal|hPa hectopascal|kPa kilopascal|MPa megapascal
bar bar|psi P_S_I P_S_I|atm atmosphere
dB decibel|db decibel|px pixel|dpi D_P_I D_P_I|fps frame_per_second frames_per_second|rpm R_P_M R_P_M
bpm beat_per_minute beats_per_minute|hp horsepower horsepower|pts point
lb-ft pound_foot pound_feet|ft-lb foot_pound
mph mile_an_hour miles_an_hour|kph kilometer_an_hour kilometers_an_hour
km/h kilometer_an_hour kilometers_an_hour|kmh kilometer_an_hour kilometers_an_hour
m/s meter_per_second meters_per_second
Mbps megabit_per_second megabits_per_second|Gbps gigabit_per_second gigabits_per_second
kbps kilobit_per_second kilobits_per_second
MB/s megabyte_per_second megabytes_per_second|GB/s gigabyte_per_second gigabytes_per_second
Mbit/s megabit_per_second megabits_per_second
ha hectare|ac acre|sqft square_foot square_feet|pct percent percent|ppm part_per_million parts_per_million
mol mole|yr year|yrs year|mo month|wk week|wks week|pcs piece
qts quart|gals gallon|yds yard|ozs ounce|pints pint
fl_oz fluid_ounce|fl._oz. fluid_ounce|dL deciliter|cc cubic_centimeter|kgf kilogram_force
mpg mile_per_gallon miles_per_gallon|deg degree|rad radian|mmHg millimeter_of_mercury millimeters_of_mercury
N newton|kN kilonewton|Nm newton_meter|lm lumen|lx lux lux|eV electronvolt|keV kiloelectronvolt
MeV megaelectronvolt|GeV gigaelectronvolt|μA microamp|mW milliwatt|μV microvolt|μL microliter|mmol millimole
MΩ megaohm|nF nanofarad|μF microfarad|pF picofarad|mT millitesla|dBm decibel_milliwatt|lbf pound_force
ft/s foot_per_second feet_per_second
kt knot|kn knot|nmi nautical_mile|kbit/s kilobit_per_second kilobits_per_second
Gbit/s gigabit_per_second gigabits_per_second|kB/s kilobyte_per_second kilobytes_per_second
mi/h mile_an_hour miles_an_hour
"""
UNITS: dict[str, tuple[str, str]] = {}  # symbol -> one, many
for _entry in _UNITS.replace("\n", "|").strip("|").split("|"):
    _symbol, _one, *_many = _entry.replace("  ", " ").split(" ")
    _many = _many or [f"{_one}s"]
    _symbol, _one, _several = (name.replace("_", " ") for name in (_symbol, _one, _many[0]))
    UNITS[_symbol] = (_one, _several)
DEGREES = {"C": "Celsius", "F": "Fahrenheit", "K": "kelvin", "N": "north", "S": "south", "E": "east",
    "W": "west"}
POWERS = {"2": "square", "3": "cubic"}
TIGHT_UNITS = _words("J t mo bar cal")  # units only directly after the digits
LOOSE_UNITS = _words("ac ha kt")  # units only after a space
# Telephone numbers of three digits.
SHORT_NUMBERS = _words("000 101 110 111 112 118 119 211 311 411 511 611 711 811 911 988 999")
# Codes before a ZIP code; IN, ME, OK, OR and HI only after a comma.
STATES = _words(
    "AL AK AZ AR CA CO CT DE FL GA ID IL IA KS KY LA MD MA MI MN MS MO MT NE NV NH NJ NM NY NC ND OH PA RI "
    "SC SD TN TX UT VT VA WA WV WI WY DC"
)
FRACTIONS = {2: ("half", "halves"), 4: ("quarter", "quarters")}
FIXED_FRACTIONS = {"24/7": "twenty four seven", "9/11": "nine eleven", "7/11": "seven eleven",
    "50/50": "fifty fifty",
    "20/20": "twenty twenty"}
VERSIONED = _words(
    "version release python ios ipados macos android ubuntu debian fedora java php ruby perl node cuda "
    "django linux kernel firmware pytorch postgres postgresql mysql redis bluetooth usb hdmi html css "
    "http tls gpt"
)

# --- Roman numerals ---------------------------------------------------------------------------------------

NUMBERED = _words(
    "war chapter part act scene volume book section article phase type class bowl episode mark title "
    "appendix level stage unit lesson figure table vol round grade group category division tier "
    "generation gen season series day canto psalm corps protocol schedule annex exhibit item step rule "
    "rocky fantasy apollo gemini saturn tier quest wars godfather wwii symphony sonata concerto opus "
    "movement verse mk"
)
REGNAL = _words(
    "henry louis elizabeth george charles edward william richard james mary john paul pius benedict leo "
    "gregory innocent clement urban boniface alexander nicholas peter catherine frederick wilhelm otto "
    "philip ferdinand alfonso carlos juan felipe napoleon ramses rameses ptolemy cleopatra darius "
    "xerxes artaxerxes harald olav gustav christian haakon margaret margrethe albert leopold baudouin "
    "umberto vittorio emmanuel joseph francis franz rudolf maximilian sigismund ivan mehmed murad selim "
    "suleiman abdullah hussein robert david malcolm edmund stephen victor constantine justinian "
    "theodosius basil michael thomas walter hugo sixtus julius callixtus celestine eugene martin adrian "
    "sergius stephen tutankhamun seti amenhotep thutmose nebuchadnezzar davis griffey vivian bedford"
)
# Words after "I" that show that it is the pronoun, after a noun of NUMBERED.
FIRST_PERSON = _words(
    "am have think know want will would can could do did like love said saw read wrote went go got need "
    "found mentioned don't didn't can't had must should made bought"
)
AFTER_FIRST = _words(
    "of was is and had has ruled reigned became died ended began in to by as were will the who"
)

# --- capitals ---------------------------------------------------------------------------------------------

# Spelled even though a word has the same letters.
SPELLED = _words(
    "AI USA UK EU UN US UAE FBI CIA NSA CEO CFO CTO COO USB HTML PDF CSS SQL API CPU GPU IBM BBC "
    "CNN NBC ABC CBS HBO NBA NFL NHL MLB UFC DNA RNA HIV ATM GPS LED LCD TV DVD CD PC VIP FAQ ID URL HR "
    "PR IQ IT DIY SOS OS UI UX IP TCP VPN SSD HDD RPG FPS MIT UCLA NYC LA DC BMW VW GM KFC SUV MBA "
    "BA MA MD RN ER ICU MRI CT EKG ECG ADHD OCD PTSD EV AC DC AM PM FM BC AD CE BCE GDP VAT IRS DIN ISO "
    "ETA FYI BTW IMO TBD TBA RSVP OMG LGBT LGBTQ SMS MMS CV NGO GMO SPF PS PE TA IPO EST PST CST MST "
    "EDT PDT GMT UTC CET BST"
)
# Pronounced as words although the lexicon lacks them or lists their letters.
SAID = {
    "NASA": "nasa", "NATO": "nato", "UNESCO": "unesco", "UNICEF": "unicef", "AIDS": "aids",
    "LASER": "laser", "RADAR": "radar",
    "SCUBA": "scuba", "PIN": "pin", "SIM": "sim", "ASAP": "asap", "OPEC": "opec", "COVID": "covid",
    "FIFA": "feefa", "UEFA": "you effa",
    "NAFTA": "nafta", "SWAT": "swat", "JPEG": "jay peg", "JPG": "jay peg", "GIF": "gif", "RAM": "ram",
    "ROM": "rom", "SARS": "sars",
    "MERS": "mers", "CAPTCHA": "captcha", "YOLO": "yolo", "LOL": "lol", "IKEA": "ikea", "LEGO": "lego",
    "NASDAQ": "nazdack", "ZIP": "zip",
    "OSHA": "osha", "FEMA": "feema", "DARPA": "darpa", "CERN": "sern", "ASCII": "askey", "JSON": "jason",
    "YAML": "yammel", "BIOS": "bios",
    "OK": "okay", "OKAY": "okay", "WYSIWYG": "wizzywig", "NASCAR": "nascar", "INTERPOL": "interpol",
    "MOMA": "moma",
    "FWD": "forward", "FW": "forward", "ATTN": "attention",
    "WWI": "world war one", "WWII": "world war two", "MHZ": "megahertz", "IEEE": "eye triple ee",
    "NAACP": "N double eh C P", "AAA": "triple eh",
}
# Words of up to three letters that are also acronyms: spelled unless a neighbour is a word in capitals, too.
EITHER = _words(
    "US IT AM WHO PR ER LA AD MA PA BA TA ID OS PE PS DIN LED AI"
)
# Words beside which "WHO", "IT" and "US" are pronouns.
AFTER_WHO = _words("am are is was were did does do said says told knows knew has had will would can could "
    "should made makes took gave cares wants needs let ate broke won goes went")
BEFORE_WHO = _words("know knows knew wonder see tell guess ask asked matter matters remember care and or but")
BEFORE_IT = _words("is was do does did can will would should could just let love hate want need like get "
    "got take took make made give gave try said say stop keep have had did")
AFTER_IT_NOUN = _words("support department departments team teams staff guy manager managers security "
    "industry company companies professional professionals specialist specialists infrastructure system "
    "systems service services budget job jobs sector world project projects consultant admin skills policy "
    "equipment help desk training people and")
BEFORE_US = _words("give gave let tell told help show join follow make made love hate want need take took "
    "call ask save for with between leave left")
AFTER_US = _words("the a an all your this that these those some more now what why how when to go know see "
    "have be do alone please both too again")
SHORT_WORDS = _words(
    "RE THE AND NOT YOU ALL ANY ARE BUT CAN DID FOR GET GOT HAD HAS HER HIM HIS HOW ITS LET MAY NEW NOW "
    "OFF OLD ONE OUR OUT OWN SAY SEE SHE TOO TOP TRY TWO USE WAS WAY WHY WIN YES YET BIG BAD BIT BUY "
    "CAR CAT CUT DAY DIE DOG EAT END FAR FEW FUN GUY HOT JOB KEY KID LIE LOT LOW MAD MAN MEN MOM DAD "
    "OUT PAY PUT RED RUN SAD SIT SIX SUN TEN WET WHO FREE AS AT BE BY DO GO HE IF IN IS ME MY NO OF ON "
    "OR SO TO UP WE AN AM OH HI HEY WOW AND ACT ADD AGE AGO AIR ARM ART ASK BED BOX BOY BUS FIX FLY GAS "
    "GOD GUN HIT ICE ILL LAW LEG MAP MIX NOR ODD OIL PER SET SEX SKY SON TAX TEA TIE VIA WAR HA RAN SAW "
    "ATE BAN BAR BET BOSS HALF HUG HUH AHA UGH DIM DRY HID INK JAM JAR KIT LID LIP LOG MUD MUG NAP NUT "
    "OAK PEN PIG PIT POP POT RAW RIB ROB ROD ROT ROW RUB RUG SHY SIN SIP SOB SPY SUM TAN TAP TIN TOE TOY "
    "TUB TUG VAN VOW WAX WEB WIG WIT ZOO BEE BUG BUN COW CRY CUB CUP DEN DIG DIP EAR EGG ELF FAN FEE FIG "
    "FLU FOG FOX FRY GAP GUM HAM HAT HAY HEN HIP HOP HUT JET JOY LAD LAY LED MAT MOB OWE OWL OWN PAW PEA PIE "
    "RAT SAW SEA SEW SKI SLY SOW TEN TIE TON TOW WOE WON YES BAY BEG BIN BUD BUY FUR GAG HOG"
)
EXTENSIONS = {
    "pdf": "P D F", "txt": "T X T", "py": "P Y", "js": "J S", "ts": "T S", "jpg": "jay peg",
    "jpeg": "jay peg", "png": "P N G", "gif": "gif",
    "mp3": "M P three", "mp4": "M P four", "wav": "wave", "flac": "flack", "avi": "eh V eye",
    "mov": "mov", "mkv": "M K V", "webm": "web M",
    "html": "H T M L", "htm": "H T M", "css": "C S S", "xml": "X M L", "json": "jason", "yaml": "yammel",
    "yml": "Y M L", "csv": "C S V",
    "tsv": "T S V", "xls": "X L S", "xlsx": "X L S X", "doc": "doc", "docx": "doc X", "ppt": "P P T",
    "pptx": "P P T X", "zip": "zip",
    "tar": "tar", "gz": "G Z", "rar": "R eh R", "exe": "ee X ee", "sh": "S H", "md": "M D",
    "cpp": "C P P", "java": "java", "rs": "R S",
    "log": "log", "ini": "ini", "cfg": "C F G", "toml": "tommel", "svg": "S V G", "bmp": "B M P",
    "tif": "tif", "tiff": "tiff", "iso": "eye S oh",
    "epub": "ee pub", "psd": "P S D", "sql": "S Q L", "db": "D B", "bat": "bat", "dll": "D L L",
    "srt": "S R T", "vtt": "V T T", "ipynb": "eye P Y N B",
}
DOMAINS = {
    "com": "com", "org": "org", "net": "net", "edu": "ee D U", "gov": "gov", "mil": "mil", "int": "int",
    "info": "info", "biz": "biz",
    "io": "eye oh", "ai": "eh eye", "co": "co", "me": "me", "tv": "T V", "fm": "F M", "uk": "U K",
    "us": "U S", "eu": "ee U", "de": "D ee",
    "fr": "F R", "it": "eye T", "es": "ee S", "ch": "C H", "at": "eh T", "nl": "N L", "se": "S ee",
    "no": "N oh", "jp": "J P", "cn": "C N",
    "in": "eye N", "ca": "C eh", "au": "eh U", "br": "B R", "ru": "R U", "pl": "P L", "app": "app",
    "dev": "dev", "xyz": "X Y Z", "ly": "L Y",
    "gg": "G G", "blog": "blog", "shop": "shop", "online": "online", "tech": "tech", "cloud": "cloud",
    "page": "page", "news": "news",
}
HANDLE_MARKS = {".": "dot", "_": "underscore", "-": "dash", "/": "slash",
    "\\": "backslash", ":": "colon", "~": "tilde", "?": "question mark",
    "=": "equals", "&": "and", "#": "hash", "%": "percent", "+": "plus", "@": "at"}
# fmt: on
