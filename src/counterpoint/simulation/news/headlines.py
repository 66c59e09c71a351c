"""Invented headlines: templates, word lists and made-up names, in the columns of MIND's articles."""

import json
import random
from dataclasses import dataclass
from string import Formatter
from typing import NamedTuple


class Entity(NamedTuple):
    """Somebody or something invented: its name, its one-letter type and its number."""

    label: str
    kind: str
    number: int


class Mention(NamedTuple):
    """Where a text names an entity, and how."""

    offset: int
    surface: str
    entity: Entity


@dataclass(frozen=True)
class Category:
    """A category: its phrases, the topics of its subcategories, and its entities by kind."""

    name: str
    phrases: dict[str, list[str]]
    subcategories: dict[str, list[str]]
    entities: dict[str, list[Entity]]


def write_article(
    chance: random.Random, article: str, place: tuple[Category, str], categories: list[Category]
) -> tuple[str, int]:
    """One line of ``news.tsv``, and the number of the entity the title names first (-1: none)."""
    category, subcategory = place
    wider = chance.choice(categories)
    topic, other = chance.sample(category.subcategories[subcategory], 2)
    if chance.random() < 0.15:
        other = chance.choice(chance.choice(list(wider.subcategories.values())))
    words: dict[str, tuple[str, Entity | None]] = {"topic": (topic, None), "other": (other, None)}
    for slot, phrases in (_SHARED | category.phrases).items():
        words[slot] = (chance.choice(phrases), None)
    for slot, own in category.entities.items():
        entity = chance.choice(own if chance.random() < 0.9 else wider.entities[slot])
        words[slot] = (entity.label, entity)
    person = words["person"]
    words["surname"] = (person[0].split()[-1], person[1])

    title, mentions = write_sentence(chance.choice(_TITLES), words)
    abstract, details = "", list[Mention]()
    if chance.random() < 0.95:
        abstract, details = write_sentence(chance.choice(_ABSTRACTS) + " This story is simulated.", words)
    columns = (
        *(article, category.name, subcategory, title, abstract),
        f"https://simulated.example/news/{article}.html",
        *(_entities_json(chance, mentions), _entities_json(chance, details)),
    )
    return "\t".join(columns) + "\n", mentions[0].entity.number if mentions else -1


def write_sentence(template: str, words: dict[str, tuple[str, Entity | None]]) -> tuple[str, list[Mention]]:
    """Fill the template's slots, and tell which entities it names."""
    text, mentions = "", list[Mention]()
    for literal, slot, _, _ in Formatter().parse(template):
        text += literal
        if slot:
            surface, entity = words[slot]
            if entity:
                mentions.append(Mention(len(text), surface, entity))
            text += surface
    return text[0].upper() + text[1:], mentions


def _entities_json(chance: random.Random, mentions: list[Mention]) -> str:
    grouped: dict[Entity, list[Mention]] = {}
    for mention in mentions:
        grouped.setdefault(mention.entity, []).append(mention)
    return json.dumps(
        [
            {
                "Label": entity.label,
                "Type": entity.kind,
                "WikidataId": f"Q9000{entity.number:06d}",
                "Confidence": round(chance.uniform(0.9, 1.0), 3),
                "OccurrenceOffsets": [mention.offset for mention in found],
                "SurfaceForms": [mention.surface for mention in found],
            }
            for entity, found in grouped.items()
        ]
    )


def make_categories(chance: random.Random) -> list[Category]:
    """Invent the entities of every category."""
    starts, middles, ends = (line.split() for line in _SYLLABLES)
    invented = [start + middle + end for start in starts for middle in middles for end in ends]
    chance.shuffle(invented)
    numbers = iter(range(len(invented)))

    def entities(kind: str, forms: list[str], count: int) -> list[Entity]:
        return [
            Entity(chance.choice(forms).format(invented.pop(), invented.pop()), kind, next(numbers))
            for _ in range(count)
        ]

    categories = []
    lines = iter(_VOCABULARY.strip().splitlines())
    for name, firms, things in (line.split(": ") for line in lines):
        phrases = {slot: next(lines).strip().split(", ") for slot in ("does", "when")}
        topics = dict(next(lines).strip().split(": ") for _ in range(4))
        pools = {
            "person": entities("P", ["{} {}"], 12),
            "firm": entities("O", [f"{{}} {ending}" for ending in firms.split(", ")], 8),
            "place": entities("G", _PLACES, 8),
            "thing": entities("C", [f"{{}} {ending}" for ending in things.split(", ")], 6),
        }
        subcategories = {subcategory: phrase.split(", ") for subcategory, phrase in topics.items()}
        categories.append(Category(name, phrases, subcategories, pools))
    return categories


_SYLLABLES = (
    "Bal Cor Dra Fen Gal Hul Jor Kel Lor Mav Nor Pel Quin Ros Sil Tor Ulv Ver Wen Yar Zan",
    "a e i o u an el ir",
    "ck dan lis mere nor rick sen ska tan thel vane vik wen zar",
)
_PLACES = ["Port {}", "Lake {}", "North {}", "{} Bay", "{}ville", "{}burg", "{} Valley"]

_SHARED = {
    "number": ["3", "5", "7", "10", "12", "20"],
    "odd": ["surprising", "quiet", "costly", "remarkable", "bitter", "long-awaited", "unusual", "simple"],
    "asks": ["asks", "wonders", "wants to know", "explains", "remembers", "reveals"],
    "crowd": ["fans", "neighbors", "experts", "critics", "families", "officials", "locals"],
}

_TITLES = [
    "{person} {does} {topic} {when}",
    "{person} {does} {topic} in {place}",
    "{firm} {does} {topic} {when}",
    "{firm} {does} {topic} as {crowd} look on",
    "{place} {crowd} split over {topic} {when}",
    "{number} things to know about {topic} in {place}",
    "{number} {odd} facts about {topic} and {other}",
    "How {person} turned {topic} into {other}",
    "Why {crowd} keep talking about {topic} {when}",
    "What {topic} means for {firm} and {place}",
    "What {person} said about {topic} {when}",
    "{thing} brings {topic} back to {place}",
    "The {odd} story behind {topic} at the {thing}",
    "Is {topic} worth it? {person} {asks} {when}",
    "{topic} and {other}: the {odd} week of {firm}",
    "Opinion: {firm} should stop worrying about {topic}",
    "{crowd} cheer as {person} {does} {topic}",
    "Photos: {topic} {when} in {place}",
    "{person} leaves {firm} over {topic}",
    "The {odd} guide to {topic} and {other} {when}",
    "From {topic} to {other}: inside the {thing}",
    "{firm} and {person} at odds over {topic}",
    "{number} ways {crowd} deal with {topic} {when}",
]
_ABSTRACTS = [
    "{person} {does} {topic} {when}. {surname} told {crowd} in {place} that {other} came as no surprise.",
    "{firm} {does} {topic}, and {crowd} wonder about {other}. {firm} has not commented.",
    "{crowd} in {place} have followed {topic} {when}.",
    "It began with {topic} {when}. Now {person} of {firm} {does} {other}.",
    "A closer look at {topic}, {other} and what {person} makes of the {thing}.",
]

# A category with its endings for organisations and things; what is done there; when; four subcategories.
_VOCABULARY = """
sports: Rovers, United, Athletic, Wanderers: Cup, Open, Trophy
  celebrates, shrugs off, trains through, fears, coaches around
  before the season opener, after overtime, in the final minutes, ahead of the playoffs, on match day
  football: a late penalty, the goalkeeper injury, a derby draw, the striker transfer, relegation
  tennis: a straight-set win, the second serve, a clay-court upset, match point, the doubles final
  basketball: a buzzer beater, the rookie point guard, a triple-double, the draft pick, free throws, a dunk
  cycling: the mountain stage, a sprint finish, the yellow jersey, a crash in the peloton, time trials
politics: Party, Alliance, Ministry, Council: Act, Accord, Commission
  campaigns against, votes on, vetoes, defends, denounces
  ahead of the election, after a marathon session, before the recess, at the party convention, in parliament
  elections: the ballot recount, early voting, a poll lead, the primary debate, campaign donations, a runoff
  diplomacy: the peace talks, a trade treaty, new sanctions, the border summit, an ambassador recall
  lawmaking: the budget bill, a filibuster, tax reform, the voting rights bill, a committee vote, an amendment
  localgovernment: the mayor race, a zoning dispute, the school board, property taxes, a bus lane plan
finance: Bank, Capital, Holdings, Insurance: Fund, Index, Bond
  invests in, warns of, bets against, prices in, profits from
  before the opening bell, after quarterly earnings, amid rising rates, as markets slide, this fiscal year
  markets: a stock rally, bond yields, the market selloff, a dividend cut, futures trading, short sellers
  personalfinance: credit card debt, retirement savings, a mortgage refinance, student loans
  realestate: home prices, a rent increase, the housing shortage, open houses, an office vacancy
  companies: a merger offer, the chief executive's exit, mass layoffs, a bankruptcy filing, record revenue
technology: Systems, Software, Robotics, Networks: Phone, Tablet, Assistant
  unveils, patches, reverse-engineers, ships, programs
  at the developer conference, in the latest update, after a data leak, ahead of the product launch, in beta
  gadgets: a folding screen, wireless earbuds, battery life, the smartwatch, a phone camera, a laptop keyboard
  software: a security flaw, the app store, a browser extension, an open-source library, cloud storage
  artificialintelligence: a chatbot, machine learning, face recognition, neural networks, training data
  gaming: a console release, the game trailer, an esports final, a puzzle game, virtual reality
science: Institute, Laboratory, University, Observatory: Telescope, Probe, Expedition
  measures, discovers, models, publishes data on, disproves
  in a new study, after decades of research, under the microscope, at the annual meeting, in peer review
  space: a distant galaxy, the lunar lander, a meteor shower, the rocket launch, a black hole, Martian dust
  nature: a rare orchid, whale migration, the coral reef, wolf packs, a new beetle species, songbirds
  physics: dark matter, a particle collider, quantum entanglement, superconductors, gravitational waves
  archaeology: a bronze sword, the buried temple, ancient pottery, a cave painting, a royal tomb
health: Clinic, Hospital, Foundation, Therapeutics: Trial, Registry, Vaccine
  treats, studies, recovers from, raises awareness of, screens for
  during flu season, after a clinical trial, before your next checkup, according to doctors, in midlife
  nutrition: vitamin deficiency, a low-sugar diet, fasting, protein intake, gut bacteria, cholesterol
  fitness: strength training, a morning stretch, knee pain, a marathon plan, yoga, resting heart rate
  medicine: a cancer drug, the flu vaccine, high blood pressure, an asthma inhaler, heart surgery, antibiotics
  mentalhealth: burnout, anxiety, a sleep disorder, seasonal depression, mindfulness, grief counseling
foodanddrink: Kitchen, Bakery, Brewery, Bistro: Cookbook, Cheese, Chili
  cooks with, perfects, taste-tests, seasons, serves
  for a weeknight dinner, at the farmers market, on the new menu, this holiday season, in under an hour
  recipes: a slow-cooker stew, sourdough bread, roasted vegetables, a one-pan chicken, lemon pasta
  restaurants: a tasting menu, the food truck, a seafood grill, brunch, the burger joint, a noodle bar
  drinks: cold brew coffee, a craft beer, red wine, herbal tea, a gin cocktail, oat milk
  desserts: chocolate cake, an apple pie, ice cream, caramel cookies, a cheesecake, cinnamon rolls
travel: Airways, Resorts, Cruises, Railways: Trail, Express, Lodge
  flies to, books, reviews, packs for, gets lost on
  on a budget, in the off-season, over the long weekend, without the crowds, before boarding
  flights: airport security, a layover, seat upgrades, lost luggage, jet lag, frequent flyer miles
  hotels: a beach resort, the hotel minibar, a treehouse stay, late checkout, a rooftop pool, hostel bunks
  destinations: a volcanic island, the old town, a desert road trip, hidden waterfalls, vineyards
  outdoors: a hiking trail, the national park, a camping trip, kayaking, a glacier walk, wildflower meadows
autos: Motors, Automotive, Garage, Racing: Roadster, Pickup, Coupe
  test-drives, recalls, restores, tunes, crashes
  at the auto show, in a crash test, on the racetrack, with fewer moving parts, at the dealership
  electriccars: a charging station, the battery pack, driving range, an electric truck, a hybrid engine
  classiccars: a barn find, the vintage convertible, chrome bumpers, an old station wagon, a muscle car
  motorsport: the pole position, a pit stop, the rally stage, tire wear, a safety car, the final lap
  driving: winter tires, gas mileage, a parking ticket, traffic jams, brake pads, lane assist
movies: Pictures, Studios, Films, Cinemas: Chronicles, Saga, Returns
  directs, stars in, rewrites, premieres, narrates
  at the film festival, on opening weekend, before the end credits, in the director's cut, on the red carpet
  drama: a courtroom drama, the period romance, a lead actress, an award-winning script, a war epic, a remake
  comedy: a stand-up special, the buddy comedy, slapstick, a wedding farce, deadpan humor, a sitcom reunion
  horror: a haunted house, the slasher sequel, a zombie movie, jump scares, a vampire film, found footage
  animation: a cartoon sidekick, stop motion, the animated musical, voice actors, a talking fox, storyboards
music: Records, Orchestra, Quartet, Collective: Tour, Album, Nocturne
  records, sings about, remixes, conducts, writes songs about
  on the new album, at a sold-out show, during soundcheck, after the encore, on vinyl
  pop: a chart-topping single, the dance remix, a boy band, the halftime show, a catchy chorus, synthesizers
  classical: a piano sonata, the string section, an opera debut, a violin concerto, choir practice, a symphony
  rock: a guitar solo, the reunion gig, a drum kit, punk lyrics, the mosh pit, a bass riff
  hiphop: a freestyle battle, the mixtape, turntables, a rap verse, sampled beats, the producer credit
weather: Weather, Meteorology, Forecasts, Rescue: Storm, Front, Hurricane
  forecasts, tracks, braces for, digs out from, measures
  through the weekend, before dawn, along the coast, in the coming days, as temperatures drop
  storms: a tornado warning, heavy thunderstorms, gale-force winds, large hail, a hurricane landfall
  winter: a blizzard, black ice, record snowfall, wind chill, frozen pipes, a snow day
  heat: a heat wave, the drought, wildfire smoke, record highs, dry wells, a humid night
  flooding: a flash flood, river levels, storm surge, the burst levee, soaked basements, monsoon rain
"""
