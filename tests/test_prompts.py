"""The grammar of prompts: weights and schedules as Automatic1111 documents them, and what is refused or remarked."""

from __future__ import annotations

import random
import re
import time

import pytest

from core.checks import check
from core.errors import BadRequest
from core.models.catalogue import STORYBOOK, describe
from core.prompts.chunks import MOST_CHUNKS, chunks_of
from core.prompts.composition import Part, compose, with_words
from core.prompts.emphasis import Stretch, stretches
from core.prompts.reading import MOST_PARTS, last_words, plain_words, remarks
from core.request import MAX_PROMPT, Region, Request
from tests.lines import assert_one_line

BREAK = (None, 1.0)

# -- emphasis. The first seven: the docstring of its modules/prompt_parser.py and the cheat sheet of its wiki.

WEIGHTS = [
    ("normal text", [("normal text", 1)]),
    ("an (important) word", [("an ", 1), ("important", 1.1), (" word", 1)]),
    ("(unbalanced", [("unbalanced", 1.1)]),
    (r"\(literal\]", [("(literal]", 1)]),
    ("(unnecessary)(parens)", [("unnecessaryparens", 1.1)]),
    ("a (((house:1.3)) [on] a (hill:0.5), sun, (((sky))).",
     [("a ", 1), ("house", 1.573), (" ", 1.1), ("on", 1), (" a ", 1.1), ("hill", 0.55), (", sun, ", 1.1),
      ("sky", 1.4641), (".", 1.1)]),
    (r"a ((word)) (word:1.5) (word:0.25) \(word\)",
     [("a ", 1), ("word", 1.21), (" ", 1), ("word", 1.5), (" ", 1), ("word", 0.25), (" (word)", 1)]),
    ("", [("", 1)]),
    ("[less]", [("less", 1 / 1.1)]),
    ("[[less]]", [("less", 1 / 1.21)]),
    ("[less:1.5]", [("less:1.5", 1 / 1.1)]),  # only round brackets take a number
    ("(a (b:2) c:1.5)", [("a ", 1.5), ("b", 3), (" c", 1.5)]),
    ("(a: 1.2 )", [("a", 1.2)]),
    ("(a:-1)", [("a", -1)]),
    ("(a:.5)", [("a", 0.5)]),
    ("(a:b)", [("a:b", 1.1)]),
    ("a:1.2)", [("a:1.2)", 1)]),  # nothing was opened
    ("a) b]", [("a) b]", 1)]),
    ("(a [b) c]", [("a ", 1.1), ("b", 1), (" c", 1 / 1.1)]),  # round and square need not nest
    ("at 16:9", [("at 16:9", 1)]),
    ("back\\slash \\\\ two", [("backslash \\ two", 1)]),
    ("a BREAK b", [("a", 1), BREAK, ("b", 1)]),
    ("a\nBREAK\n(b BREAK c:1.5)", [("a", 1), BREAK, ("", 1), ("b", 1.5), BREAK, ("c", 1.5)]),
    ("BREAKER break", [("BREAKER break", 1)]),
    ("(a:0)", [("a", 0)]),
]


@pytest.mark.parametrize("text, expected", WEIGHTS, ids=[text for text, _ in WEIGHTS])
def test_words_weigh_what_is_documented(text: str, expected: list[tuple[str | None, float]]) -> None:
    found = stretches(text)
    assert [part for part, _ in found] == [part for part, _ in expected]
    assert [weight for _, weight in found] == pytest.approx([weight for _, weight in expected])


def test_text_without_brackets_is_one_stretch_of_itself() -> None:
    for text in ("a red boat, on the sea: calm", "  spaces  ", "two\nlines", "红色的船 🐱", "<x> {y} %z% #1"):
        assert stretches(text) == (Stretch(text),)


@pytest.mark.parametrize("text", ["(a:1.2.3)", "(a:.)", "(a:+..)", "(a:1000)", "(a:-101)", "((a:50):50)",
                                  "(a:" + "9" * 400 + ")", "(" * 60 + "a"])
def test_a_weight_that_is_no_number_or_beyond_all_measure_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(BadRequest, match="no number|too much") as told:
        stretches(text)
    assert_one_line(told.value)


# -- schedules, at 10 steps: (last step, text), ... as Automatic1111's docstring lists them

TEN = [
    ("test", [(10, "test")]),
    ("a [b:3]", [(3, "a "), (10, "a b")]),
    ("a [b: 3]", [(3, "a "), (10, "a b")]),
    ("a [[[b]]:2]", [(2, "a "), (10, "a [[b]]")]),
    ("[(a:2):3]", [(3, ""), (10, "(a:2)")]),
    ("a [b : c : 1] d", [(1, "a b  d"), (10, "a  c  d")]),
    ("a[b:[c:d:2]:1]e", [(1, "abe"), (2, "ace"), (10, "ade")]),
    ("a [unbalanced", [(10, "a [unbalanced")]),
    ("a [b:.5] c", [(5, "a  c"), (10, "a b c")]),
    ("((a][:b:c [d:3]", [(3, "((a][:b:c "), (10, "((a][:b:c d")]),
    ("[a|(b:1.1)]", [(k + 1, "(b:1.1)" if k % 2 else "a") for k in range(10)]),
    ("[fe|]male", [(k + 1, "male" if k % 2 else "female") for k in range(10)]),
    ("[fe|||]male", [(k + 1, "male" if k % 4 else "female") for k in range(10)]),
    ("a [b::4] c", [(4, "a b c"), (10, "a  c")]),
    ("[a:b:1.0]", [(10, "a")]),  # with a point a share of the steps
    ("[a:b:1]", [(1, "a"), (10, "b")]),
    ("[a:b:0]", [(10, "b")]),
    ("[a:b:0.0]", [(10, "b")]),
    ("[a:b:-1]", [(10, "b")]),
    ("[a:b:99]", [(10, "a")]),
    ("[a:b:c:3]", [(10, "[a:b:c:3]")]),
    ("[a:b]", [(10, "[a:b]")]),
    ("(a [b:c:0.2]:1.3)", [(2, "(a b:1.3)"), (10, "(a c:1.3)")]),
    (r"[a\:b:c:2]", [(2, r"a\:b"), (10, "c")]),
    (r"\[a:b:2]", [(10, r"\[a:b:2]")]),
    ("[a:b:3] [", [(3, "a ["), (10, "b [")]),
    ("[[a|b]:c:2]", [(1, "a"), (2, "b"), (10, "c")]),
    ("[a|[b:c:2]]", [(1, "a"), (2, "b"), (3, "a"), (4, "c"), (5, "a"), (6, "c"), (7, "a"), (8, "c"), (9, "a"),
                     (10, "c")]),
    ("a | b [c:3]", [(10, "a | b [c:3]")]),  # there too: a | outside of [a|b] switches all scheduling off
    (r"a \| b [c:3]", [(3, r"a \| b "), (10, r"a \| b c")]),
    ("(a|b) [c:3]", [(10, "(a|b) [c:3]")]),
]
# of its wiki and the head of its parser, at 100 steps
LANDSCAPE = ("fantasy landscape with a [mountain:lake:0.25] and [an oak:a christmas tree:0.75][ in foreground::0.6]"
             "[ in background:0.25] [shoddy:masterful:0.5]")
HUNDRED = [(25, "fantasy landscape with a mountain and an oak in foreground shoddy"),
           (50, "fantasy landscape with a lake and an oak in foreground in background shoddy"),
           (60, "fantasy landscape with a lake and an oak in foreground in background masterful"),
           (75, "fantasy landscape with a lake and an oak in background masterful"),
           (100, "fantasy landscape with a lake and a christmas tree in background masterful")]


def schedule(prompt: str, steps: int) -> list[str]:
    """The text of each step."""
    return [compose(prompt, joined=False).at(step, steps)[0].text for step in range(steps)]


def spread(expected: list[tuple[int, str]]) -> list[str]:
    starts = [0, *(last for last, _ in expected)]
    return [text for start, (last, text) in zip(starts, expected, strict=False) for _ in range(start, last)]


@pytest.mark.parametrize("prompt, expected", TEN, ids=[prompt for prompt, _ in TEN])
def test_words_come_and_go_when_it_is_documented(prompt: str, expected: list[tuple[int, str]]) -> None:
    assert schedule(prompt, 10) == spread(expected)


def test_the_landscape_of_the_documentation() -> None:
    assert schedule(LANDSCAPE, 100) == spread(HUNDRED)
    cow = ["cow in a field", "horse in a field", "cow in a field", "horse in a field"]  # "Alternating Words"
    assert schedule("[cow|horse] in a field", 4) == cow
    assert schedule("[cow|cow|horse|man|siberian tiger|ox|man] in a field", 8)[5:] == [
        "ox in a field", "man in a field", "cow in a field"]


# -- AND


@pytest.mark.parametrize("prompt, expected", [
    ("a cat AND a dog", [("a cat ", 1), (" a dog", 1)]),
    ("a cat :1.2 AND a dog AND a penguin :2.2", [("a cat", 1.2), (" a dog ", 1), (" a penguin", 2.2)]),  # its wiki
    ("a:-0.5 AND b : +.5 ", [("a", -0.5), (" b", 0.5)]),
    ("a clock at 10:30", [("a clock at 10:30", 1)]),
    ("SAND AND sand and BAND", [("SAND ", 1), (" sand and BAND", 1)]),
    ("a :x AND b", [("a :x ", 1), (" b", 1)]),
    ("a (b:1.5) AND c", [("a (b:1.5) ", 1), (" c", 1)]),
    ("AND", [("", 1), ("", 1)])])
def test_prompts_are_joined_by_and_with_their_weights(prompt: str, expected: list[tuple[str, float]]) -> None:
    assert compose(prompt).at(0, 10) == tuple(Part(*one) for one in expected)
    assert compose(prompt, joined=False).at(0, 10) == (Part(prompt, 1.0),)


def test_each_of_the_joined_prompts_has_its_own_schedule() -> None:
    asked = compose("[a:b:2] AND [c|d] :0.5")
    assert [asked.at(step, 4) for step in (0, 1, 2)] == [
        (Part("a ", 1.0), Part(" c", 0.5)), (Part("a ", 1.0), Part(" d", 0.5)), (Part("b ", 1.0), Part(" c", 0.5))]


# -- chunks


def letters(text: str) -> list[int]:
    return [ord(c) for c in text if not c.isspace()]


def cut(text: str, room: int = 75) -> list[str]:
    return ["".join(chr(token.id) for token in chunk) for chunk in chunks_of(text, letters, ord(","), room)]


def test_a_full_chunk_gives_what_stands_behind_its_last_comma_to_the_next() -> None:
    assert cut("x" * 75) == ["x" * 75]
    assert cut("x" * 76) == ["x" * 75, "x"]
    assert cut("x" * 54 + "," + "y" * 25) == ["x" * 54 + "," + "y" * 20, "y" * 5]  # 21 tokens back, with the comma
    assert cut("x" * 55 + "," + "y" * 25) == ["x" * 55 + ",", "y" * 25]  # 20
    assert cut("x" * 74 + "," + "y") == ["x" * 74 + ",", "y"]
    assert cut("x" * 75 + "," + "y") == ["x" * 75, ",y"]  # the comma itself does not go back
    assert cut("x" * 62 + "," + "y" * 12 + ",z") == ["x" * 62 + "," + "y" * 12, ",z"]
    assert cut("x" * 60 + "," + "y" * 90) == ["x" * 60 + ",", "y" * 75, "y" * 15]  # no comma twice


def test_break_ends_a_chunk_early() -> None:
    assert cut("a BREAK b") == ["a", "b"]
    assert cut("a BREAK") == ["a"] and cut("") == [""] and cut("BREAK") == [""]
    assert cut("BREAK a") == ["", "a"]
    assert cut("a BREAK BREAK b") == ["a", "", "b"]
    assert cut("x" * 60 + ", BREAK " + "y" * 80) == ["x" * 60 + ",", "y" * 75, "y" * 5]


def test_words_are_put_behind_every_text_before_its_weight() -> None:
    assert with_words("a clock at 10:30", "on the left") == "a clock at 10:30 on the left"
    assert with_words("a boat AND the sea :0.7", "on the left") == "a boat on the left AND the sea on the left :0.7"


def test_chunks_keep_their_tokens_weights() -> None:
    (first, second) = chunks_of("(" + "x" * 75 + ":1.5) y", letters, None, 75)
    assert {token.weight for token in first} == {1.5} and [token.weight for token in second] == [1.0]


def test_more_chunks_than_are_read_are_refused_in_one_line() -> None:
    assert len(cut("a BREAK " * MOST_CHUNKS)) == MOST_CHUNKS
    for text, says in (("a BREAK " * (MOST_CHUNKS + 1), "some BREAK"), ("a" * 75 * MOST_CHUNKS + "a", "shorten it.")):
        with pytest.raises(BadRequest, match=f"{MOST_CHUNKS + 1} chunks of 75.*{says}") as told:
            cut(text)
        assert_one_line(told.value)


# -- what a model is asked, and what people are told


INFO = describe("storybook", STORYBOOK)


@pytest.mark.parametrize("prompt, says", [
    ("a boat <lora:nice:0.8>", "No LoRA named 'nice'.*none yet|negative prompt.*move it to the prompt"),
    ("a boat <LORA : x", "is not closed"), ("<lyco:x:1>", "No LoRA|negative"), ("<hypernet:x:1>", "hypernetwork"),
    ("<lora:" + "x" * 300 + ">", "xxx"), ("<lora:\u200b\n>", "200b|negative"), ("<lora:>", "names no LoRA|negative"),
    ("<lora:a:b>", "weight that is no number|negative"), ("<lora:a:1:2:3>", "more than a LoRA takes|negative"),
    ("<lora:a:1e3>", "no number|negative"), ("<lora:a:-900>", "too much|negative"),
    ("<lora:a:1> <lora:a:2>", "twice|negative"), ("<lora:a:1:dyn=3>", "more than|negative"),
    ("a (boat:1.2.3)", "1.2.3.*no number.*word:1.2"), ("[a:(boat:1.2.3):0.9]", "no number"),
    ("a (boat:900)", "too much"), ("a BREAK " * 70, "chunks"), (" AND ".join("abcdefghijklmnopq"), "17 prompts")])
@pytest.mark.parametrize("field", ["prompt", "negative_prompt", "regions", "region's negative"])
def test_what_cannot_be_read_is_refused_in_one_line_at_its_field(field: str, prompt: str, says: str) -> None:
    if field.startswith("region"):
        other = {"negative_prompt": prompt} if field.endswith("negative") else {}
        region = Region(name="left", prompt="a" if other else prompt, box=(0, 0, 0.5, 1), **other)
        request = Request(prompt="a red boat", regions=(region,))
        says = f"The region 'left': .*{says}"
    else:
        request = Request(**{"prompt": "a red boat", field: prompt})
    if "AND" in prompt and "negative" in field:
        check(request, INFO)  # there AND is a word
        return
    with pytest.raises(BadRequest, match=says) as told:
        check(request, INFO)
    assert told.value.field == ("regions" if field.startswith("region") else field)
    assert_one_line(told.value)


def test_joined_with_the_prompt_of_the_rest_a_regions_prompt_may_become_too_long() -> None:
    region = Region(name="left", prompt="a BREAK " * 40, box=(0, 0, 0.5, 1))
    request = Request(prompt="a BREAK " * 40, regions=(region,))
    check(request, INFO)
    with pytest.raises(BadRequest, match="The region 'left': The prompt takes 80 chunks"):
        check(request.replace(join_prompts=True), INFO)


def test_a_clip_skip_beyond_the_text_encoders_layers_is_refused_before_the_run() -> None:
    check(Request(prompt="a", clip_skip=2), INFO)
    with pytest.raises(BadRequest, match="has 2 layers: choose from 1 to 2") as told:
        check(Request(prompt="a", clip_skip=3), INFO)
    assert told.value.field == "clip_skip"
    assert_one_line(told.value)


@pytest.mark.parametrize("prompt, joined, says", [
    ("a | b [c:d:3]", True, "switches all"), ("[a:b:30]", True, r"\[\.\.\.:b:30\] changes after step 30"),
    ("(boat:1,2)", True, "write 1.2"), ("a AND b", False, "a word like any other")])
def test_what_nobody_meant_is_remarked_in_one_line(prompt: str, joined: bool, says: str) -> None:
    (line,) = remarks(prompt, 20, joined)
    assert re.search(says, line)
    assert_one_line(line)


@pytest.mark.parametrize("prompt", ["a boat", "[a:b:0.5]", "[a|b]", "[a::30]", "(a:1.2)", "a AND b", "a | b",
                                    "[(a):3]"])
def test_what_is_in_order_is_not_remarked(prompt: str) -> None:
    assert remarks(prompt, 20) == []


def test_storybook_does_not_take_the_grammar_for_words() -> None:
    def unknown(prompt: str) -> str:
        notes = check(Request(prompt=prompt), INFO)
        return " ".join(note.text for note in notes if "does not know" in note.text)

    assert unknown(r"a (red:1.3) [boat:car:0.5] BREAK on \(the\) [sea|beach] AND a [[sofa]] :0.7") == ""
    assert unknown("a [gr|bl]ey boat") == "Storybook does not know: bley. It paints as if they were not there."
    assert "blorf" in unknown("a boat [:blorf:0.9]") and "1e" not in unknown("[a:red boat:1e1]")
    assert plain_words("(re)d BREAK [a|b]", 4) == "re d a re d b"
    assert last_words("a (red:1.2) [boat:car:0.5] AND [b] :2") == "a red car, b"


def test_any_text_is_read_within_a_moment() -> None:
    signs = ["[", "]", "(", ")", ":", "|", "\\", "a", " ", "1.5", ".", "BREAK", "AND", "[a:b:0.5]", "\n", "é"]
    rng = random.Random(0)
    texts = ["".join(rng.choices(signs, k=300)) for _ in range(100)]
    texts += [sign * (MAX_PROMPT // len(sign)) for sign in (*signs, "(a", "[a:", ":1.2)", "a(b)[c]", "[a|")]
    texts += ["[" * 1250 + "a" + ":1]" * 1250, "(" * 1200 + "(a)b" * 300 + ")" * 1200]
    began = time.perf_counter()
    for text in texts:
        try:
            check(Request(prompt=text[:MAX_PROMPT], negative_prompt=text[:MAX_PROMPT]), INFO)
        except BadRequest as error:
            assert_one_line(error)
    assert time.perf_counter() - began < 60  # about half a second for the worst, and a busy machine


def test_the_most_prompts_that_can_be_joined_are_read() -> None:
    check(Request(prompt=" AND ".join("abcdefghijklmnop"[:MOST_PARTS])), INFO)
