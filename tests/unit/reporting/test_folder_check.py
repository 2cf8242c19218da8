from dataclasses import replace

import pytest

from buckler.data.survey import Related, UnusableFiles
from buckler.reporting.folder_check import ClassRow, Duration, FolderCheck, NeedRow, spoken, text

GOOD = FolderCheck(
    folder="/data/skin",
    settings="profile paper",
    refusals=(),
    classes=(ClassRow("benign", 1440, 630, 629, 350, 130, 149),),
    needs=(NeedRow(141, 149, "test pictures of malignant for gate.min_malignant_recall 0.6"),),
)


def test_a_folder_that_will_do_says_so_last():
    assert text(GOOD).splitlines()[0] == "/data/skin, with profile paper"
    assert text(GOOD).endswith("\nThis folder will do for profile paper.\n")


def test_every_class_has_a_line_with_its_numbers():
    (row,) = (line for line in text(GOOD).splitlines() if line.startswith("benign"))
    assert row.replace("|", "").split() == ["benign", "1440", "630", "629", "350", "130", "149"]


def test_a_folder_that_will_not_do_says_why_what_to_change_and_which_profile_would_do():
    bad = replace(GOOD, refusals=("expected more",), remedies=("add some", "raise it"), profiles=("demo",))
    assert not bad.fits
    assert text(bad).endswith(
        "This folder will not do for profile paper:\n"
        "  - expected more\n"
        "One of these changes is enough for the numbers of pictures:\n"
        "  - add some\n"
        "  - raise it\n"
        "Profiles whose numbers of pictures it has: demo\n"
    )


def test_only_a_need_that_is_not_met_is_marked():
    lines = text(replace(GOOD, needs=(NeedRow(10, 10, "met"), NeedRow(10, 9, "missed")))).splitlines()
    assert [line for line in lines if "!" in line] == ["     10          9 ! missed"]


def test_only_five_of_many_names_are_shown():
    found = UnusableFiles("got a HEIF", "convert them", tuple(f"a/{i}.heic" for i in range(12)))
    shown = text(replace(GOOD, unusable=(found,)))
    assert "Unusable files: 12" in shown
    assert "a/0.heic, a/1.heic, a/2.heic, a/3.heic, a/4.heic and 7 more" in shown
    assert "convert them" in shown


def test_contradictions_are_named():
    pairs = tuple((f"benign/{i}", f"malignant/{i}") for i in range(7))
    shown = text(replace(GOOD, related=Related(7, 14, 2, 60, pairs)))
    assert "14 pictures are in 7 groups" in shown
    assert "7 pairs look alike and have different classes" in shown
    assert "benign/4 and malignant/4\n    and 2 more" in shown


def test_what_the_folder_contains_follows_its_name():
    assert text(replace(GOOD, found="9 files found, 9 used")).splitlines()[:2] == [
        "/data/skin, with profile paper",
        "9 files found, 9 used",
    ]


def test_the_time_is_a_range_with_the_stages_that_take_most_of_it():
    shown = text(replace(GOOD, duration=Duration(2400, 4800, {"attack": (600, 3000), "export": (60, 61)})))
    assert "about 40 minutes to 1 h 20 min (an estimate)" in shown
    assert "attack 10 minutes to 50 minutes, export 1 minute" in shown


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.2, "5 seconds"),
        (41, "40 seconds"),
        (57, "1 minute"),
        (130, "2 minutes"),
        (770, "15 minutes"),
        (3500, "1 h 00 min"),
    ],
)
def test_a_duration_is_rounded_as_an_estimate_deserves(seconds, words):
    assert spoken(seconds) == words
