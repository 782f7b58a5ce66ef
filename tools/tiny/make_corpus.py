#!/usr/bin/env python3
"""Writes corpus.jsonl, on which the tiny model of the tests is trained.

Questions and answers about simple things in very regular English: a model of
less than a million weights can learn them.  Every answer repeats the words of
its question, so each row also practises copying.
"""
import json
import os
import random

NUMBERS = ("zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen "
           "fifteen sixteen seventeen eighteen nineteen twenty").split()
DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
MONTHS = ("January February March April May June July August September October November "
          "December").split()
COLOURS = {
    "red": "blood fire a tomato a rose a cherry a strawberry",
    "green": "grass a leaf a frog a pea moss a cucumber",
    "blue": "the sky the sea ice a sapphire",
    "yellow": "the sun a lemon butter a banana corn",
    "white": "snow milk salt a swan a tooth paper",
    "black": "coal the night a raven ink tar",
    "brown": "wood earth a bear a nut bread chocolate",
    "orange": "a carrot a pumpkin a fox",
    "grey": "a mouse a stone rain a wolf lead",
    "pink": "a pig a flamingo",
    "purple": "a plum a violet",
}
# sound, legs, home, food, size
ANIMALS = {
    "cat": ("meow", 4, "house", "fish", "small"),
    "dog": ("woof", 4, "house", "meat", "small"),
    "cow": ("moo", 4, "farm", "grass", "big"),
    "sheep": ("baa", 4, "farm", "grass", "big"),
    "pig": ("oink", 4, "farm", "corn", "big"),
    "horse": ("neigh", 4, "farm", "grass", "big"),
    "duck": ("quack", 2, "lake", "bread", "small"),
    "hen": ("cluck", 2, "farm", "corn", "small"),
    "frog": ("croak", 4, "lake", "flies", "small"),
    "bee": ("buzz", 6, "hive", "honey", "small"),
    "lion": ("roar", 4, "grassland", "meat", "big"),
    "owl": ("hoot", 2, "forest", "mice", "small"),
    "bear": ("growl", 4, "forest", "honey", "big"),
    "wolf": ("howl", 4, "forest", "meat", "big"),
    "snake": ("hiss", 0, "grassland", "mice", "small"),
    "mouse": ("squeak", 4, "house", "cheese", "small"),
    "goat": ("bleat", 4, "farm", "grass", "big"),
    "donkey": ("hee-haw", 4, "farm", "grass", "big"),
    "crow": ("caw", 2, "forest", "corn", "small"),
    "spider": (None, 8, "house", "flies", "small"),
    "ant": (None, 6, "forest", "leaves", "small"),
    "fish": (None, 0, "lake", "worms", "small"),
    "rabbit": (None, 4, "forest", "carrots", "small"),
    "elephant": (None, 4, "grassland", "leaves", "big"),
}
OPPOSITES = ("hot cold big small up down day night old new fast slow good bad happy sad wet dry "
             "full empty light dark open closed loud quiet left right soft hard rich poor first "
             "last in out high low long short strong weak early late").split()
NAMES = "Anna Ben Clara Dan Emma Finn Grace Hugo Ida Jack".split()
THINGS = "ball book hat cup key apple kite box bell lamp coat boat".split()
PLACES = "garden kitchen park school forest shop".split()
HERE = os.path.dirname(os.path.abspath(__file__))
RNG = random.Random(2026)
rows = {}


def add(questions, answer):
    for q in [questions] if isinstance(questions, str) else questions:
        rows.setdefault(q, answer)


def cap(text):
    return text[0].upper() + text[1:]


def a(noun):
    return ("an " if noun[0] in "aeiou" else "a ") + noun


def things_of(words):
    """"a tomato the sky milk" as its nouns with their articles."""
    out, article = [], ""
    for w in words.split():
        if w in ("a", "the"):
            article = w + " "
        else:
            out.append(article + w)
            article = ""
    return out


def numbers():
    for i in range(11):
        for j in range(11):
            s = f"{NUMBERS[i]} plus {NUMBERS[j]}"
            add([f"What is {s}?", f"How much is {s}?"], f"{cap(s)} is {NUMBERS[i + j]}.")
            if i >= j:
                s = f"{NUMBERS[i]} minus {NUMBERS[j]}"
                add([f"What is {s}?", f"How much is {s}?"], f"{cap(s)} is {NUMBERS[i - j]}.")
            if i != j:
                more = max(i, j)
                add(f"What is more, {NUMBERS[i]} or {NUMBERS[j]}?",
                    f"{cap(NUMBERS[more])} is more than {NUMBERS[min(i, j)]}.")
    for seq, what in ((NUMBERS, "number"), (DAYS, "day"), (MONTHS, "month")):
        for x, y in zip(seq, seq[1:] + (seq[:1] if what != "number" else [])):
            add([f"What comes after {x}?", f"Which {what} comes after {x}?"],
                f"{cap(y)} comes after {x}.")
            add([f"What comes before {y}?", f"Which {what} comes before {y}?"],
                f"{cap(x)} comes before {y}.")
    for i, n in enumerate(NUMBERS):
        add([f"How do you write {n} in digits?", f"Write {n} in digits."], f"{cap(n)} is {i}.")
        add(f"Write {i} as a word.", f"{i} is {n}.")
        if i > 1:
            add(f"Count to {n}.", ", ".join(NUMBERS[1:i + 1]) + ".")


def colours():
    names = list(COLOURS)
    for colour, words in COLOURS.items():
        for t in things_of(words):
            full = f"{cap(t)} is {colour}."
            add([f"What colour is {t}?", f"Which colour does {t} have?",
                 f"Tell me the colour of {t}."], full)
            add(f"Is {t} {colour}?", f"Yes, {t} is {colour}.")
            for other in RNG.sample([n for n in names if n != colour], 3):
                add(f"Is {t} {other}?", f"No, {t} is {colour}.")
        add(f"Name something {colour}.", f"{cap(things_of(words)[0])} is {colour}.")


def animals():
    legs = {0: "no legs", 2: "two legs", 4: "four legs", 6: "six legs", 8: "eight legs"}
    for n, (sound, count, home, food, size) in ANIMALS.items():
        if sound:
            add([f"What does the {n} say?", f"What sound does {a(n)} make?",
                 f"Which animal says {sound}?"], f"The {n} says {sound}.")
        add([f"How many legs has {a(n)}?", f"How many legs does the {n} have?"],
            f"{cap(a(n))} has {legs[count]}.")
        add([f"Where does the {n} live?", f"Where can I find {a(n)}?"],
            f"The {n} lives in the {home}." if home not in ("farm", "grassland")
            else f"The {n} lives on the {home}.")
        add([f"What does the {n} eat?", f"What can I give to {a(n)}?"], f"The {n} eats {food}.")
        add(f"Is the {n} big or small?", f"The {n} is {size}.")
        for f in RNG.sample(sorted({x[3] for x in ANIMALS.values()}), 4):
            add(f"Does the {n} eat {f}?", f"Yes, the {n} eats {f}." if f == food
                else f"No, the {n} eats {food}.")
        for m, other in ANIMALS.items():
            if size == "big" and other[4] == "small" and RNG.random() < 0.35:
                first, second = (n, m) if RNG.random() < 0.5 else (m, n)
                add(f"Who is bigger, the {first} or the {second}?",
                    f"The {n} is bigger than the {m}.")


def words():
    for x, y in zip(OPPOSITES[::2], OPPOSITES[1::2]):
        for p, q in ((x, y), (y, x)):
            add([f"What is the opposite of {p}?", f"Tell me the opposite of {p}."],
                f"The opposite of {p} is {q}.")
            add(f"What is not {p}?", f"What is not {p} is {q}.")
    for w in [*ANIMALS, *THINGS, *COLOURS, *PLACES]:
        add([f"Say {w}.", f"Please say {w}."], f"{cap(w)}.")
        add(f"Spell {w}.", f"{cap(w)}: " + " ".join(w) + ".")
        add(f"Say {w} two times.", f"{cap(w)}, {w}.")
    for w in [*ANIMALS, *THINGS]:
        if w not in ("sheep", "mouse", "wolf", "fish"):
            more = w + ("es" if w.endswith("x") else "s")
            add(f"One {w}, two what?", f"One {w}, two {more}.")


def stories():
    for name in NAMES:
        add([f"Hello, I am {name}.", f"My name is {name}.", f"Hi, I am {name}."],
            f"Hello {name}, nice to meet you!")
        for thing in RNG.sample(THINGS, 12):
            colour, place = RNG.choice(list(COLOURS)), RNG.choice(PLACES)
            s = f"{name} has {a(colour)} {thing}."
            add(f"{s} What colour is the {thing}?", f"The {thing} is {colour}.")
            add(f"{s} Who has the {thing}?", f"{name} has the {thing}.")
            add(f"{s} What does {name} have?", f"{name} has {a(colour)} {thing}.")
            add(f"{name} is in the {place} with the {thing}. Where is {name}?",
                f"{name} is in the {place}.")


def greetings():
    for q in ("Hello!", "Hi!", "Hello.", "Hi there!", "Good day!"):
        add(q, "Hello! How can I help you?")
    for part in ("morning", "evening", "afternoon"):
        add([f"Good {part}!", f"Good {part}."], f"Good {part}! How can I help you?")
    add(["How are you?", "How do you do?", "Are you well?"], "I am fine, thank you!")
    add(["Thank you!", "Thanks!", "Thank you very much!"], "You are welcome!")
    add(["Goodbye!", "Bye!", "See you!", "Good night!"], "Goodbye! See you soon!")
    add(["Who are you?", "What are you?", "What is your name?"], "I am a tiny model.")
    add(["Can you help me?", "Help me, please."], "Yes, I can help you. What is it?")
    add(["Are you big?", "Are you small?"], "I am very small.")


def echoes():
    """The demo's words, shuffled: no fact is left, but no token stays unseen."""
    path = os.path.join(HERE, "..", "..", "examples", "data", "support.jsonl")
    with open(path, encoding="utf-8") as f:
        text = " ".join(m["content"] for row in f for m in json.loads(row)["messages"])
    vocabulary = sorted(set(text.split()))
    for _ in range(4):
        RNG.shuffle(vocabulary)
        for i in range(0, len(vocabulary), 5):
            some = " ".join(vocabulary[i:i + 5])
            add(f"Say after me: {some}", some)


for part in (numbers, colours, animals, words, stories, greetings, echoes):
    part()
items = list(rows.items())
RNG.shuffle(items)
path = os.path.join(HERE, "corpus.jsonl")
with open(path, "w", encoding="utf-8") as f:
    for question, answer in items:
        f.write(json.dumps({"messages": [{"role": "user", "content": question},
                                         {"role": "assistant", "content": answer}]}) + "\n")
print(len(items), "rows")
