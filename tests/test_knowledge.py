"""A person's knowledge: the form, its mistakes by class and field, and the files that come with skag."""

from __future__ import annotations

import itertools
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skag.backends import BackendError, open_backend
from skag.backends.knowledge import FileBackend, as_told, find_file, knowledge_names, load_knowledge, template
from skag.dialogue import formats
from skag.dialogue.describe import describe, load
from skag.dialogue.exchanges import Conversation, Exchange, named, spec_of
from skag.dialogue.prompts import load_prompts
from skag.dialogue.replay import identities_of
from skag.dialogue.store import DialogueStore
from skag.methods.skeleton_agent import selector
from skag.methods.skeleton_agent.questioner import ask_distinctions
from skag.methods.skeleton_agent.script import SCRIPT
from skag.skeleton.layouts import Layout, load_layout
from skag.skeleton.simulate import ACTIONS
from skag.skeleton.store import SkeletonStore

from .helpers.servers import about

KINECT, NTU = load_layout("kinect-v1"), load_layout("nturgb+d")
CLASSES = ["sit down", "stand up", "wave"]
NW_UCLA = [
    "pick up with one hand", "pick up with two hands", "drop trash", "walk around", "sit down", "stand up", "donning",
    "doffing", "throw", "carry",
]  # fmt: skip
PAIR = '\n[[pair]]\n"sit down" = "the hip centre sinks"\n"stand up" = "the hip centre rises."\n'


def entry(name: str, **fields: object) -> str:
    values = {
        "name": name,
        "overview": "It happens once.",
        **dict.fromkeys(("head", "hand", "arm", "hip", "leg", "foot"), "still"),
        "critical_joints": ["Right  Hand: goes up", "head: nods: twice"],
        "key_features": f"In {name} the right hand goes up.",
        **fields,
    }
    lines = [
        f"{field} = {value!r}" if isinstance(value, list) else f'{field} = "{value}"' for field, value in values.items()
    ]
    return "\n[[class]]\n" + "\n".join(lines) + "\n"


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str], Path]:
    def write(text: str) -> Path:
        path = tmp_path / "mine.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


FORM = "".join(map(entry, CLASSES)) + PAIR


def test_a_file_answers_all_rounds(write: Callable[[str], Path], tmp_path: Path) -> None:
    backend = FileBackend(str(write(FORM)), CLASSES, KINECT)
    assert backend.ask([], about(0, "sit down", 2)).text.splitlines()[0] == "head: still"
    assert backend.ask([], about(0, "sit down", 3)).text == "4, 12"
    assert backend.ask([], about(0, "sit down", 4)).text == "4-head: nods: twice\n12-right hand: goes up"
    assert backend.ask([], about(1, "stand up", 6, (0, 2))).text == "Unlike in sit down, the hip centre rises."
    assert backend.ask([], about(2, "wave", 6, (0, 1))).text == "In wave the right hand goes up."  # no pair: round 5
    prompts = load_prompts(SCRIPT)
    with DialogueStore(tmp_path / "d.h5") as store:
        report = describe(backend, store, CLASSES, KINECT, prompts)
        assert report.failed == () and report.asked == 15
        refresh = ask_distinctions(backend, store, report.conversations, {0: (1,), 1: (0,), 2: (1,)}, KINECT, prompts)
        assert refresh.failed == () and [each.details["pairs"] for each in refresh.exchanges] == [
            ["stand up"],
            ["sit down"],
            [],
        ]
        told = load(store, CLASSES, KINECT, SCRIPT, identity=backend.identity())
        assert selector.critical_mask(told, KINECT).sum() == 6


def test_an_edited_file_is_asked_anew_and_notes_are_no_edit(write: Callable[[str], Path]) -> None:
    def identity(text: str) -> dict:
        return FileBackend(str(write(text)), CLASSES, KINECT).identity()

    first = identity(FORM)
    assert spec_of(first) == "file:mine" and "/" not in str(first)
    assert identity("# mine\n" + FORM.replace("still", " still ") + entry("another class")) == first
    others = [
        identity(FORM.replace("goes up", "goes down", 1)),
        identity(FORM.replace("rises", "sinks")),
        identity(FORM.replace(PAIR, "")),
        identity(FORM.replace("It happens once.", "It happens twice.", 1)),
    ]
    assert len({each["content"] for each in [first, *others]}) == 5


def test_pairs_are_told_in_the_order_of_confusion_as_far_as_they_fit(write: Callable[[str], Path]) -> None:
    classes = [f"action {number}" for number in range(6)]
    pairs = "".join(
        f'\n[[pair]]\n"action 0" = "it has the sign number {n} of all"\n"action {n}" = "it has not"\n'
        for n in range(1, 6)
    )
    known = load_knowledge(write("".join(map(entry, classes)) + pairs), classes, KINECT)
    text, told = known.distinction("action 0", [f"action {number}" for number in (5, 2, 9, 1, 3)])
    assert told == ["action 5", "action 2", "action 1"]
    assert text.startswith("Unlike in action 5, it has the sign number 5 of all; unlike in action 2, it has")
    SCRIPT[6].format.check(text, KINECT)
    long = f"the right hand {'rises and sinks ' * 17}at last"
    known = load_knowledge(
        write(("".join(map(entry, classes)) + pairs).replace("it has the sign number 5 of all", long)), classes, KINECT
    )
    text, told = known.distinction("action 0", ["action 5", "action 2"])
    assert told == ["action 5"] and formats.token_bound(text) <= formats.MAX_TOKENS


def in_form(old: str, new: str) -> Callable[[str], str]:
    return lambda text: text.replace(old, new, 1)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (in_form("Right  Hand: goes up", "rigth hand: goes up"),
         "class 'sit down', critical_joints: 'rigth hand' is no joint of layout kinect-v1 (nearest: 'right hand')"),
        (in_form("Right  Hand: goes up", "right hand"), "critical_joints: 'right hand' does not say how it moves"),
        (in_form("head: nods: twice", "right hand: nods"), "'right hand' is there twice"),
        (in_form("['Right  Hand: goes up', 'head: nods: twice']", "[]"), "'sit down', critical_joints: is empty"),
        (in_form("['Right  Hand: goes up', 'head: nods: twice']", "5"), "critical_joints: is no list of texts"),
        (in_form("key_features", "keyfeatures"),
         "class 'sit down' has an unknown field 'keyfeatures' (nearest: 'key_features')"),
        (in_form('"It happens once."', '""'), "class 'sit down', overview: is empty"),
        (in_form('"It happens once."', "5"), "class 'sit down', overview: is no text"),
        (in_form("In sit down the right hand goes up.", "Up. And down."),
         "class 'sit down', key_features: it is more than one sentence"),
        (in_form("In sit down the right hand goes up.", "The 12-right hand goes up."),
         "key_features: it has the joint number '12-right hand'"),
        (in_form('name = "wave"', 'name = "wafe"'), "class 'wave' is missing (nearest: 'wafe')"),
        (in_form('name = "wave"', 'name = "sit down"'), "class 'sit down' is there twice"),
        (in_form('name = "wave"', "name = 5"), "class number 3 has no name"),
        (in_form('"stand up" = ', '"standup" = '), "'standup' is no class of the file (nearest: 'stand up')"),
        (in_form('"the hip centre sinks"', '" "'), "pair number 1 ('sit down' and 'stand up'), 'sit down': is empty"),
        (in_form("the hip centre sinks", "sinks " * 80), "'sit down': it is too long"),
        (in_form("the hip centre sinks", "it sinks. It stays"), "'sit down': it is more than one sentence"),
        (lambda text: text + PAIR, "pair number 2 ('sit down' and 'stand up') is there twice"),
        (lambda text: text + '[[pair]]\n"wave" = "x"\n', "pair number 2 ('wave') has 1 classes, and must have two"),
        (in_form("[[pair]]", "[[pairs]]"), "'pairs' is no part of it (nearest: 'pair')"),
        (lambda text: "pair = 3\n" + text.replace(PAIR, ""), "'pair' must be written [[pair]]"),
        (in_form('head = "still"', "head = still"), "is no valid TOML"),
        (lambda text: "[" * 5000, "is no valid TOML"),
    ],
)  # fmt: skip
def test_mistakes_are_named_by_class_and_field(
    write: Callable[[str], Path], change: Callable[[str], str], said: str
) -> None:
    with pytest.raises(BackendError) as caught:
        load_knowledge(write(change(FORM)), CLASSES, KINECT)
    line = str(caught.value)
    assert said in line and "mine.toml" in line and "\n" not in line and line.isprintable()


def test_more_than_ten_joints_are_too_many(write: Callable[[str], Path]) -> None:
    joints = [f"{joint}: moves" for joint in KINECT.joints[:11]]
    with pytest.raises(BackendError, match="'wave', critical_joints: it names 11 joints, and must name 1 to 10"):
        load_knowledge(write(entry("wave", critical_joints=joints)), ["wave"], KINECT)


def test_one_line_tells_of_some_mistakes_and_counts_the_others(write: Callable[[str], Path]) -> None:
    with pytest.raises(BackendError) as caught:
        load_knowledge(write(template(CLASSES, KINECT)), CLASSES, KINECT)
    assert "class 'sit down', overview: is empty; class 'sit down', head: is empty;" in str(caught.value)
    assert str(caught.value).endswith("and 22 more. Correct the file and try again.")


@pytest.mark.parametrize(
    ("data", "said"),
    [(b"\xff\xfe", "not UTF-8"), (b"#" * (5 << 20), "larger than a knowledge file"), (None, "no knowledge file")],
)
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, data: bytes | None, said: str) -> None:
    path = tmp_path / "x.toml"
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(BackendError, match=said):
        FileBackend(str(path), CLASSES, KINECT)


@settings(max_examples=60, deadline=None)
@given(st.text(st.characters(), max_size=200))
def test_no_text_in_a_file_can_do_more_than_be_refused(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.mktemp("x") / "x.toml"
    path.write_bytes((FORM + text).encode("utf-8", "replace"))
    try:
        known = load_knowledge(path, CLASSES, KINECT)
    except BackendError as error:
        assert str(error).isprintable()
    else:
        for number, name in itertools.product(range(1, 6), CLASSES):
            SCRIPT[number].format.check(known.classes[name].answer(SCRIPT[number].kind, KINECT), KINECT)


# ---- the form


@pytest.mark.parametrize(
    "names", [CLASSES, ['a "quoted" \\ name', "é 手 [red]", "tab\tand\x7f", "one\nline"], ["alone"]]
)
def test_the_empty_form_is_valid_and_names_everything(names: list[str]) -> None:
    text = template(names, KINECT)
    values = tomllib.loads(text)
    assert [each["name"] for each in values["class"]] == names and set(values) == {"class"}
    assert all(f"#   {joint}\n" in text for joint in KINECT.joints)


def test_a_form_that_is_filled_in_is_accepted(write: Callable[[str], Path]) -> None:
    text = template(CLASSES, KINECT).replace('  # "right foot: moves', '  "right foot: moves')
    text = text.replace('key_features = ""', 'key_features = "The right foot moves up."').replace('= ""', '= "still"')
    example = text[text.index("# [[pair]]") :]
    known = load_knowledge(write(text + example.replace("# ", "")), CLASSES, KINECT)
    assert known.classes["wave"].joints == {19: "moves up and stays there"} and len(known.pairs) == 2


def test_a_form_filled_with_answers_says_the_same(write: Callable[[str], Path], tmp_path: Path) -> None:
    with DialogueStore(tmp_path / "d.h5") as store:
        backend = FileBackend("nw-ucla", NW_UCLA, KINECT)
        report = describe(backend, store, NW_UCLA, KINECT, load_prompts(SCRIPT))
    told = [as_told(conversation, KINECT, SCRIPT) for conversation in report.conversations]
    known = load_knowledge(write(template(NW_UCLA, KINECT, told)), NW_UCLA, KINECT)
    assert known.classes == load_knowledge(find_file("nw-ucla"), NW_UCLA, KINECT).classes


def test_what_a_model_says_of_parts_is_read_where_it_names_them() -> None:
    said = {
        1: "It rises.\nThen it ends.",
        2: "- **Head**: looks  up\nthe HAND : goes: up\nhip:\n[[class]]\nfoot:\tstill",
        4: '20-right foot: moves "up" \\ ]\n1-Hip Centre: rises',
        5: "The hip rises a lot.",
    }
    conversation = Conversation(0, "wave", {number: told("wave", number, text) for number, text in said.items()})
    known = as_told(conversation, KINECT, SCRIPT)
    assert known.parts == {"head": "looks up", "hand": "", "arm": "", "hip": "", "leg": "", "foot": "still"}
    (entry,) = tomllib.loads(template(["wave"], KINECT, [known]))["class"]
    assert entry["critical_joints"] == ["hip centre: rises", 'right foot: moves "up" \\ ]']
    assert entry["overview"] == "It rises. Then it ends." and entry["key_features"] == said[5]
    assert as_told(conversation, load_layout("coco"), SCRIPT).joints == {}


@pytest.mark.parametrize("spec", ["measured", "ollama/llama3.2", "openai/org/model", "file:nw-ucla", "file:a/b"])
def test_who_is_named_is_found_by_that_name(spec: str) -> None:
    assert spec_of(named(spec)) == spec


def told(class_name: str, number: int, answer: str) -> Exchange:
    return Exchange("", "", class_name, number, {}, (), "", answer)


# ---- the files that come with skag

KINDER_GATOR = [
    entry["name"] for entry in tomllib.loads(find_file("kinder-gator").read_text(encoding="utf-8"))["class"]
]
SHIPPED = [("nw-ucla", NW_UCLA, KINECT), ("demo", list(ACTIONS), NTU), ("kinder-gator", KINDER_GATOR, KINECT)]


@pytest.mark.parametrize(("name", "classes", "layout"), SHIPPED)
def test_shipped_knowledge_fits_and_tells_all_classes_apart(name: str, classes: list[str], layout: Layout) -> None:
    known = load_knowledge(find_file(name), classes, layout)
    joints = [frozenset(each.joints) for each in known.classes.values()]
    assert len(set(joints)) == len(classes) and all(3 <= len(each) <= 10 for each in joints)
    sentences = [each.key_features for each in known.classes.values()]
    assert len(set(sentences)) == len(classes)
    for one in classes:
        others = [other for other in classes if (one, other) in known.pairs]
        assert others, f"{one} is in no pair"
        for chosen in itertools.permutations(others, min(3, len(others))):
            text, told = known.distinction(one, chosen)
            SCRIPT[6].format.check(text, layout)
            assert told
    assert name in knowledge_names()


def test_shipped_knowledge_is_asked_through_the_command_line_name(tmp_path: Path, tiny_store: Path) -> None:
    with SkeletonStore(tiny_store) as data, pytest.raises(BackendError, match="class 'raise right hand' is missing"):
        open_backend("file:nw-ucla", store=data)
    with pytest.raises(
        BackendError, match="no knowledge file 'nwucla': give --llm file:PATH, or file: and one of demo"
    ):
        find_file("nwucla")


def test_a_file_that_is_gone_is_replayed_from_the_store(
    write: Callable[[str], Path], tmp_path: Path, tiny_store: Path
) -> None:
    with SkeletonStore(tiny_store) as data, DialogueStore(tmp_path / "d.h5") as store:
        path = write("".join(map(entry, data.classes)))
        backend = open_backend(f"file:{path}", store=data)
        describe(backend, store, data.classes, data.layout, load_prompts(SCRIPT))
        assert identities_of(f"file:{path}", store, store=data) == [backend.identity()]
        path.unlink()
        assert identities_of("file:mine", store, store=data) == [backend.identity()]
        assert identities_of(f"file:{path}", store, store=data) == [backend.identity()]
        with pytest.raises(BackendError, match="no knowledge file"):
            identities_of("file:other", store, store=data)
