"""Edits by words: what is understood, what is refused, and that nothing is guessed."""

import random

import pytest

from fakes import call_main, fake_editor, noise_photo
from sdic import images
from sdic.cli.options import all_edits
from sdic.editing import library, units
from sdic.editing.catalogue import library_file, read_descriptions
from sdic.errors import InputError
from sdic.images import Photo
from sdic.text import grammar, parse

DESCRIBED = read_descriptions(library_file())

UNDERSTOOD = """
ten years older, a slight smile, no glasses     | age +10y, smile 30%, glasses -100%
20 years older and smiling                      | age +20y, smile 60%
Make him ten years younger.                     | age -10y
a few years older                               | age +3y
a couple of years younger                       | age -2y
twenty-two years older                          | age +22y
two decades older                               | age +20y
a year older                                    | age +1y
older by 7.5 yrs                                | age +7.5y
age 10 years                                    | age +10y
age: +10y                                       | age +10y
age -10y                                        | age -10y
reduce the age by five years                    | age -5y
OLDER!                                          | age 60%
slightly older                                  | age 30%
very old                                        | age 90%
an older man with a beard                       | age 60%, beard 60%
more feminine                                   | gender -60%
look like a man                                 | gender 60%
please make her smile                           | smile 60%
half a smile                                    | smile 50%
a big smile                                     | smile 90%
a bit happier                                   | smile 30%
much sadder                                     | smile -90%
serious                                         | smile -60%
less serious                                    | smile 60%
a bit less smile                                | smile -30%
no smile                                        | smile -100%
they are not smiling                            | smile -100%
not smiling                                     | smile -100%
don't smile                                     | smile -100%
20% more smile                                  | smile 20%
smile -40 %                                     | smile -40%
smile strength 2                                | smile strength 2
smile strength -1.5, yaw +5deg                  | smile strength -1.5, yaw +5deg
turn the head 15 degrees to the left            | yaw -15deg
turned 10° to the right                         | yaw +10deg
look left                                       | yaw -60%
look up a bit                                   | pitch 30%
lower the chin slightly; look right             | pitch -30%, yaw 60%
mouth half open                                 | mouth-open 50%
close the mouth                                 | mouth-open -60%
eyes wide open + surprised                      | eyes-open 60%, surprise 60%
a frown                                         | anger 60%
calm                                            | anger -60%
clean-shaven & without glasses                  | beard -100%, glasses -100%
completely remove the beard                     | beard -100%
take the glasses off                            | glasses -100%
put on glasses                                  | glasses 60%
no glasses or beard                             | glasses -100%, beard -100%
no glasses, smiling                             | glasses -100%, smile 60%
no glasses and a beard                          | glasses -100%, beard 60%
wearing a hat but no glasses                    | hat 60%, glasses -100%
light from the left                             | light-side -60%
a lot darker                                    | brightness -90%
warmer colours                                  | warmth 60%
much shorter hair                               | hair-length -90%
more hair                                       | hair-volume 60%
curly hair                                      | curls 60%
red hair, then a fringe                         | ruddy 60%, fringe 60%
hair up                                         | hair-up 60%
rounder face                                    | face-length -60%
make the skin a bit darker                      | tan 30%
make the woman look older                       | age 60%
fully tanned                                    | tan 100%
“blonde”, rosy cheeks                           | golden 60%, rosy 60%
a blue background                               | background-warmth -60%
background-hue 50%                              | background-hue 50%
grinning                                        | grin 60%
"""

REFUSED = """
blue eyes            | 'blue eyes' was not understood; what can be edited: age,
longer               | 'longer' was not understood
smilling             | 'smilling' was not understood (did you mean 'smiling'?)
10 years oldr        | (did you mean 'older'?)
hello world          | 'hello' was not understood
fully bald           | 'bald' was not understood
a purple elephant    | 'elephant' was not understood
age; drop table      | 'age' does not say which way; say 'older' or 'younger'
not older            | can mean the opposite or no change; say 'older', 'younger'
older but not very happy| can mean the opposite or no change
no hair              | say 'fuller hair', 'flatter hair'
age 30               | has no unit
smile 2              | has no unit
30 years old         | is an age, and how old the person looks is not known
a 30-year-old man    | is an age
a man 30 years old   | is an age
30 years older       | beyond what was measured of 'age'; the most in this way is 23.7y
turn 90 degrees left | the most in this way is 23.5deg
look 25 degrees up   | the most in this way is 17.8deg
150% smile           | the most in this way is 100%
smile strength 4.1   | the most in this way is 4.
no hat               | cannot be done: the direction 'hat' was measured from 0 to 6
10 degrees older     | cannot be given in degrees, since its unit is years
smile 5 years        | cannot be given in years
older or younger     | The 'or' before 'younger' leaves a choice
no glasses and beard | say 'no beard' or 'with beard'
no glasses, hat      | say 'no hat' or 'with hat'
smiling and happy    | The direction 'smile' is given twice ('happy')
smiling older        | put a comma between them
ten years            | does not say of what
very                 | does not say of what
years older          | There is no number before the unit
10 to 20 years older | says how much twice
-10 years older      | has two signs
less smile -20%      | has two signs
turn to his left     | can be the person's or the viewer's
smile strength       | There is no number after 'strength'
1,5 years older      | '1' does not say of what
please               | says nothing to edit
,;.                  | says nothing to edit
1/2 older            | '/' was not understood
"""


def rows(table):
    return [tuple(map(str.strip, row.split("|"))) for row in table.strip().splitlines()]


def test_a_hundred_phrases():
    assert len(rows(UNDERSTOOD)) + len(rows(REFUSED)) >= 100


@pytest.mark.parametrize(("text", "sentence"), rows(UNDERSTOOD))
def test_what_is_understood(text, sentence):
    understood = parse(text, DESCRIBED)
    assert understood.sentence == sentence
    assert parse(text, DESCRIBED) == parse(sentence, DESCRIBED) == understood


@pytest.mark.parametrize(("text", "words"), rows(REFUSED))
def test_what_is_refused(text, words):
    with pytest.raises(InputError) as refusal:
        parse(text, DESCRIBED)
    assert words in str(refusal.value)


def test_marks_and_texts_that_are_none():
    quotes = "\u201colder\u201d, don\u2019t smile \u2212 glasses \u221240\u00a0%"
    assert parse(quotes, DESCRIBED).sentence == "age 60%, smile -100%, glasses -40%"
    for text in ("", " \n\t", "a" * 1001):
        with pytest.raises(InputError, match="The text"):
            parse(text, DESCRIBED)
    with pytest.raises(InputError, match=r"'\\x1b' was not understood"):
        parse("older \x1b[2J", DESCRIBED)


@pytest.mark.parametrize("name", DESCRIBED)
def test_every_direction_is_reached_by_its_name_and_by_a_phrase(name):
    assert parse(f"{name} 40%", DESCRIBED).steps == ((name, "40%"),)
    assert name in {one.direction for one in grammar._vocabulary().values()}
    low, _ = DESCRIBED[name].strength_range
    if low < 0:
        assert parse(f"{name} -40%", DESCRIBED).steps == ((name, "-40%"),)


def test_every_phrase_of_the_vocabulary_is_understood_with_its_sign():
    assert {one.direction for one in grammar._vocabulary().values()} == set(DESCRIBED)
    for phrase, (name, kind, share) in grammar._vocabulary().items():
        text = f"more {phrase}" if kind == "scale" else phrase
        sign = "-" if kind == "minus" else ""
        assert parse(text, DESCRIBED).steps == ((name, f"{sign}{share or 60:g}%"),), phrase


def test_strengths_stay_within_the_range():
    shipped = library.load_library()
    for text, _ in rows(UNDERSTOOD):
        for name, amount in parse(text, DESCRIBED).steps:
            low, high = shipped[name].strength_range
            assert low <= units.to_strength(shipped[name], amount) <= high


def test_only_the_directions_that_there_are():
    some = {"age": DESCRIBED["age"]}
    assert parse("older", some).steps == (("age", "60%"),)
    with pytest.raises(InputError, match=r"'smile' was not understood.*edited: age\.$"):
        parse("older, a smile", some)


def test_random_texts_raise_nothing_but_refusals():
    source = random.Random(0)  # noqa: S311 - nothing secret
    words = sorted({word for _, text in grammar._lexicon() for word in text.split()})
    words += [
        *grammar._vocabulary(),
        *DESCRIBED,
        *grammar.MARKS,
        "or",
        "to",
        "strength",
        "his",
        "left",
    ]
    words += ["10", "-3", "+1e9", ".5", "9" * 400, "²", "٣", "\x00", "İ", "'", "--", "é"]
    understood, refusals = 0, []
    for _ in range(4000):
        if source.random() < 0.8:
            text = " ".join(source.choices(words, k=source.randint(1, 6)))
        else:
            text = "".join(chr(source.randrange(1, 0x3000)) for _ in range(source.randint(0, 20)))
        try:
            understood += bool(parse(text, DESCRIBED).steps)
        except InputError as refusal:
            refusals.append(str(refusal))
    assert refusals
    assert all(one.isprintable() for one in refusals)
    assert understood > 100


def test_the_editor_takes_words():
    editor, photo = fake_editor(), Photo(noise_photo())
    assert editor.understand("Ten years older").sentence == "age +10y"
    by_words = editor.edit(photo, text="ten years older, a slight smile")
    assert (by_words.rgb == editor.edit(photo, age="+10y", smile="30%").rgb).all()
    assert (by_words.rgb == editor.edit(photo, text="a slight smile", age="+10y").rgb).all()
    with pytest.raises(InputError, match="'age' is given twice"):
        editor.edit(photo, text="ten years older", age=1)


def test_words_are_edits_of_the_command(capsys):
    texts = all_edits(["yaw=1"], None, None, None, "older, no glasses")
    assert texts == ["yaw=1", "age=60%", "glasses=-100%"]
    assert capsys.readouterr() == ("", "understood: age 60%, glasses -100%\n")


def test_the_command_edits_by_words(monkeypatch, capsys, tmp_path):
    editor = fake_editor()
    monkeypatch.setattr("sdic.cli.options.make_editor", lambda *_: editor)
    photo = tmp_path / "me.png"
    images.write(photo, noise_photo())

    def edit(*arguments):
        return call_main(monkeypatch, capsys, "edit", photo, *arguments, "--out", tmp_path / "out")

    code, _, said = edit("--text", "ten years older, a slight smile")
    assert code == 0
    assert said.count("understood: age +10y, smile 30%\n") == 1
    expected = editor.edit(photo, age="+10y", smile="30%").rgb
    assert (images.read(tmp_path / "out" / "me.png").rgb == expected).all()
    for arguments, words in (
        (("--text", "older", "--age", "3"), "The direction 'age' is given twice"),
        (("--text", "blue eyes"), "'blue eyes' was not understood"),
    ):
        code, _, said = edit(*arguments)
        assert code == 1
        assert words in said
