"""The help of commands with many options."""

from __future__ import annotations

import re

import pytest
from typer.main import get_command

from skag.cli import app
from skag.cli.panels import PANELS
from tests.helpers.command_pages import help_of


@pytest.mark.parametrize("name", list(PANELS))
def test_the_first_group_has_the_five_options_that_most_people_need(name: str) -> None:
    sections = re.split(r"^(\S[^\n]*):$", help_of([name]), flags=re.M)
    titles = dict(zip(sections[1::2], sections[2::2], strict=True))
    assert list(titles)[:2] == ["Arguments", "Options"]
    first = re.findall(r"^  (--[a-z-]+)", titles["Options"], flags=re.M)
    assert sorted(first) == sorted(PANELS[name]["Options"]) and len(first) == 5


@pytest.mark.parametrize("name", list(PANELS))
def test_every_option_stands_in_a_group(name: str) -> None:
    printed = help_of([name])
    for param in get_command(app).commands[name].params:
        if param.param_type_name == "option":
            shown = next(option for option in param.opts if option.startswith("--"))
            assert len(re.findall(rf"^  (?:-\w, )?{shown}\b(?!-)", printed, flags=re.M)) >= 1, shown
