"""Tables of the language check: common words and greetings of other languages, and what English borrows."""

import re


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Common words and greetings of languages in the Latin alphabet, and of others in Latin letters. "l'" stands
# for any word after it. Those that English has, too, are in SHARED.
LANGUAGES = {
    "French": _words(
        "peut fais suis ça quoi chez sous sans deux trois bonne soir nuit ici là au pour le la les des une "
        "et est sont dans avec que qui vous nous je il elle ils ne pas sur mais plus tout tous cette ces "
        "aux du bonjour merci être avoir fait très bien où c'est j'ai n'est d'un d'une l'on qu'il s'il "
        "êtes sommes ont avez mon mes ton sa ses leur leurs notre votre aussi comme quand si parce alors "
        "voici voilà monde jour oui beaucoup me te m'appelle t'aime d'accord s'appelle allez comment parle "
        "parles mange aime veux père mère enfants vie revoir salut monsieur madame tu es bonsoir rien "
        "j'aime travaille bon à même l' qu' joyeux anniversaire noël année bientôt demain plaît enchanté "
        "excusez bienvenue pourquoi allons vive chance félicitations dieu quelle heure amour amis toujours "
        "été garçon hôtel ville français oublie bisous coucou pardon désolé attends viens regarde encore "
        "non tais vas toi trop cher petit petite joyeuse pâques fatigué chat maison mangé sûr problème "
        "venez"
    ),
    "German": _words(
        "im ins aus vor bis diese dieser dies geht ihnen ihr unser jetzt viel schläft kommt machen gehen "
        "der das und ist nicht ich sie wir ein eine einen einem einer mit auf für von zu dem den des auch "
        "sich wie aber oder wenn dass sind war haben hat hatte wird werden kann noch nur nach bei über "
        "mein meine dein guten tag danke bitte heute morgen sehr gut wo warum schon hier dann immer nichts "
        "etwas mehr keine kein uns ihm ihn zum zur vom beim mich dich mir dir euch heiße liebe ist's "
        "geht's abend nacht vielen wiedersehen bin bist sein seine ihre waren gibt deine müde tschüss "
        "entschuldigung straße ja nein hund haus dank gute sprechen spielt stille heilige alles geburtstag "
        "frohe weihnachten grüß gott prost schön schöne schöner schönes schönen herzlichen glückwunsch "
        "wochenende glück später willkommen natürlich freude deutschland appetit doch ganz wenig klein "
        "groß kinder mädchen leben freund freunde zusammen klar frohes neues jahr prosit auto kostet "
        "wohnst komme ruhe hunger wasser schnell mutter"
    ),
    "Spanish": _words(
        "quiero puedo hace hacer comer ir vamos bueno buena noche tarde noches dónde cuándo sobre entre "
        "sin el los las una y es son en con por para que no se lo su sus más pero como está estoy muy hola "
        "gracias qué cómo también yo tú usted nosotros ellos hay fue ser tiene tengo mi del al este esta "
        "eso donde cuando porque todo todos buenos buenas días hoy bien mucho aquí ahora sí señor la de un "
        "me te nos les mis tus nuestro nuestra llamo llama gusta quiere hablo habla hasta luego mañana "
        "muchas muchos adiós feliz favor come vive eres somos están había ella él casa amo tardes navidad "
        "cumpleaños perdón salud bienvenidos bienvenido claro felicidades próspero año años felicidad "
        "siento tal señores señoras corazón vemos nada besos playa amor amigo cansado número niño nunca "
        "siempre cuánto cuesta pascuas felices nuevo hambre agua caramba vivo hermano estudia dinero"
    ),
    "Italian": _words(
        "sul sulla sui nello ai agli degli stai sta questi quello vorrei andiamo il gli lo una è sono con "
        "per che non di della del delle dei nel nella ma anche come questo questa ciao grazie buongiorno "
        "io tu lui lei noi voi loro ho hai ha molto più tutto tutti perché quando dove sei siamo mio mia "
        "suo sua oggi bene dal alla alle cosa essere fatto la un mi ti ci si chiamo parlo parli capisco "
        "voglio vuoi buona sera notte arrivederci mille mangia dorme abito vivo stanno quale quanto nostro "
        "nostra casa gatto cane amo abiti buon scusi caldo fame auguri tanti natale compleanno favore "
        "scusa prego volare cantare dispiace felice anno nuovo vabbene salve piacere domani ieri sempre "
        "benvenuti benvenuto tardi dell' all' nell' dall' sull' l' ragazzi ragazza amore costa pasqua "
        "acqua soldi ragazzo buone feste a"
    ),
    "Portuguese": _words(
        "quero posso fazer boa noite tarde sem sobre entre muita até os uma e é são em com por para que "
        "não se mais mas como está muito olá obrigado obrigada você eu ele ela nós eles do da dos das no "
        "na nos nas ao um foi ser tem tenho meu minha seu sua isso isto quando onde porque também bom dia "
        "hoje bem aqui agora sim o me te lhe meus minhas falo fala gosto quer dorme chamo obrigados tchau "
        "amanhã vai vou estão nome fica amo tudo feliz natal parabéns desculpe desculpa logo licença "
        "aniversário saudade coração ação saudades beijos amor senhor gente vida beleza valeu fome água "
        "custa a"
    ),
    "Dutch": _words(
        "de zit gaat er zo wij hoe wat moet komt goede het een en zijn niet ik je jij hij zij van met voor "
        "op dat die deze maar ook als naar bij hebben heeft wordt kan nog wel geen mijn jouw goedemorgen "
        "hallo dank u waar waarom heel goed vandaag hier dan altijd iets meer uit over aan jou hou heb ben "
        "bent naam spreek spreekt graag dag goedenavond ziens wil wilt zal zullen onze ons hun haar veel "
        "weet huis hond tot alsjeblieft morgen gefeliciteerd fijne gelukkig nieuwjaar slaap lekker eet "
        "smakelijk welkom dankjewel doei alstublieft sorry proost kerst verjaardag mooi mooie avond nacht "
        "jongen meisje honger drinkt prettige kerstdagen hoeveel kost kat straks hoor"
    ),
    "Swedish": _words(
        "och är inte jag du han hon vi ni det den ett en som på med för av till men också har hade kan ska "
        "från om mycket hej tack idag god morgon varför var här där nu bra heter älskar mig dig oss mår "
        "säger vill gillar hur vad vem godnatt snälla varsågod kommer går mitt din ditt natt talar jul "
        "grattis födelsedagen förlåt skål kärlek så leva må ses imorgon välkommen ursäkta trevligt ja nej "
        "kostar hungrig katten vatten fan jättebra"
    ),
    "Danish or Norwegian": _words(
        "og er ikke jeg du han hun vi det den et en som på med for av af til men også har hadde havde kan "
        "skal fra om meget hei hej takk tak dag god morgen hvorfor hvor her der nå nu bra godt hedder "
        "heter elsker mig meg dig deg os oss hvordan hvad hva hvem mange vil går kommer taler snakker "
        "velkommen mit min din dit jul gratulerer dagen tillykke fødselsdagen glædelig maten tusen "
        "unnskyld undskyld ses skål vær så vennligst hyggelig beklager ønsker koster sulten hunden katten "
        "nytår nyttår løper vand"
    ),
    "Polish": _words(
        "i w na nie się jest są to że z do jak co ale czy dla tak przez był była dzień dobry dziękuję "
        "bardzo ja ty on ona my wy oni mój moja dziś tutaj gdzie dlaczego po od ich jego cię mnie mam "
        "mówię kocham nazywam imię ma widzenia proszę przepraszam cześć będzie może polsku wesołych świąt "
        "sto lat dobranoc zdrowie szczęśliwego nowego roku dziękujemy wieczór smacznego pozdrawiam miło "
        "jutro ile kosztuje kot pije głodny jestem woda świetnie kurczę"
    ),
    "Czech or Slovak": _words(
        "a je se na že to v s z do jak ale jsem jsou není ve pro tak byl byla dobrý den děkuji velmi já ty "
        "on ona my můj moje dnes tady kde proč som nie veľmi mě tě mám máš jmenuji děkuju ahoj prosím "
        "miluji dobré ráno jaký jste jsi nejsem mluvím ďakujem shledanou veselé vánoce dobrou noc dobrá "
        "ľúbim promiňte vítejte večer nashledanou zdraví šťastný nový rok čau kolik stojí velikonoce kočka "
        "pije hlad voda cestu"
    ),
    "Turkish": _words(
        "ve bir bu da de için çok ne var yok değil ben sen biz siz ile gibi daha ama merhaba teşekkür "
        "ederim nasıl nerede bugün iyi günler evet hayır olan olarak seni seviyorum teşekkürler günaydın "
        "adım benim senin çocuk kedi dünya lütfen oldu nasılsın nasılsınız geceler hoş geldiniz geldin "
        "hoşça kal kolay gelsin doğum günün kutlu olsun misin misiniz selam güle güzel güzelsin akşamlar "
        "tamam abi benimle efendim bayramlar canım kadar acıktım su buyurun bayramınız istiyorum"
    ),
    "Romanian": _words(
        "și este nu la cu pe de din un o care sunt mai ce dar eu tu el ea noi bună ziua mulțumesc foarte "
        "astăzi unde te iubesc mult vă rog îmi mea meu ești pentru când bine seara dimineața revedere faci "
        "noapte crăciun fericit ani sărbători fericite salut drag ai venit mulți cât costă foame paște "
        "poftim apă"
    ),
    "Hungarian": _words(
        "az és nem van egy hogy ez is én te ő mi ti meg de vagy jó napot köszönöm nagyon ma hol miért szia "
        "szeretlek reggelt szépen jól kérem igen beszélek vagyok mint csak lesz volt viszontlátásra boldog "
        "születésnapot éjszakát egészségedre egészség köszi sziasztok estét karácsonyt bocsánat macska "
        "éhes mennyibe kerül iszik víz kívánok kellemes nincs"
    ),
    "Finnish": _words(
        "ja on ei se että hän olen minä sinä me te he tämä mutta myös kun hyvää päivää kiitos paljon tänään "
        "missä miksi rakastan sinua hyvä huomenta anteeksi kissa koira nimeni sinun minun kuinka mitä ovat "
        "kuuluu näkemiin joulua yötä moi hei terve tervetuloa kiitti hauskaa iltaa onnea"
    ),
    "Indonesian or Malay": _words(
        "yang dan di ini itu dengan untuk tidak saya kamu dia kami mereka ada akan dari ke pada juga "
        "selamat pagi terima kasih apa kabar sudah bisa cinta nama anda baik bagaimana malam siang orang "
        "rumah satu jumpa sampai aku sama-sama tolong maaf permisi datang tinggal tidur makan jalan sakit "
        "kunjungan sayang cantik lapar berapa harganya suka hari raya air mana makasih"
    ),
    "Vietnamese": _words(
        "và là của không có tôi bạn anh chị này đó được cho với một những xin chào cảm ơn rất tên đang "
        "người trong tạm biệt chúc mừng năm mới yêu em buổi sáng"
    ),
    "Afrikaans": _words(
        "goeie baie dankie môre gaan dit hoe lief jou ek nie asseblief totsiens lekker goeiemôre "
        "goeienaand is honger hoeveel kos"
    ),
    "Icelandic": _words(
        "góðan daginn góða nótt takk fyrir gleðileg jól hvað segirðu elska þig bless sjáumst halló ekki og "
        "ég þú hvernig hefur gott kvöld vinsamlegast tala kostar þetta gleðilegt"
    ),
    "Estonian": _words(
        "tere hommikust aitäh kuidas läheb palun head ööd armastan sind jah ei nägemist õhtust tänan "
        "päevast ma sina olen kus maksab häid jõule vesi kas räägin"
    ),
    "Latvian": _words(
        "labdien labrīt paldies sveiki kā tev iet lūdzu es tevi mīlu redzēšanos labvakar un ir jums mēs "
        "nav esmu kāda cik maksā priecīgus ziemassvētkus kur runāju"
    ),
    "Lithuanian": _words(
        "labas laba diena kaip sekasi rytas ačiū viso gero labanakt aš tave myliu prašau sveikas sveiki "
        "iki yra esu taip vakaras kiek kainuoja tai linksmų kalėdų kur kalbu labai"
    ),
    "Serbian, Croatian or Slovene": _words(
        "dobro jutro kako si ste dobar dan dober hvala lepa doviđenja laku noć volim te živjo živio živeli "
        "šta ima molim rad lahko noč sretan božić ljubavi lijepo lepo prosim nasvidenje zdravo bok što "
        "gdje kje dobra večer veče dobrodošli srećan srećna nova godina oprostite izvinite jeste nije "
        "nisam koliko košta gde mačka pije govorim uskrs voda vam slovensko"
    ),
    "Albanian": _words(
        "përshëndetje mirëdita faleminderit tungjatjeta suksesë ndihmë të dua natën mirë mirupafshim është "
        "unë jam mirëmëngjes flas kushton gëzuar krishtlindjet sa shqip"
    ),
    "Irish or Scottish Gaelic": _words(
        "sláinte dia duit dhuit conas atá tú slán abhaile raibh maith agat agaibh nollaig breá liom ciamar "
        "tha thu madainn mhath oidhche fáilte céad míle tapadh leat tá cá bhfuil orm ocras an leithreas"
    ),
    "Welsh": _words(
        "bore da diolch yn fawr sut mae croeso iechyd nadolig llawen rwy'n garu di cymru nos hwyl wlad "
        "nhadau penblwydd hapus prynhawn shwmae dw in +maer ble hoffi"
    ),
    "Basque": _words("egun eskerrik asko kaixo maite zaitut agur mesedez ongi etorri arratsalde"),
    "Catalan or Galician": _words(
        "dia nit moltes gràcies bona t'estimo nadal bos días moitas grazas quérote adéu siusplau "
        "benvinguts feliç visca bó graciñas tinc gana quant això fame teño soc vull"
    ),
    "Filipino": _words(
        "kumusta kamusta magandang umaga gabi hapon salamat po mahal kita maligayang pasko paalam ako ikaw "
        "ang mga kayo opo magkano ito gutom na saan tubig ano"
    ),
    "Swahili": _words(
        "jambo habari gani asante sana hakuna matata rafiki karibu kwaheri nakupenda ninakupenda salama "
        "lala mambo tafadhali ndiyo hapana pole mzuri nzuri njaa bei nina maji wapi sijui"
    ),
    "Zulu or Xhosa": _words(
        "sawubona ngiyabonga ngiyakuthanda molo enkosi kakhulu siyabonga unjani ngiyaphila sanibonani "
        "hamba kahle ngilambile malini kubiza yebo"
    ),
    "Hausa, Yoruba or Igbo": _words("sannu gode ina kwana bawo ẹ káàárọ̀ nnọọ daalụ nifẹ kedu yaya dai"),
    "Tswana or Sotho": _words("dumela ke leboga lumela kealeboga"),
    "Esperanto": _words("saluton dankon kiel vi fartas bonan tagon nokton mi amas vin estas bonvolu"),
    "Latin": _words(
        "salve salvete quid agis gaudeamus igitur gratia plena pater noster qui caelis sancta dominus "
        "vobiscum gloria deo sic est sunt amor omnia vincit ego sum nihil nunc"
    ),
    "Japanese": _words(
        "konnichiwa genki desu ka arigatou arigato gozaimasu ohayou ohayo konbanwa watashi wa sumimasen "
        "hajimemashite oyasumi nasai ganbatte kudasai aishiteru itadakimasu daijoubu daijobu moshi gomen "
        "sugoi kawaii doumo onegaishimasu anata boku ikimasu shimasu masu suki baka hai omae shindeiru mou "
        "nani onaka ikura doko ga no namae suita mizu kore sore wakarimasen daisuki"
    ),
    "Chinese": _words(
        "ni hao xie xiexie nǐ hǎo xièxiè zaijian zai jian wo ai wǒ ài zao shang shanghao duibuqi gong xi "
        "cai bu keqi xièxie zàijiàn péngyou xin nian kuai sheng ri gongxi duo shao qian jiao shenme mingzi "
        "shi hen haochi"
    ),
    "Korean": _words(
        "annyeonghaseyo annyeong annyeonghi gamsahamnida saranghae saranghaeyo mianhae mianhamnida "
        "kamsahamnida juseyo hamnida eotteohge jinaeseyo oppa hwaiting daebak aigoo yeoboseyo baegopayo "
        "eolmaeyo mwoyeyo jal"
    ),
    "Thai": _words("sawasdee sawatdee sawadee krap krub khrap kha khop khun chan rak sabai dee mai"),
    "Russian or Ukrainian": _words(
        "zdravstvuyte zdravstvuy kak dela privet spasibo bolshoye dobroe dobroye utro do svidaniya "
        "pozhaluysta ya tebya lyublyu dyakuyu dobryi dobryy dobriy den vecher spokoynoy nochi slava "
        "ukraini heroyam pryvit da net nyet khorosho horosho menya zovut ochen poka izvinite budem "
        "zdorovye nichego chto eto duzhe dobre tak obicham blagodarya zdravei skolko stoit gde goloden "
        "vokzal ty my on kto lyubov krasivo davai"
    ),
    "Greek": _words(
        "kalimera efharisto efcharisto kalispera kalinichta kalinihta kalinykta yassas yassou geia ti "
        "kanis kaneis s'agapo se agapo parakalo antio signomi opa poso kanei pou einai agapi"
    ),
    "Hebrew": _words(
        "aleichem toda raba boker tov chaverim shlomcha shlomech laila ani ohev otach lehitraot slicha "
        "bevakasha shana tova chag sameach baruch atah adonai eloheinu melech shema yisrael todah kama ze "
        "raev eifo mayim"
    ),
    "Arabic": _words(
        "marhaba marhaban kayfa kayf haluk halak haluka shukran sabah khair khayr kheir alaykum alaikum "
        "assalamu assalamualaikum salaam ahlan sahlan inshallah masa ana uhibbuk uhibbuki habibi yalla "
        "alhamdulillah mashallah bismillah wa min afwan ismi tasharrafna ma'a salama naam maa wallah bikam "
        "hatha ayna"
    ),
    "Hindi, Urdu or Bengali": _words(
        "namaste aap kaise hain ho dhanyavaad dhanyawad shukriya theek hoon mera naam hai tum kahan kya "
        "hal haal khuda hafiz allah main tumse pyar karta karti bhai phir milenge namaskar ami tomake "
        "bhalobashi dhonnobad accha acha nahi nahin kyun kaun mujhe bahut yeh woh meri tera teri achha "
        "kaisa kaisi ek ka ki ke aur assalam bhookh lagi kitne aapka shubh diwali paani kahaan"
    ),
    "Tamil, Telugu or another language of India": _words(
        "vanakkam nandri sat sri akal kem cho nenu ninnu premistunnanu eppadi irukinga namaskaram "
        "dhanyavadalu ela unnaru majama tamaru nanni sugamano namaskara dhanyavadagalu kasa ahes"
    ),
    "Persian, Uzbek or Turkic": _words(
        "salam aleykum khoobi khoobam chetori dooset daram merci mamnoon mersi rahmat assalomu men seni "
        "sevaman yaxshimisiz xayr salom khodahafez man tora lotfan"
    ),
    "Armenian or Georgian": _words(
        "barev shnorhakalutyun gamarjoba madloba inchpes ek nakhvamdis rogora khar gaumarjos"
    ),
    "Mongolian": _words("sain baina uu bayarlalaa chamd khairtai bayartai"),
    "Hawaiian or another Polynesian language": _words(
        "kakahiaka mahalo nui loa kia ora koutou haere mai talofa bula vinaka malo lelei mālō ia oe kite "
        "ano ahiahi kākou whānau tēnā koe"
    ),
    "Kinyarwanda or another Bantu language": _words(
        "mwaramutse muraho murakoze amakuru ngiyakwamukela mwaramutseho webale oli otya"
    ),
}
# English words of the lists above: they show no language.
SHARED = _words(
    "a abi adios ai air al alla allah also am amigo amigos amis an ana and ang ano arai au aux az baka "
    "baruch bella ben bene bent bien bin bless bok bore bra cane care casa chan chance ci ciao come "
    "comment como con da dai dal dan dank dass de dee del den di dia die dies dig dir diwali do dove drag "
    "du duo ego ek ella elle encore entre este eu fa fan favor felice for ga gana garu gero gloria god "
    "gode godina gong gott gut ha habibi hal has hat hatha hay he head heel hen her hier his ho hon hoor "
    "hotel ia iki im in ina inshallah io is ja jal jam jest jian jul ka kahan kal kas kat ki kia kiel kite "
    "kore kos kost kot lagi lat leva lief llama logo ma maa mae mahal main mal mam mambo man mana mange "
    "masa mate me men met mi mia mig mille min mina mint mitt moi monde mou mult my na nada namaste nani "
    "nanni nella net ni nit no nome non nos notre nova of oh olen oli on op opa or ora orang orm os over "
    "pagi para pardon pater per plus pole pou pour prima pro rad rai raya rok sa sabah sain salaam salama "
    "sans santa sat satu saya sent sera shalom shana shi si siang sic sin sina ska so sole son sore sorry "
    "sri sto su sum sut tack tag tai tal tala tao teri thu tiene till to todo ton tutti ty uu van vand var "
    "vent vi vin vivo wa wapi war was we wil will wilt ya yaya yeh zai ze"
)
# Particles of names ("Vincent van Gogh"): they do not count before a capital letter.
PARTICLES = _words(
    "de la las los le el du des del di da do das dos der den dem van von zu y e i het al az og und et"
)
# Articles that begin a text without names only in their own language.
ARTICLES = _words("le la les un une el los las il lo gli ein eine het een o os as um uma")
ENGLISH = _words(
    "the a an of and to is are was were be been am i you he she it we they me him us them my your his her "
    "its our their this that these those in on at by for with from as into about after before over under "
    "not no yes or but if so then than there here what who when where why how which do does did done have "
    "has had will would can could should may might must shall let up down out off all any some each every "
    "one two many much more most very just only also now say said says go goes went come came get got make "
    "made know like love see saw look take good new old first last man men tell told think want please "
    "thank thanks hello hi hey day today time people never always again name called read used use using "
    "without because through between both same other another such own too still even back well while since "
    "until around during against instead within upon"
)
# Words and names with accents that English has borrowed. The others are those whose plain form is English.
LOANWORDS = _words(
    "café cafés naïve naïvely naïveté crème brûlée résumé résumés façade façades fiancé fiancée cliché "
    "clichés déjà entrée entrées à soufflé jalapeño jalapeños piñata piñatas señor señora über "
    "doppelgänger touché passé exposé protégé sauté sautéed soirée pâté château matinée blasé risqué décor "
    "mêlée crêpe crêpes éclair née coöperate rosé consommé purée maître niño mâché mañana voilà bánh mì "
    "phở brulée flambé flambéed appétit fraîche gruyère puréed outré roué émigré émigrés attaché canapé "
    "canapés quinceañera smörgåsbord fräulein führer müesli spätzle jägermeister doppelgängers caffè "
    "macramé crêperie mélange métier ménage habitué ingénue étude études châteaux forêt hôtel fête fêtes "
    "tête mètre première débutante débutantes détente élan élite gâteau gâteaux bête communiqué précis "
    "régime séance tapénade niçoise béarnaise béchamel velouté açaí piña señorita señoritas português "
    "español français ångström ångströms naïf naïfs noël noëls façon garçon crèche crèches cortège "
    "vis-à-vis gemütlich gemütlichkeit résuméd coördinate coördination reëlect reëntry zoölogy preëminent "
    "coöperation naïvety malmö göteborg köln münchen nürnberg tübingen tromsø århus győr košice plzeň pécs "
    "iași timișoara łódź kraków gdańsk wrocław brașov chișinău poznań lübeck lüneburg osnabrück "
    "saarbrücken göttingen reykjavík ísafjörður jyväskylä åland öland skåne luleå umeå örebro västerås "
    "linköping norrköping jönköping ærø ærøskøbing curaçao galápagos potosí aconcágua ribeirão niterói "
    "goiânia brasília maringá diyarbakır eskişehir muğla çanakkale iğdır ağrı erdoğan gödel schrödinger "
    "motörhead queensrÿche mbappé jokić dončić modrić đoković ibrahimović özil gündoğan löwenbräu häagen "
    "citroën škoda oréal lancôme mégane renée zoë chloë anaïs noëlle daniëlle søren jørgen bjørn ørsted "
    "mærsk jägerbomb kärcher märklin süddeutsche łukasz michał gaudí miró atlético grêmio são olé loïc noé "
    "inès izmir i̇zmir"
)
# Words of programs, which the lexicon lacks.
JARGON = _words(
    "stdin stdout stderr args kwargs init async config env repo regex json yaml utf unicode url uri api sdk "
    "varname ctype dtype atype docstring kubectl nginx npm sudo tuple dict bool str int enum cli gui"
)
# Whole texts of short words, or of words that English has, too.
WHOLE = _words("oui non nein sí sì ja nej nie hej hei ich não sim où là él") | {
    "de nada",
    "bore da",
    "va bene",
    "god jul",
    "mange tak",
    "bon dia",
    "egun on",
    "sut mae",
    "bawo ni",
    "vive la france",
    "buenos dias",
    "buenos dias a todos",
    "sto lat",
    "sto lat sto lat",
    "gong xi cai",
    "ni hao",
    "wo ai ni",
    "shalom aleichem",
    "aloha au ia oe",
    "obicham te",
}
# Names of notes, and syllables and sounds that are sung or called.
SOUNDS = _words(
    "do re mi fa là sol so la ti tra na da ba di du dum doo bum boo ta pa sha wa yo ya ho ha he hi hey ay oh "
    "ooh ah eh uh um hm mm huh hmm mhm aw ow ew wow whoa woo yeah"
)
# Phrases that English has borrowed, and names that are often written in small letters.
PHRASES = re.compile(
    r"(?i)\b(?:c'est la vie|mi casa(?: es)? su casa|m[ée]nage [àa] trois|hasta la vista|je ne sais quoi|"
    r"bon voyage|bon app[ée]tit|au revoir|carpe diem|par excellence|faux pas|la la land|du jour|au jus|"
    r"au poivre|au gratin|au lait|au pair|con carne|con leche|pico de gallo|dulce de leche|cr[èe]me de la "
    r"cr[èe]me|et\.? al|et tu|et cetera|mea culpa|sine qua non|per se|cul-de-sac|coup d'[ée]tat|en passant|"
    r"raison d'[êe]tre|joie de vivre|fait accompli|enfant terrible|los angeles|las vegas|el paso|la jolla|"
    r"el ni[ñn]o|la ni[ñn]a|lorem ipsum|cosa nostra|bona fides?|mazel tov|hakuna matata|trompe l'oeil|"
    r"la vie en rose|dolce vita|ciao bella|ave maria|moo goo gai pan|lo-fi|sic transit|veni,? vidi,? vici|"
    r"in vino veritas|cogito,? ergo sum|e pluribus unum|op\. cit|o sole mio|eine kleine nachtmusik|"
    r"così fan tutte|pi[èe]ce de r[ée]sistance|d[íi]a de (?:los )?muertos|côte d'\w+|"
    r"croque monsieur|huevos rancheros|à la|a la (?:carte|mode))\b"
)
