"""Invented Danish-looking articles: templates, word lists and made-up names, as EB-NeRD has them.

A title shows the category by its topics and the sentiment by its choice of words. Subtitle and body name most
of the entities, so that only about one in ten stands in the title.
"""

import random
from dataclasses import dataclass

from counterpoint.simulation.news.headlines import Category, Entity, write_sentence

SENTIMENTS = ("Negative", "Neutral", "Positive")


@dataclass(frozen=True)
class Article:
    """What an article says, and the entities it names, in the order of their first mention."""

    title: str
    subtitle: str
    body: str
    entities: tuple[Entity, ...]
    lead: int
    """Number of the entity that the title names first; -1: none."""


def write_article(
    chance: random.Random, place: tuple[Category, str], sentiment: int, categories: list[Category]
) -> Article:
    """Write an article of a category and subcategory in a tone: -1 negative, 0 neutral, 1 positive."""
    body_templates = chance.sample(_BODY, min(2 + int(chance.expovariate(0.25)), len(_BODY)))
    subtitles = [chance.choice(_SUBTITLES)] if chance.random() < 0.95 else []
    texts = []
    # Each sentence draws its words anew, so that bodies name many.
    for template in (chance.choice(_TITLES), *subtitles, *body_templates):
        words = _draw_words(chance, place, sentiment, categories)
        texts.append(write_sentence(template, words))
    title, mentions = texts[0]
    named = dict.fromkeys(mention.entity for _, found in texts for mention in found)
    sentences = [text for text, _ in texts[1 + len(subtitles) :]]
    return Article(
        title,
        texts[1][0] if subtitles else "",
        " ".join([*sentences, "Denne tekst er simuleret."]),
        tuple(named),
        mentions[0].entity.number if mentions else -1,
    )


def _draw_words(
    chance: random.Random, place: tuple[Category, str], sentiment: int, categories: list[Category]
) -> dict[str, tuple[str, Entity | None]]:
    category, subcategory = place
    wider = chance.choice(categories)
    topic, other = chance.sample(category.subcategories[subcategory], 2)
    if chance.random() < 0.15:
        other = chance.choice(chance.choice(list(wider.subcategories.values())))
    words: dict[str, tuple[str, Entity | None]] = {"topic": (topic, None), "other": (other, None)}
    for slot, phrases in (_SHARED | _TONES[SENTIMENTS[sentiment + 1]] | category.phrases).items():
        words[slot] = (chance.choice(phrases), None)
    for slot, own in category.entities.items():
        entity = chance.choice(own if chance.random() < 0.9 else wider.entities[slot])
        words[slot] = (entity.label, entity)
    return words


def make_categories(chance: random.Random) -> list[Category]:
    """Invent the entities of every category."""
    starts, ends = (line.split() for line in _SYLLABLES)
    invented = [start + end for start in starts for end in ends]
    chance.shuffle(invented)
    numbers = iter(range(len(invented)))

    def entities(kind: str, forms: list[str], count: int) -> list[Entity]:
        drawn = (chance.choice(forms) for _ in range(count))
        return [
            Entity(form.format(*(invented.pop() for _ in range(form.count("{}")))), kind, next(numbers))
            for form in drawn
        ]

    categories = []
    lines = iter(_VOCABULARY.strip().splitlines())
    for name, firms, events in (line.split(": ") for line in lines):
        pools = {
            "person": entities("PER", _PERSONS, 14),
            "firm": entities("ORG", firms.split(", "), 8),
            "place": entities("LOC", _PLACES, 8),
            "event": entities("EVENT", events.split(", "), 4),
        }
        phrases = {"when": next(lines).strip().split(", ")}
        topics = dict(next(lines).strip().split(": ") for _ in range(4))
        subcategories = {subcategory: phrase.split(", ") for subcategory, phrase in topics.items()}
        categories.append(Category(name, phrases, subcategories, pools))
    return categories


_SYLLABLES = (
    "Ask Bjør Brø Dal Dy Els Fæ Fjel Gå Gry Hav Høj Jæ Kal Kær Lø Mæ Mør Nø Or Præs Rav Rø Sæ Sjø Skå Sval "
    "Tår Ul Vå Vig Væ Yd Ø",
    "bak bæk berg bor da dal der dim fæl gen ger hus kil kjær lan lis lun mar næs rik sko stad strup tal vad",
)
_PERSONS = ["{} {}sen", "{} {}gaard", "{} {}holt", "{} {}lund", "{} {}høj"]
_PLACES = ["{}by", "{}rup", "{}sund", "{}ø", "Sønder {}", "Nørre {}", "{} Havn", "{} Strand"]


def _lists(text: str) -> dict[str, list[str]]:
    lines = (line.split(": ") for line in text.strip().splitlines())
    return {name: words.split(", ") for name, words in lines}


_SHARED = _lists("""
crowd: naboer, eksperter, kritikere, forskere, vælgere, unge, ældre, kunder, fagfolk, lærere, frivillige
number: tre, fem, seks, otte, ti, tolv
""")

# Verbs that take an object, announcements before one, adjectives in -e, predicates after "er" and "som".
_TONES = {
    "Negative": _lists("""
reacts: frygter, fordømmer, raser over, advarer mod, græder over, skælder ud over, angriber, begræder
exclaim: vrede over, frygt for, kaos omkring, skandale om, sorg over, krise efter, mistro til
mood: skræmmende, bitre, sørgelige, katastrofale, rystende, pinlige, håbløse, farlige
ending: en katastrofe, et mareridt, en bitter skuffelse, en skændsel, en tragedie, et nederlag, en fiasko
"""),
    "Neutral": _lists("""
reacts: taler om, undersøger, beskriver, ser nærmere på, drøfter, spørger til, sammenligner, venter på, følger
exclaim: nyt om, overblik over, spørgsmål om, debat om, rapport om, møde om, tal for
mood: almindelige, daglige, sædvanlige, nye, ukendte, officielle, årlige, mulige
ending: et spørgsmål, en vane, et punkt på dagsordenen, et tal i en rapport, et emne, en mulighed
"""),
    "Positive": _lists("""
reacts: jubler over, hylder, glæder sig over, elsker, roser, fejrer, drømmer om, nyder, smiler ad, takker for
exclaim: glæde over, jubel over, begejstring for, lettelse over, stolthed over, fest for, håb efter
mood: lykkelige, strålende, fantastiske, smukke, rørende, vidunderlige, sejrrige, hjertelige
ending: en succes, en gave, en lykkelig overraskelse, en triumf, et eventyr, en sejr, en fornøjelse
"""),
}

_TITLES = [
    "{person} {reacts} {topic} {when}",
    "{person} {reacts} {topic}: {other} er {ending}",
    "{firm} {reacts} {topic}",
    "{firm} og {person} {reacts} {topic}",
    "{crowd} i {place} {reacts} {topic}",
    "{person}: {topic} er {ending}",
    "{person} fra {firm} {reacts} {other}",
    "{event}: {crowd} {reacts} {topic}",
    "{exclaim} {topic} i {place}",
    "{place}: {topic} blev {ending} for {person}",
    "{crowd} {reacts} {topic} {when}",
    "{crowd} {reacts} {topic} og {other}",
    "{exclaim} {topic}: {crowd} {reacts} {other}",
    "Den {mood} historie om {topic} og {other}",
    "{number} {mood} fakta om {topic} {when}",
    "Læserne spørger: Er {topic} {ending}?",
    "Sådan blev {topic} til {ending}",
    "{crowd} kalder {topic} for {ending} {when}",
]
_SUBTITLES = [
    "{crowd} {reacts} {other}, og {person} fra {firm} følger med.",
    "{firm} har ikke svaret på spørgsmål om {topic} {when}.",
    "Det handler om {topic}, {other} og fremtiden for {place}.",
    "{person} siger, at {other} er {ending}.",
    "{number} {mood} svar om {topic} fra {person}.",
    "I {place} er {topic} blevet {ending}.",
]
_BODY = [
    "Det begyndte med {topic} {when}.",
    "Ifølge {person} fra {firm} er {topic} {ending}.",
    "I {place} mødtes {person} og {crowd} for at tale om {other}.",
    "{firm} oplyser, at {topic} ventes at fylde mere {when}.",
    "{person} har fulgt {topic} i {number} år.",
    "Under {event} stod {person} frem og sagde, at {crowd} {reacts} {topic}.",
    "{crowd} {reacts} {other}, fortæller {person}.",
    "Både {firm} og {place} Kommune har sagt nej til at udtale sig.",
    "Sagen om {topic} kan få betydning for {event}.",
    "{person} husker de {mood} dage med {other}.",
    "Hos {firm} venter {crowd} på nyt {when}.",
    "Mange i {place} har aldrig oplevet {topic} før.",
    "Planen blev lagt af {person} {when}.",
    "{number} gange har {firm} skrevet om {topic} uden at få svar.",
]

# A category with forms of its organisations and events; when; four subcategories with their topics.
_VOCABULARY = """
nyheder: {} Beredskab, {} Kommune, {} Havnevagt, Foreningen {}: Stormen {}, Folkemøde {}, {} Dagene
  i nat, tidligt tirsdag morgen, efter weekendens regn, før helligdagene, trods advarslerne
  vejr: et kraftigt skybrud, den tørre sommer, vinterens første sne, stormfloden, en tæt tåge, lyn og hagl
  trafik: køen på motorvejen, det forsinkede tog, en lukket bro, de nye cykelstier, færgens afgang
  udland: grænsekontrollen, topmødet i nabolandet, et jordskælv, fredsforhandlingerne, flygtningestrømmen
  samfund: den lange venteliste, en ny folkeskole, frivilligt arbejde, sommerens strejke, børnehavens lukning
krimi: {} Politi, Advokathuset {}, {} Kriminalforsorg, {} Vagtværn: Operation {}, {} Sagen, Razziaen {}
  ved midnatstid, efter en biljagt, i retten mandag, bag lukkede døre, under forhøret
  indbrud: nattens indbrud, det stjålne sølvtøj, en opbrudt dør, tyvens fodspor, alarmens hylen
  retssager: den hårde dom, anklagerens bevis, et hemmeligt vidne, ankesagen, nævningenes svar
  bander: skuddene i gården, rockernes klubhus, et våbenfund, visitationszonen, hævnaktionen, bandelederen
  svindel: den falske regning, kontrabanden, en hacket netbank, hvidvasken, fupmailen, de forsvundne millioner
sport: {} Boldklub, {} Idrætsforening, {} IF, FC {}: {} Cup, Løbet {}, {} Stævnet
  før sæsonstart, efter forlænget spilletid, i de sidste minutter, foran et udsolgt stadion, på træningsbanen
  fodbold: det sene straffespark, målmandens skade, et uafgjort derby, angriberens skifte, nedrykningen
  håndbold: en playmakers comeback, stregspillerens mål, pausens timeout, bronzekampen, et kontraangreb
  cykling: bjergetapen, en massespurt, førertrøjen, styrtet i feltet, enkeltstarten, en punktering
  tennis: det skarpe servespil, en tabt tiebreak, grusbanen, matchbolden, doublefinalen, et servegennembrud
underholdning: {} Film, {} Produktion, Kanal {}, {} Plader: {} Festivalen, Showet {}, {} Prisen
  på den røde løber, efter premieren, i bedste sendetid, bag kulisserne, under ekstranummeret
  musik: et nyt album, guitarsoloen, en udsolgt turné, sangerens stemme, omkvædet, trommeslagerens afsked
  film: en dansk thriller, skuespillerens rolle, filmens slutning, et mørkt drama, instruktørens debut
  tv: finaleafsnittet, en populær quiz, værtens afløser, seertallene, danseprogrammet, en genudsendelse
  kendte: et hemmeligt bryllup, parrets nyfødte tvillinger, skilsmissen, en sløret kjole, bloggerens villa
politik: {} Partiet, {} Alliancen, Ministeriet for {}, Tænketanken {}: {} Aftalen, {} Udvalget, Loven {}
  før valget, efter et maratonmøde, i folketingssalen, på partiets landsmøde, inden sommerferien
  folketinget: finansloven, et mistillidsvotum, ministerens samråd, ordførerens tale, det tabte flertal
  valg: den tætte måling, valgplakaterne, en omtælling, partilederens duel, brevstemmerne, sofavælgerne
  kommuner: borgmesterens budget, byrådets flertal, en omstridt lokalplan, ældreplejen, grundskylden
  europa: et nyt direktiv, kommissærens besøg, landbrugsstøtten, asylreformen, kvoterne, det fælles forsvar
forbrug: {} Supermarked, {} Forbrugerråd, {} Rejser, {} Møbler: {} Tilbuddet, Messen {}, {} Mærket
  på tilbud, i kølediskens skær, før juleindkøbet, på et lille budget, ifølge en ny test
  dagligvarer: prisen på smør, en billig rugbrødsskive, kaffens pris, pantflasken, økologiske æg, kødpålægget
  bolig: en utæt kælder, huslejen, drømmekøkkenet, andelsboligens værdi, varmepumpen, et skævt gulv
  elektronik: en foldbar telefon, trådløse høretelefoner, batteriets levetid, robotstøvsugeren, en skærm
  rejser: charterturen, et forsinket fly, feriehuset ved vandet, bagagens vægt, hotellets pool, kroferien
penge: {} Bank, {} Invest, {} Pension, {} Forsikring: {} Fonden, {} Indekset, Lånet {}
  ved børsens åbning, efter regnskabet, mens renten stiger, i årets første kvartal, inden fristen
  aktier: kursfaldet, et rekordhøjt udbytte, investorernes flugt, obligationerne, en børsnotering, spekulanten
  løn: lønforhandlingen, en skjult bonus, overenskomsten, feriepengene, deltidsansattes løn
  skat: årsopgørelsen, topskatten, et glemt fradrag, restskatten, arveafgiften, momsen på bøger
  virksomheder: fyringsrunden, direktørens exit, en fusion, konkursbegæringen, eksportens vækst
sundhed: {} Hospital, {} Klinikken, {} Patienter, {} Universitet: {} Forsøget, Vaccinen {}, {} Studiet
  i influenzasæsonen, efter lægens råd, hele livet, ved næste tjek, ifølge overlægen
  kost: for meget sukker, grøntsager på tallerkenen, et proteintilskud, fasten, madpakken, kolesterolet
  træning: styrketræningen, et ømt knæ, morgenløbet, hvilepulsen, yogamåtten, svømmeturen, en fiber i læggen
  sygdom: en ny kræftmedicin, blodtrykket, migrænen, astmasprayen, vaccinen, en sjælden diagnose
  søvn: den dårlige nattesøvn, snorken, middagsluren, mobilen i sengen, en tidlig vækning, søvnmangel
biler: {} Motor, {} Auto, {} Racing, {} Værksted: {} Rallyet, Modellen {}, {} Biludstilling
  på værkstedet, i en crashtest, efter den første køretur, ved synshallen, på landevejen
  elbiler: ladestanderen, batteripakken, rækkevidden om vinteren, en eldrevet varevogn, hjemmeopladningen
  brugtbiler: en rusten bundplade, kilometertælleren, den gamle stationcar, brugtvognspriserne, tandremmen
  motorsport: et mislykket pitstop, polepositionen, rallyets sidste prøve, dækskiftet, sikkerhedsbilen
  bilister: vinterdækkene, parkeringsbøden, en fartkontrol, bremserne, tankstationen, køreprøven, nummerpladen
kultur: {} Teater, {} Museum, {} Forlag, {} Biblioteket: {} Biennalen, Udstillingen {}, Romanen {}
  på åbningsaftenen, i foyeren, efter restaureringen, før bogmessen, hele efteråret
  bøger: en prisbelønnet roman, digterens breve, biografien, en glemt novelle, lydbogen, et manuskript
  teater: monologen, et dristigt scenebillede, balletten, souffløsens hvisken, kostumerne, årets revy
  kunst: et oliemaleri, skulpturen i parken, den stjålne tegning, galleriets fernisering, en installation
  arkitektur: et nyt højhus, slottets spir, betonblokken, kirkens tårn, den fredede facade, havnebadet
"""
