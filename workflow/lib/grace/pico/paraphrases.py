"""Random stimuli in many wordings: what pico is trained on.

Every call makes a real trial of a study, with a story, names, things, goals and sentences drawn
from small grammars. Some words are invented on the spot, so that a model must read the sentence's
structure and cannot lean on known nouns. Nothing here is taken from a stimuli file, bundled or
published; those stay unseen in training.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from grace.pico.trained_on import GOALS as GOAL_LABELS
from grace.pico.trained_on import study
from grace.studies.trials import Trial

#: The cells of study 1: (access, observe).
CELLS = ((1, 1), (2, 1), (2, 2), (3, 1), (3, 2), (3, 3))


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


_NUMBER_WORDS = {1: "one", 2: "two", 3: "three"}
_ONSETS = _words("b br c ch d dr f fl g gl gr h j k kl l m n p pl pr qu r s sh sk sl st t tr v w z")
_VOWELS = _words("a e i o u ai ea ee oo ou")
_CODAS = ["", "", "b", "ck", "d", "l", "ll", "m", "n", "nd", "nt", "p", "r", "rn", "sk", "st", "t"]
_NAMES = _words(
    "Aaron Abena Ada Adam Aisha Alan Alice Amir Amy Andre Anita Anna Anton Arjun Beth Bianca Boris "
    "Brian Bruno Caleb Carl Carla Carmen Cleo Clara Daniel Daria David Deepa Derek Dora Dylan "
    "Edith Elena Eli Elif Elsa Eric Esther Eva Farid Felix Flora Freya Gina Gita Hana Hannah Hugo "
    "Ian Ibrahim Ida Igor Ines Irene Isaac Ivan Ivy Jack Jamal Jane Joan Jonas Jorge Judy Julia "
    "Kai Kate Keiko Kofi Lara Lars Lea Leo Liam Lila Lina Louis Luca Luis Lydia Magda Maria Marta "
    "Max Maya Mei Mila Milo Mina Mona Musa Nadia Naomi Nina Noah Nora Olga Omar Oscar Otto Pablo "
    "Paul Paula Pedro Petra Phil Priya Quinn Rahul Ravi Rita Rosa Ruth Sam Samir Sandra Sara Selma "
    "Simon Sofia Sonia Stella Sven Tara Theo Tina Tobias Uma Vera Viktor Walter Yara Yusuf Zoe"
)
_THINGS = _words(
    "apple backpack bag balloon barrel basket battery bike bill bird boat book bottle bowl box "
    "bread bridge bucket bulb bus button cactus cake camera candle canoe car card carpet cat chair "
    "check clock coat coin computer contract crate cup curtain dog door drawer drill drone egg "
    "engine envelope fence fern file fish flower folder form fridge game garden gate gift glass "
    "glove guitar hat hen hive horse house invoice jacket jar jug kettle key kite kitten ladder "
    "lamp laptop leaf lemon lens lid light lock machine map medal melon mirror mug mushroom "
    "nest notebook nut onion orange order oven package page paper parcel pear pen pepper photo pie "
    "pill pipe plant plate plug poster pot potato printer pump puppy quilt radio receipt "
    "recipe report ring robot roof room rope rose sample sandwich scarf screen shell shirt shoe "
    "sock sofa spoon stamp statue stone stove suitcase table tank tape tent test tie tomato toy "
    "train tray tree truck tube tyre umbrella van vase violin wallet watch wheel whistle window "
    "worker student player pupil runner swimmer guest patient customer singer"
)
_IRREGULAR = {"leaf": "leaves", "shelf": "shelves", "tomato": "tomatoes", "potato": "potatoes"}
_MASS = _words(
    "air beetles blossoms bubbles butter chocolate cracks cream dents dust errors fillings flour "
    "fresh_paint glitter gold holes honey ink jam keys labels leaks letters lights lint mould moss "
    "mud notes nuts oil patches pips pollen prizes rust salt sand scratches seeds signatures "
    "snails spare_parts splinters spots stains stamps stickers stripes sugar tags tears thorns "
    "typos water wax wings worms wrinkles"
)
_ADJECTIVES = _words(
    "blue broken clean cold complete correct cracked damaged dirty dry dusty empty fake finished "
    "fresh frozen full green heavy hollow late light loose lost missing new old open orange paid "
    "perfect pink purple ready red ripe rotten round rusty safe sealed sharp signed silver small "
    "soft sour spicy square stuck sweet torn valid warm wet white wrong yellow"
)
_PARTICIPLES = _words(
    "arrived bloomed broken burst changed closed collapsed cracked crashed dried expired faded "
    "fallen failed finished frozen germinated grown hatched healed leaked left melted moved opened "
    "passed popped recovered ripened risen rusted settled shrunk sold split started stopped "
    "survived swollen turned wilted woken"
)
_VERBS = (
    ("contain", "contains"),
    ("carry", "carries"),
    ("hold", "holds"),
    ("show", "shows"),
    ("need", "needs"),
    ("include", "includes"),
    ("lack", "lacks"),
    ("hide", "hides"),
)
_INTRANSITIVE = (
    ("work", "works"),
    ("float", "floats"),
    ("glow", "glows"),
    ("leak", "leaks"),
    ("squeak", "squeaks"),
    ("fit", "fits"),
    ("ring", "rings"),
    ("smell", "smells"),
    ("sing", "sings"),
    ("bend", "bends"),
)
_OFTEN = (
    "almost always",
    "nearly always",
    "usually",
    "mostly",
    "very often",
    "typically",
    "as a rule",
    "in most cases",
    "often",
    "practically always",
    "generally",
    "tend to",
    "regularly",
    "with few exceptions",
)
_TIMES = (
    "today",
    "yesterday",
    "this morning",
    "last week",
    "last night",
    "on Monday",
    "on Friday",
    "a few days ago",
    "four days ago",
    "5 days ago",
    "an hour ago",
    "earlier this week",
    "in the spring",
    "for the weekend",
    "at noon",
    "in 2019",
)
_AMOUNTS = (
    "one",
    "one",
    "two",
    "two",
    "three",
    "four",
    "five",
    "ten",
    "1",
    "2",
    "2",
    "3",
    "4",
    "6",
    "12",
)
_UNITS = ("day", "night", "hour", "week", "minute", "month", "summer", "year", "session")
#: Remarks with a number that has nothing to do with what was looked at or found.
_ASIDES = (
    "after {n} {adjective} {units}",
    "after {n} {units}",
    "within {n} {units}",
    "before {n} {units} have passed",
    "for {n} {units}",
    "with {n} {adjective} {others}",
    "next to {n} {others}",
    "in {n} {others}",
    "for {n} euros",
    "on page {n}",
    "in room {n}",
    "with {n} friends",
)
_ACQUIRED = (
    "bought",
    "got",
    "ordered",
    "found",
    "collected",
    "picked up",
    "was sent",
    "was given",
    "received",
    "brought home",
    "chose",
    "set aside",
    "took in",
    "unpacked",
    "has to deal with",
    "is responsible for",
    "must sort",
    "owns",
    "needs to inspect",
    "wants to fix",
    "has just put away",
    "handed in",
    "placed",
    "is looking after",
    "borrowed",
    "won",
)
_JOBS = (
    "the gardener",
    "the baker",
    "a teacher",
    "your neighbour",
    "the mechanic",
    "a nurse",
    "the chemist",
    "your colleague",
    "a farmer",
    "the engineer",
)
_SOURCES = (
    "from the {x} company",
    "from {X}",
    "in {X}",
    "made by {X}",
    "of the {X} kind",
    "of this sort",
    "at the {x} shop",
    "in {name}'s shop",
    "in {name}'s class",
    "from the old market",
    "sold by {X}",
    "that grow near {X}",
    "in the advanced {x} course",
    "sent to {name}'s firm",
)
_SAYS = (
    "{name} calls you and says",
    "{name} says",
    "{name} calls",
    "On the phone, {name} says",
    "On the telephone {name} tells you",
    "{name} rings you up and says",
    "{name} writes to you",
    "{name} sends you a message",
    "{name} reports",
    "{name} tells you",
    "{name} lets you know by phone",
    "{name} phones you and reports",
    "Then {name} tells you in a call",
    "{name} informs you by mail",
    "In a text message, {name} writes",
    "{name} turns to you and says",
    "{name} comes back and says",
    "{name} leaves a note",
    "A message from {name} reads",
    "{name} shouts across the room",
    "{name} explains",
)
_LOOKED = (
    "I have checked",
    "I've checked",
    "I checked",
    "I looked at",
    "I've looked at",
    "I had a look at",
    "I have had a look at",
    "I have examined",
    "I examined",
    "I have inspected",
    "I inspected",
    "So far I have seen",
    "So far I've looked at",
    "Up to now I have tested",
    "I have gone through",
    "I went through",
    "I managed to check",
    "I have opened",
    "I have looked over",
    "I have been able to see",
    "I took a look at",
    "By now I have looked into",
    "I have studied",
    "I tested",
    "I tried",
    "I opened",
    "I opened up",
    "I unwrapped",
    "I took apart",
    "I weighed",
    "I measured",
    "I read",
    "I counted",
    "I turned over",
    "I broke open",
    "I picked up",
    "I have now tried out",
    "I have watched",
    "I washed",
    "I lifted",
    "I held up",
)
_ACCESS = (
    "{look} {a} of the 3 {things}. ",
    "{look} {a} of the 3 {things}. ",
    "{look} {a} of the 3 {things}. ",
    "{look} {a} of the 3. ",
    "{look} {a} of my 3 {things}. ",
    "{look} {a} of them. ",
    "{look} {a} out of 3 {things}. ",
    "{look} {a} of the three {things}. ",
    "{look} {a} of the 3 {things}, and ",
    "{look} {a} of the 3 {things}; ",
    "{look} {a} of the 3 {things}: ",
    "Of the 3 {things}, {look} {a}. ",
)
_OBSERVE = (
    "{o} of the {things} {p}",
    "{o} of the {things} {p}",
    "{o} of the {things} {p}",
    "{o} of them {p}",
    "{o} of these {things} {p}",
    "{o} {thing_or_things} {p}",
    "{o} {p}",
    "{o} of those {p}",
    "I found that {o} of the {things} {p}",
    "It turns out that {o} of them {p}",
    "I can say that {o} of the {things} {p}",
)
_PRIOR = (
    "How many of the 3 {things} do you think {p}?",
    "How many of the 3 {things} do you expect {p}?",
    "How many of the 3 {things} do you believe {p}?",
    "Before hearing more: How many of the 3 {things} do you think {p}?",
    "What is your guess? How many of the 3 {things} do you believe {p}?",
)
_POSTERIOR = (
    "How many of the 3 {things} do you now believe {p}?",
    "How many of the 3 {things} do you now think {p}?",
    "Taking this into account, how many of the 3 {things} do you believe {p}?",
    "And now: how many of the 3 {things} do you think {p}?",
    "After what {name} said, how many of the 3 {things} do you believe {p}?",
    "Given this, how many of the 3 {things} do you think {p}?",
    "Having heard {name}, how many of the 3 {things} do you expect {p}?",
)
_KNOWS = (
    "Do you think that {name} can tell exactly how many of the 3 {things} {p}?",
    "Do you think {name} is certain how many of the 3 {things} {p}?",
    "Do you believe that {name} knows exactly how many of the 3 {things} {p}?",
    "Does {name} know exactly how many of the 3 {things} {p}?",
    "Does {name} know for certain how many of the 3 {things} {p}?",
    "Would you say that {name} knows the exact number of {things} that {p}?",
    "Is {name} in a position to know precisely how many of the 3 {things} {p}?",
    "Can {name} be sure how many of the 3 {things} {p}?",
    "In your view, does {name} know just how many of the 3 {things} {p}?",
)


def invented_word(rng: random.Random) -> str:
    """A word that is in no dictionary, such as `drailpook`."""
    return "".join(
        rng.choice(_ONSETS) + rng.choice(_VOWELS) + rng.choice(_CODAS)
        for _ in range(rng.randint(1, 3))
    )


def _name(rng: random.Random) -> str:
    return invented_word(rng).capitalize() if rng.random() < 0.25 else rng.choice(_NAMES)


def _plural(noun: str) -> str:
    if noun in _IRREGULAR:
        return _IRREGULAR[noun]
    if noun.endswith(("s", "x", "ch", "sh", "z")):
        return noun + "es"
    if noun.endswith("y") and noun[-2] not in "aeou":
        return noun[:-1] + "ies"
    return noun + "s"


@dataclass(frozen=True)
class _Property:
    """A property's verb phrase for several things, and for one."""

    many: str
    one: str


def _complement(rng: random.Random) -> str:
    word = invented_word(rng) if rng.random() < 0.2 else rng.choice(_MASS).replace("_", " ")
    return f"{rng.choice(_ADJECTIVES)} {word}" if rng.random() < 0.3 else word


def _property(rng: random.Random) -> _Property:
    kind = rng.random()
    if kind < 0.35:
        place = rng.choice(("", "", "", " inside", " on them", " in the middle", " at the back"))
        rest = _complement(rng) + place
        return _Property(f"have {rest}", f"has {rest}")
    if kind < 0.60:
        verb = invented_word(rng) + "ed" if rng.random() < 0.15 else rng.choice(_PARTICIPLES)
        return _Property(f"have {verb}", f"has {verb}")
    if kind < 0.80:
        word = invented_word(rng) if rng.random() < 0.15 else rng.choice(_ADJECTIVES)
        inside = rng.choice(("", "", "", " inside", " with " + _complement(rng)))
        return _Property(f"are {word}{inside}", f"is {word}{inside}")
    if kind < 0.85:
        word = invented_word(rng) if rng.random() < 0.3 else rng.choice(_THINGS)
        return _Property(f"are {_plural(word)}", f"is a {word}")
    if kind < 0.94:
        plural, singular = rng.choice(_VERBS)
        rest = _complement(rng)
        return _Property(f"{plural} {rest}", f"{singular} {rest}")
    plural, singular = rng.choice(_INTRANSITIVE)
    return _Property(plural, singular)


def _aside(rng: random.Random) -> str:
    amount = rng.choice(_AMOUNTS)
    unit = rng.choice(_UNITS)
    other = invented_word(rng) if rng.random() < 0.2 else rng.choice(_THINGS)
    single = amount in ("1", "one")
    return rng.choice(_ASIDES).format(
        n=amount,
        units=unit if single else unit + "s",
        others=other if single else _plural(other),
        adjective=rng.choice(_ADJECTIVES),
    )


def _setup(
    rng: random.Random, name: str, thing: str, things: str, prop: _Property, asides: float
) -> str:
    often = rng.choice(_OFTEN)
    word = invented_word(rng)
    source = rng.choice(_SOURCES).format(
        x=word, X=word.capitalize(), name=rng.choice((name, _name(rng)))
    )
    subject = things if rng.random() < 0.5 else f"{things} {source}"
    if rng.random() < 0.15:
        subject = f"{word.capitalize()} {things}"
    general = f"{subject} {often} {prop.many}"
    if rng.random() < 0.15:
        general = f"{word.capitalize()}s are {things} that {often} {prop.many}"
    elif rng.random() < 0.1:
        general = f"It is known that {subject} {often} {prop.many}"
    elif rng.random() < 0.1:
        general = f"When a {thing} comes {source}, it {often} {prop.one}"
    time = rng.choice(_TIMES)
    person = f"{name}, {rng.choice(_JOBS)}," if rng.random() < 0.15 else name
    many = rng.choice((f"3 {things}", f"3 {things}", f"three {things}", f"3 such {things}"))
    many = f"3 {word} {things}" if rng.random() < 0.15 else many
    event = f"{person} {rng.choice(_ACQUIRED)} {many}"
    shape = rng.random()
    if shape < 0.5:
        event = f"{event} {time}"
    elif shape < 0.7:
        event = f"{time[0].upper()}{time[1:]}, {event}"
    elif shape < 0.8:
        event = f"{name}'s 3 {things} were {rng.choice(('delivered', 'tested', 'sold'))} {time}"
    elif shape < 0.87:
        place = rng.choice(("in front of", "in the room of", "on the desk of", "at the door of"))
        event = f"{time}, {many} {rng.choice(('lay', 'stood', 'arrived'))} {place} {person}"
    if asides:
        if rng.random() < asides:
            event = event.replace(many, f"3 of {rng.choice(('these', 'those', 'the'))} {things}")
        if rng.random() < asides:
            general = f"{general} {_aside(rng)}"
        if rng.random() < asides:
            event = f"{event} {_aside(rng)}"
    general = general[0].upper() + general[1:]
    event = event[0].upper() + event[1:]
    return f"{general}.{rng.choice(('<br> ', '<br>', ' <br> ', ' ', '<br/>'))}{event}."


def study1_trial(rng: random.Random, *, number_words: float = 0.15, asides: float = 0.0) -> Trial:
    """A story of study 1 in random words, its cell drawn evenly.

    `number_words` is the share of stories in which the speaker says `two`, not `2`; `asides`
    the chance that a sentence of the setup brings in a number that is beside the point.
    """
    access, observe = rng.choice(CELLS)
    name = _name(rng)
    thing = invented_word(rng) if rng.random() < 0.15 else rng.choice(_THINGS)
    if rng.random() < 0.1:
        thing = f"{invented_word(rng) if rng.random() < 0.5 else rng.choice(_ADJECTIVES)} {thing}"
    things = _plural(thing)
    prop = _property(rng)
    in_words = rng.random() < number_words
    shown: Callable[[int], str] = (lambda n: _NUMBER_WORDS[n]) if in_words else str
    looked_at = shown(access)
    if access == 3 and rng.random() < 0.05:
        looked_at = f"all {looked_at}"
    look = rng.choice(_LOOKED)
    if rng.random() < 0.15:
        look = rng.choice(("I {}ed", "I have {}ed", "I {}ed up")).format(invented_word(rng))
    report = rng.choice(_ACCESS).format(look=look, a=looked_at, things=things)
    seen = rng.choice(_OBSERVE).format(
        o=shown(observe),
        things=things,
        thing_or_things=thing if observe == 1 else things,
        p=prop.one if observe == 1 else prop.many,
    )
    if report.endswith(". "):
        seen = seen[0].upper() + seen[1:]
    left, right = rng.choice((("'", "'"), ("'", "'"), ('"', '"'), ("“", "”"), ("‘", "’")))
    colon = rng.choice((": ", ": ", ", "))
    values = {"name": name, "things": things, "p": prop.many}
    return study("study1").trial(
        {
            "participant_id": "0",
            "story_shortname": thing,
            "story_setup": _setup(rng, name, thing, things, prop, asides),
            "priorQ": rng.choice(_PRIOR).format(**values),
            "speach": f"{rng.choice(_SAYS).format(name=name)}{colon}{left}{report}{seen}.{right}",
            "speachQ": rng.choice(_POSTERIOR).format(**values),
            "knowledgeQ": rng.choice(_KNOWS).format(**values),
            "access": access,
            "observe": observe,
        }
    )


# What somebody made or did: (noun, past participle phrase, how another person takes it in).
_WORKS: tuple[tuple[str, tuple[str, ...], tuple[str, ...]], ...] = (
    ("soup", ("cooked a soup", "made a pot of soup"), ("tried", "eaten", "tasted")),
    ("pie", ("baked a pie", "made a pie"), ("tried", "had a piece of", "tasted")),
    ("bread", ("baked some bread",), ("tried", "tasted", "eaten a slice of")),
    ("pancakes", ("made pancakes", "fried pancakes"), ("eaten", "tried", "tasted")),
    ("salad", ("made a salad", "mixed a salad"), ("eaten", "tried")),
    ("tea", ("brewed a new tea",), ("drunk", "tasted")),
    ("story", ("written a short story", "finished a story"), ("read", "finished", "listened to")),
    ("essay", ("written an essay", "handed in an essay"), ("read", "gone through")),
    ("letter", ("composed a letter",), ("read", "seen")),
    ("novel", ("completed a novel",), ("read", "finished")),
    ("speech", ("held a speech", "given a speech"), ("heard", "listened to", "attended")),
    ("talk", ("given a talk", "delivered a talk"), ("heard", "been to", "attended")),
    ("lecture", ("finished a lecture",), ("sat in", "attended", "heard")),
    ("drawing", ("made a drawing", "drawn a picture"), ("seen", "looked at", "viewed")),
    ("photo", ("taken a photo", "printed a photo"), ("seen", "looked at")),
    ("sculpture", ("finished a sculpture",), ("seen", "viewed", "walked around")),
    ("vase", ("made a vase",), ("seen", "looked at", "admired")),
    ("scarf", ("knitted a scarf",), ("seen", "worn", "tried on")),
    ("tune", ("made up a tune", "played a tune"), ("heard", "listened to")),
    ("sonata", ("played a sonata",), ("heard", "listened to")),
    ("ballad", ("written a ballad", "sung a ballad"), ("heard", "listened to")),
    ("concert", ("given a concert", "played a concert"), ("been to", "heard", "attended")),
    ("video", ("made a video", "cut a video"), ("watched", "seen")),
    ("cartoon", ("drawn a cartoon",), ("watched", "seen")),
    ("play", ("staged a play", "acted in a play"), ("watched", "seen", "been to")),
    ("sketch", ("performed a sketch",), ("watched", "seen")),
    ("ballet", ("danced in a ballet",), ("watched", "seen", "attended")),
    ("juggling act", ("performed a juggling act",), ("watched", "seen")),
    ("game", ("programmed a game", "designed a game"), ("played", "tried", "used")),
    ("website", ("built a website", "made a website"), ("visited", "used", "looked at")),
    ("program", ("written a program",), ("used", "tested", "tried out")),
    ("chair", ("built a chair",), ("sat on", "seen", "used")),
    ("garden", ("planted a garden",), ("visited", "seen")),
    ("report", ("written a report",), ("read", "gone through")),
    ("article", ("written an article", "published an article"), ("read",)),
    ("blog post", ("put a blog post online",), ("read", "seen")),
    ("magic trick", ("shown a magic trick",), ("watched", "seen")),
    ("puppet show", ("put on a puppet show",), ("watched", "seen", "attended")),
    ("jump", ("made a long jump",), ("watched", "seen")),
    ("haircut", ("given a haircut",), ("seen", "had")),
)
_DONE = (
    "Imagine {ls} has only just {done}.",
    "{ls} has just {done}.",
    "{ls} has {done} over the summer.",
    "Imagine that {ls} recently had {done}.",
    "Imagine {ls} has {done}.",
    "Suppose that {ls} just {done}.",
    "Picture this: {ls} has {done}.",
    "This week, {ls} has {done}.",
    "Think of {ls}, who has {done}.",
    "Let us say that {ls} has {done}.",
    "{ls} has {done} for the first time.",
    "A moment ago, {ls} had {done}.",
    "Think of the following case. {ls} has recently {done}.",
    "Yesterday {ls} had {done}.",
)
_ASKED = (
    "{ls} asks {sp}, who has {took} it: '{q}'",
    "{ls} turns to {sp}, who has {took} {ls}'s {work}, and asks: '{q}'",
    "Then {ls} meets {sp}, who has {took} the {work}, and wants to know, '{q}'",
    "{sp} has {took} the {work}. '{q}' asks {ls}.",
    "Imagine that {sp} has {took} {ls}'s {work} and that {ls} asks {sp}, '{q}'",
    "Imagine that {ls} went to {sp}, who had {took} {ls}'s {work}, with the question: '{q}'",
    "{sp}, who {just}had {took} {ls}'s {work}, is asked by {ls}, '{q}'",
    "Later {ls} sees {sp}, who {just}had {took} it, and asks, '{q}'",
    "{ls} goes up to {sp}, who {just}had {took} {ls}'s {work}. {ls} asks: '{q}'",
    "{ls} walked over to {sp}, who had {just}{took} the {work}, and said: '{q}'",
    "After {sp} had {took} the {work}, {ls} asked {sp}: '{q}'",
)
_QUESTIONS = (
    "How was my {work}?",
    "How was it?",
    "How did you find my {work}?",
    "How did you like my {work}?",
    "What do you say about my {work}?",
    "So, how was the {work}?",
    "What did you make of my {work}?",
    "Did you enjoy my {work}?",
    "What is your opinion of my {work}?",
    "How good was my {work}?",
    "Tell me, how was my {work}?",
)
_HOW_INFORMATIVE = (
    "be informative",
    "be as informative as possible",
    "be as accurate as possible",
    "be accurate and informative",
    "be informative and accurate",
    "say how the {work} was as informatively as possible, that is, be informative",
    "give {ls} informative feedback",
    "give accurate feedback",
    "give {ls} feedback that is as accurate and informative as it can be",
    "offer informative and accurate feedback",
    "offer feedback that is informative",
    "tell {ls} something accurate",
    "tell {ls} accurate things",
    "provide accurate, informative comments",
    "give a judgement that is accurate",
    "be honest and informative",
    "say something informative",
    "let {ls} know, in an accurate way, how good it was",
    "give an accurate picture",
    "be truthful and accurate",
    "leave {ls} with an accurate idea of the {work}",
)
_ONLY_INFORMATIVE = (
    "",
    "",
    "",
    "",
    ", whatever {ls} may feel",
    ", and did not care how {ls} felt",
    ", no matter how {ls} takes it",
    ", and nothing else",
    ", without sparing {ls}",
    ", even if that hurts {ls}",
    ", not to please {ls}",
    ", whether or not {ls} likes it",
    ", and pleasing {ls} did not matter",
    ", be it pleasant for {ls} or not",
    ", rather than to please {ls}",
    " instead of flattering {ls}",
)
_HOW_KIND = (
    "make {ls} feel good",
    "make {ls} feel better",
    "make {ls} feel good about the {work}",
    "be kind",
    "be kind to {ls}",
    "have {ls} feel good",
    "see {ls} feel good",
    "help {ls} feel good",
    "let {ls} feel good",
    "say something kind",
    "give {ls} kind words",
    "make sure that {ls} would feel good",
    "leave {ls} with a kind word, to feel good",
    "cheer {ls} up and be kind",
    "be social and please {ls}",
    "bring it about that {ls} feels good, that is, feel good about the {work}",
    "make {ls} happy and feel good",
)
_ONLY_KIND = (
    "",
    "",
    ", rather than to be informative",
    ", rather than be accurate",
    ", rather than tell {ls} something informative",
    ", rather than giving accurate feedback",
    ", rather than provide accurate information",
    " and not to be informative",
    ", not to give informative feedback",
    ", not to inform",
    " instead of being informative",
    " instead of giving accurate feedback",
    " more than to be accurate",
    " and did not mind being uninformative",
    " and did not care about being informative",
    ", whether or not the words are accurate",
    ", without being informative",
    ", even at the price of being uninformative",
    ", even if the feedback is not accurate",
    ", and nothing else",
    ", whatever the truth",
    ", no matter how informative the words are",
    ", and to give informative feedback was not a concern",
    " and nothing more",
    ", and being accurate was beside the point",
    ", and informing {ls} counted for nothing",
    ", and it was of no importance how informative the words were",
    "; being accurate was not needed",
)
_GOAL_FRAMES = (
    ("If {sp} wanted to {do}", "If {sp} wanted {both} to {first} {and_} to {second}"),
    ("If {sp} wanted to {do}", "If {sp} wanted to {both} {first} {and_} {second}"),
    ("If {sp} wanted to {do}", "If {sp} wanted to {both} {first} {and_} to {second}"),
    ("If {sp} wants to {do}", "If {sp} wants to {both} {first} {and_} {second}"),
    ("If it was {sp}'s goal to {do}", "If it was {sp}'s goal to {both} {first} {and_} {second}"),
    ("If {sp}'s aim was to {do}", "If {sp}'s aim was to {both} {first} {and_} {second}"),
    ("If {sp} tried to {do}", "If {sp} tried to {both} {first} {and_} {second}"),
    ("If {sp} hoped to {do}", "If {sp} hoped {both} to {first} {and_} to {second}"),
    ("If {sp} meant to {do}", "If {sp} meant {both} to {first} {and_} to {second}"),
    ("If {sp} cared to {do}", "If {sp} cared {both} to {first} {and_} to {second}"),
    ("If {sp} had the goal to {do}", "If {sp} had both goals: to {first} {and_} to {second}"),
    (
        "Suppose {sp} wanted to {do}. In that case",
        "Suppose {sp} wanted to {both} {first} {and_} {second}. In that case",
    ),
    (
        "Supposing that {sp} would like to {do}",
        "Supposing that {sp} would like {both} to {first} {and_} to {second}",
    ),
    (
        "Given that {sp} intends to {do}",
        "Given that {sp} intends {both} to {first} {and_} to {second}",
    ),
    ("In order to {do}", "In order to {both} {first} {and_} {second}"),
    (
        "If it mattered to {sp} to {do}",
        "If it mattered to {sp} {both} to {first} {and_} to {second}",
    ),
)
_HEARTS = ("0 hearts", "1 heart", "2 hearts", "3 hearts")


def _goal(rng: random.Random, label: str, names: dict[str, str]) -> str:
    if rng.random() < 0.06:
        return label
    single, double = rng.choice(_GOAL_FRAMES)
    informative = rng.choice(_HOW_INFORMATIVE)
    kind = rng.choice(_HOW_KIND)
    if label == "both":
        first, second = rng.sample((informative, kind), 2)
        both, and_ = rng.choice((("BOTH", "AND"), ("BOTH", "AND"), ("both", "and")))
        text = double.replace("{first}", first).replace("{second}", second)
        text = text.replace("{both}", both).replace("{and_}", and_)
    elif label == "social":
        text = single.replace("{do}", kind + rng.choice(_ONLY_KIND))
    else:
        text = single.replace("{do}", informative + rng.choice(_ONLY_INFORMATIVE))
    return text.format(**names)


def study2_trial(rng: random.Random) -> Trial:
    """A scenario of study 2 in random words, its goal and its state drawn evenly.

    The goal is put in words that no file of trials may use, so its label is not read from them.
    """
    label = rng.choice(GOAL_LABELS)
    speaker, listener = _name(rng), _name(rng)
    while listener == speaker:
        listener = _name(rng)
    work, done, took = rng.choice(_WORKS)
    names = {"sp": speaker, "ls": listener, "work": work, "took": rng.choice(took)}
    phrase = rng.choice(done)
    if rng.random() < 0.12:
        invented = invented_word(rng)
        names["work"], phrase = invented, f"{rng.choice(('made', 'finished'))} a {invented}"
    question = rng.choice(_QUESTIONS).format(**names)
    scenario = rng.choice(_ASKED).format(q=question, just=rng.choice(("", "just ")), **names)
    values = {
        "Participant_ID": "0",
        "Domain": work,
        "Precontext": rng.choice(_DONE).format(done=phrase, **names),
        "Scenario": scenario,
        "Utterance": "",
        "Goal": _goal(rng, label, names),
        "State": rng.choice(_HEARTS),
        "SP_Name": speaker,
        "LS_Name": listener,
    }
    return Trial(values, {"Goal_simplified": label, "State_number": int(values["State"][0])})


def texts(rng: random.Random, count: int) -> Sequence[str]:
    """Sentences of `count` trials of each study, for the tokeniser."""
    found: list[str] = []
    for _ in range(count):
        first, second = study1_trial(rng), study2_trial(rng)
        found += [first["story_setup"], first["speach"], first["knowledgeQ"], second["Precontext"]]
        found += [second["Scenario"], second["Goal"]]
    return found
