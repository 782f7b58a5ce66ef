"""Task files out of packages: headlines.jsonl (vaderSentiment, MIT: tweets and movie snippets with the
mean of 20 people's ratings), support.jsonl (chatterbot-corpus, BSD-3: English dialogues), translate.jsonl
(Django, BSD-3: English and French messages); and two sets of our own (MIT), made by seed: answers.jsonl
(a question about a notice) and summaries.jsonl (a report and its headline).
Usage: prepare.py PACKAGES OUT"""
import glob
import json
import os
import random
import re
import sys
import tarfile

packages, out = sys.argv[1:]


def write(name, rows):
    with open(os.path.join(out, name), "w", encoding="utf-8") as f:
        for row in rows:
            f.write(json.dumps(row, ensure_ascii=False) + "\n")
    print("%s: %d rows" % (name, len(rows)), file=sys.stderr)


def headlines():
    archive, = glob.glob(packages + "/*/additional_resources/hutto_ICWSM_2014.tar.gz")
    rows = []
    with tarfile.open(archive) as tar:
        for kind in ("tweets", "movieReviewSnippets"):
            text = tar.extractfile("hutto_ICWSM_2014/%s_GroundTruth.txt" % kind).read()
            lines = [line.split("\t") for line in text.decode("utf-8", "replace").splitlines()]
            lines = [line for line in lines if len(line) >= 3 and "\ufffd" not in line[2]]
            for _, mean, text in random.Random(7).sample(lines, 1000):
                label = "positive" if float(mean) >= 0.5 else "negative" if float(mean) <= -0.5 else "neutral"
                rows.append({"text": text.strip(), "label": label, "source": kind})
    return rows


def talk(question, answer):
    return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}


def dialogues():
    rows = []
    for path in sorted(glob.glob(packages + "/chatterbot_corpus/data/english/*.yml")):
        turns = []
        for line in open(path, encoding="utf-8"):
            begins = re.match(r"- - (.+)", line)
            follows = re.match(r"  - (.+)", line)
            if begins and len(turns) > 1:
                rows.append(turns)
            if begins:
                turns = []
            if begins or follows:
                turns.append((begins or follows).group(1).strip().strip("'\""))
        if len(turns) > 1:
            rows.append(turns)
    # Some questions stand there a hundred times; answers of several lines ("|") are programs.
    first = {turns[0].lower(): turns for turns in reversed(rows) if turns[1] != "|"}
    return [talk(*first[question][:2]) for question in sorted(first)]


def messages(path):
    """Pairs of a message catalogue; plurals and what is marked fuzzy are left out."""
    for entry in open(path, encoding="utf-8").read().split("\n\n"):
        if "#, fuzzy" in entry or "msgid_plural" in entry:
            continue
        found = {}
        for key, text in re.findall(r'^(msgid|msgstr) ((?:"(?:[^"\\]|\\.)*"\s*)+)', entry, re.M):
            found[key] = "".join(json.loads(s) for s in re.findall(r'"(?:[^"\\]|\\.)*"', text))
        if found.get("msgid") and found.get("msgstr"):
            yield found["msgid"].strip(), found["msgstr"].strip()


def translations(language, back=False):
    """Asked in the words of `peft data augment --back-translate`."""
    pairs = {}
    for path in sorted(glob.glob(packages + "/django/**/locale/fr/LC_MESSAGES/django.po", recursive=True)):
        for english, french in messages(path):
            if len(english) <= 160:
                pairs.setdefault(english, french)
    ask = "Translate into %s. Answer with the translation only.\n\n%s"
    return [talk(ask % (language, pair[back]), pair[not back]) for pair in sorted(pairs.items())]


TOWNS = "Alder Barrow Corley Dunmere Eastwick Farrow Glenby Harlow Inver Jarrow Kelby Lorne Marsk Norby Otley".split()
PEOPLE = ["Ada Moss", "Ben Holt", "Cora Lindt", "Dan Fry", "Eva Stern", "Finn Boyd", "Gina Roth", "Hugo Marsh",
          "Ida Blum", "Jon Reed", "Kim Vale", "Leo Hart", "Mia Voss", "Nils Berg", "Olga Winter"]
THINGS = ["book fair", "flower market", "chess evening", "repair café", "swimming course", "film night",
          "cooking class", "harvest dance", "bicycle race", "poetry reading", "toy exchange", "photo exhibition"]
PLACES = ["town hall", "old mill", "library", "school gym", "harbour hall", "village green", "museum", "church house"]
DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()


def notices(n):
    draw = random.Random(11)
    for _ in range(n):
        thing, place, town = draw.choice(THINGS), draw.choice(PLACES), draw.choice(TOWNS)
        who, day, hour = draw.choice(PEOPLE), draw.choice(DAYS), draw.randint(9, 20)
        price, seats = draw.randint(2, 15), draw.randint(2, 30) * 10
        notice = draw.choice([
            "The {thing} in {town} takes place on {day} at {hour} o'clock in the {place}. {who} leads it. A ticket is "
            "{price} euros, and there is room for {seats} people.",
            "{who} invites everybody to the {thing}: {day}, {hour} o'clock, {place} of {town}. There are {seats} "
            "seats, for {price} euros each.",
            "Come to the {place} in {town} on {day}! The {thing} begins at {hour} o'clock and costs {price} euros. "
            "{seats} people can take part; {who} knows more.",
        ]).format(**locals())
        yield dict(locals())


def answers():
    rows = []
    for x in notices(500):
        asked, answer = x["draw"].choice([
            ("On which day is the {thing}?", "{day}"), ("Where does the {thing} take place?", "In the {place}"),
            ("What does the {thing} cost?", "{price} euros"), ("Who is responsible for the {thing}?", "{who}"),
            ("When does the {thing} begin?", "At {hour} o'clock"), ("How many people can take part?", "{seats}")])
        question = x["notice"] + "\n\n" + asked.format(**x)
        rows.append({"prompt": question, "completion": answer.format(**x), "town": x["town"]})
    return rows


def summaries():
    rows = []
    for x in notices(500):
        more = x["draw"].sample([
            "Drinks and cakes are sold in the break.", "Children up to six years come in free.",
            "In case of rain it is put off for a week.", "Last year it was sold out after two days.",
            "Parking is behind the building.", "The money goes to the new playground.",
            "Dogs have to stay outside.", "The mayor will say a few words."], 3)
        rows.append({"instruction": "Summarise the notice in one line.", "input": x["notice"] + " " + " ".join(more),
                     "output": "{thing}, {town}, {day} {hour}:00, {price} euros".format(**x)})
    return rows


write("headlines.jsonl", headlines())
write("support.jsonl", dialogues())
write("translate.jsonl", translations("French"))
write("translate-back.jsonl", translations("English", back=True))
write("answers.jsonl", answers())
write("summaries.jsonl", summaries())
