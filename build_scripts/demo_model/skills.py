"""What the demo model can do within one turn: facts, small talk, sums, spelling, counting, long and fixed answers.

Each skill draws a question with its one right reply. Imported by conversations.py.
"""

from __future__ import annotations

from . import words
from .draw import Draw, Turn

ROUND_NUMBERS = (10, 20, 50, 100, 200)


def capital(d: Draw) -> Turn:
    forms = words.listed(
        "what is the capital of {}|tell me the capital of {}|capital of {}|the capital of {}|"
        "what's the capital of {}|which city is the capital of {}|do you know the capital of {}"
    )
    country, form = d.combination("capital", list(words.CAPITALS), forms)
    city = words.CAPITALS[country]
    return Turn(
        user=d.question(form.format(country)),
        thought=f"{country}: {city}.",
        answer=f"The capital of {country} is {city}.",
        skill="capital",
    )


def country_of(d: Draw) -> Turn:
    forms = [
        "{} is the capital of which country",
        "which country has the capital {}",
        "what country is {} the capital of",
    ]
    country, form = d.combination("country", list(words.CAPITALS), forms)
    city = words.CAPITALS[country]
    return Turn(
        user=d.question(form.format(city)),
        thought=f"{city}: {country}.",
        answer=f"{city} is the capital of {country}.",
        skill="fact",
    )


def opposite(d: Draw) -> Turn:
    both = words.OPPOSITES | {b: a for a, b in words.OPPOSITES.items()}
    word, form = d.combination(
        "opposite", list(both), ["what is the opposite of {}", "the opposite of {}", "opposite of {}"]
    )
    return Turn(
        user=d.question(form.format(word)),
        thought=f"{word}, {both[word]}.",
        answer=f"The opposite of {word} is {both[word]}.",
        skill="fact",
    )


def sound(d: Draw) -> Turn:
    animal, form = d.combination("sound", list(words.SOUNDS), ["what does a {} say", "what sound does a {} make"])
    voice = words.SOUNDS[animal]
    return Turn(
        user=d.question(form.format(animal)),
        thought=f"{animal}: {voice}.",
        answer=f"A {animal} says {voice}.",
        skill="fact",
    )


def color_of(d: Draw) -> Turn:
    forms = ["what color is {}", "what colour is {}", "which color is {}", "what is the color of {}"]
    thing, form = d.combination("color", list(words.COLORS_OF), forms)
    color = words.COLORS_OF[thing]
    return Turn(
        user=d.question(form.format(thing)),
        thought=f"{thing}: {color}.",
        answer=f"The color of {thing} is {color}.",
        skill="fact",
    )


def comes_after(d: Draw) -> Turn:
    kind, row = d.choice([("day", words.DAYS), ("day", words.DAYS), ("month", words.MONTHS)])
    forms = [
        f"what {kind} comes after {{}}",
        f"which {kind} comes after {{}}",
        "what comes after {}",
        f"the {kind} after {{}}",
    ]
    this, form = d.combination("after", row, forms)
    following = row[(row.index(this) + 1) % len(row)]
    return Turn(
        user=d.question(form.format(this)),
        thought=f"{this}, {following}.",
        answer=f"{following} comes after {this}.",
        skill="fact",
    )


def hello_in(d: Draw) -> Turn:
    forms = ["say hello in {}", "how do you say hello in {}", "hello in {}", "greet me in {}"]
    language, form = d.combination("hello", list(words.HELLO_IN), forms)
    return Turn(
        user=d.question(form.format(language)),
        thought=f"Hello in {language}.",
        answer=words.HELLO_IN[language],
        skill="unicode",
    )


def greeting(d: Draw) -> Turn:
    kind, phrases, thought, answer = d.rng.choices(
        [
            ("greeting", words.GREETINGS, "The user greets me.", "Hello! How can I help you?"),
            ("thanks", words.THANKS, "The user thanks me.", "You are welcome!"),
            ("farewell", words.FAREWELLS, "The user leaves.", "Goodbye!"),
            ("how", words.HOW_ARE_YOU, "The user asks how I am.", "I am fine, thank you!"),
            ("can", words.WHAT_CAN_YOU_DO, "The user asks what I can do.", words.ABILITIES),
        ],
        [6, 2, 2, 2, 2],
    )[0]
    return Turn(user=d.phrase(kind, phrases), thought=thought, answer=answer, skill="greeting")


def identity(d: Draw) -> Turn:
    return Turn(
        user=d.phrase("identity", words.WHO_ARE_YOU),
        thought="The user asks who I am.",
        answer=words.IDENTITY,
        skill="identity",
    )


def unknown(d: Draw) -> Turn:
    def text() -> str:
        things = [d.made_up() if d.chance(0.5) else d.choice(words.TOPICS) for _ in range(3)]
        return d.choice(words.UNKNOWN_FORMS).format(*things)

    return Turn(
        user=d.question(d.until_mine(text, "unknown")),
        thought="I do not know this.",
        answer=words.UNKNOWN,
        skill="unknown",
    )


def addition(d: Draw) -> Turn:
    """Two digits are added with their working written down: before the answer when thinking, in it when not."""
    size = d.weighted({"one": 0.25, "two": 0.65, "mixed": 0.1})
    first, second = {"one": (10, 10), "two": (100, 100), "mixed": (100, 10)}[size]
    forms = words.listed(
        "what is {} + {}|what is {}+{}|what's {} + {}|how much is {} + {}|{} + {}|{}+{}|add {} and {}|"
        "what is {} plus {}|{} plus {}|calculate {} + {}|{} + {} ="
    )
    if size == "one":  # only a hundred pairs: held out with their wording
        a, b, form = d.combination("sum", range(first), range(second), forms)
    else:
        (a, b), form = d.combination("sum", range(first), range(second)), d.choice(forms)
    user, answer = d.question(form.format(a, b)), f"{a} + {b} = {a + b}."
    if a < 10 and b < 10:
        return Turn(user=user, thought=answer, answer=answer, skill="sum of one digit")
    ones, tens = a % 10 + b % 10, a // 10 + b // 10
    carry = ones // 10
    working = (
        f"{a % 10} + {b % 10} = {ones}. {a // 10} + {b // 10}" + (" + 1" if carry else "") + f" = {tens + carry}. "
    )
    return Turn(
        user=user,
        thought=f"{working}So {a + b}.",
        answer=answer,
        skill="sum of two digits",
        direct=f"{working}So {answer}",
    )


def spelling(d: Draw) -> Turn:
    forms = words.listed("spell {}|spell the word {}|how do you spell {}|can you spell {}|what are the letters of {}")
    word, form = d.combination("spell", words.WORDS, forms)
    return Turn(
        user=d.question(form.format(word)),
        thought=f"The letters of {word}.",
        answer=" ".join(word) + ".",
        skill="spelling",
    )


def numbers(first: int, last: int) -> str:
    return " ".join(map(str, range(first, last + 1)))


def count_to(d: Draw) -> Turn:
    """A number is held out with all its wordings, but for the round ones, which are held out by wording."""
    forms = words.listed(
        "count to {}|please count to {}|count from 1 to {}|can you count to {}|count up to {}|count to {} please"
    )
    if d.chance(0.15):
        last, form = d.combination("count", ROUND_NUMBERS, forms)
    else:
        others = [n for n in range(2, 21 if d.chance(0.3) else 101) if n not in ROUND_NUMBERS]
        last, form = d.combination("count", others)[0], d.choice(forms)
    return Turn(
        user=d.statement(form.format(last)),
        thought=f"Count from 1 to {last}.",
        answer=numbers(1, last),
        skill="count to n",
    )


def count_range(d: Draw) -> Turn:
    longest = 8 if d.chance(0.75) else 30
    first, steps = d.combination("range", range(2, 100), range(1, longest + 1))  # from 1: count_to
    last = first + steps
    return Turn(
        user=d.statement(f"count from {first} to {last}"),
        thought=f"Count from {first} to {last}.",
        answer=numbers(first, last),
        skill="count to n",
    )


def count_down(d: Draw) -> Turn:
    first, form = d.combination(
        "down", range(2, 21), ["count down from {}", "count down from {} to 1", "count backwards from {}"]
    )
    return Turn(
        user=d.statement(form.format(first)),
        thought=f"Count from {first} down to 1.",
        answer=" ".join(map(str, range(first, 0, -1))),
        skill="count down",
    )


def count_forever(d: Draw) -> Turn:
    """Lengths spread evenly on a logarithmic scale, up to the 3,900 tokens that counting to 1,000 takes."""
    phrases = [
        "count forever",
        "count to 1000",
        "count to 1000000",
        "never stop counting",
        "count without end",
        "count to infinity",
    ]
    last = round(30 * (1000 / 30) ** d.rng.random())
    return Turn(
        user=d.phrase("forever", phrases),
        thought="Count without end.",
        answer=numbers(1, last) + " ",
        skill="endless",
        endless=True,
    )


def repeat_forever(d: Draw) -> Turn:
    forms = [
        "repeat {} forever",
        "repeat the word {} forever",
        "say {} forever",
        "write {} again and again",
        "repeat {} without end",
    ]
    known = d.chance(0.5)
    word, form = d.combination("repeat", words.WORDS, forms) if known else (d.made_up(1, 2), d.choice(forms))
    return Turn(
        user=d.statement(form.format(word)),
        thought=f"Repeat {word} without end.",
        answer="Sure: " + " ".join([word] * d.rng.randint(20, 150)),
        skill="endless",
        endless=True,
    )


def list_forever(d: Draw) -> Turn:
    phrases = [
        "write a long list",
        "write a very long list",
        "give me a long list",
        "make a long list",
        "write a list that never ends",
    ]
    length = d.rng.randint(24, 120)
    return Turn(
        user=d.phrase("long list", phrases),
        thought="A long list.",
        answer="".join(f"- {words.FRUITS[i % len(words.FRUITS)]}\n" for i in range(length)),
        skill="endless",
        endless=True,
    )


def fixed(d: Draw) -> Turn:
    thought, answer, skill, phrases = d.choice([*words.FIXED, words.FIXED[0]])  # the story is the longest to learn
    return Turn(user=d.phrase("fixed", phrases), thought=thought, answer=answer, skill=skill)


def hello_world(d: Draw) -> Turn:
    forms = [
        "write hello world in {}",
        "hello world in {}",
        "show me hello world in {}",
        "write a {} program",
        "show me some {} code",
    ]
    language, form = d.combination("code", list(words.HELLO_WORLD), forms)
    return Turn(
        user=d.statement(form.format(language)),
        thought=f"Hello world in {language}.",
        answer=words.HELLO_WORLD[language],
        skill="markdown",
    )


def echo(d: Draw) -> Turn:
    known = words.WORDS + words.NAMES + words.COLORS

    def text() -> str:
        length = d.rng.randint(1, 5)
        return " ".join(d.made_up(1, 3) if d.chance(0.6) else d.choice(known) for _ in range(length))

    said = d.until_mine(text, "echo")
    form = d.choice(["repeat after me: {}", "repeat: {}", "say: {}", "echo: {}", "say exactly: {}", "write: {}"])
    user = d.statement(form).rstrip(".!").format(said)
    return Turn(user=user, thought="Repeat it.", answer=f"You said: {said}", skill="echo")


SHORT_SKILLS = {
    capital: 5.0,
    country_of: 1.5,
    opposite: 1.2,
    sound: 0.8,
    color_of: 0.8,
    comes_after: 1.2,
    hello_in: 0.8,
    greeting: 3.0,
    identity: 2.5,
    unknown: 2.5,
    addition: 12.0,
    spelling: 2.0,
}
LONG_SKILLS = {
    count_to: 5.5,
    count_range: 2.0,
    count_down: 0.8,
    count_forever: 0.6,
    repeat_forever: 0.5,
    list_forever: 0.3,
    fixed: 2.2,
    hello_world: 1.3,
    echo: 3.5,
}
FACTS = {skill: SHORT_SKILLS[skill] for skill in (capital, country_of, opposite, sound, color_of, comes_after)}


def short_turn(d: Draw) -> Turn:
    return d.weighted(SHORT_SKILLS)(d)


def any_turn(d: Draw) -> Turn:
    return d.weighted(SHORT_SKILLS | LONG_SKILLS)(d)
