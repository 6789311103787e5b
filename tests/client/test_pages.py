"""Pages, tables, graphs and texts as they are shown."""

from __future__ import annotations

import doctest
import xml.etree.ElementTree as ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cupola import ConfigError, NotFound, text
from cupola.client.draw import draw_snapshot
from cupola.client.names import Named
from cupola.client.page import Page, Table, render_html, render_table, render_text
from cupola.entities.run import StepStatus
from cupola.snapshot import FromStep, Gather, Literal, Snapshot, StepSpec


def graph(**needs: str) -> Snapshot:
    """Return a snapshot of steps that need others, `b="a"`."""
    names = list(needs)
    steps = tuple(
        StepSpec(
            name=name,
            source=f"m:{name}",
            code=(),
            code_digest="",
            uncacheable="",
            inputs={
                f"x{place}": Gather("list", (FromStep(names.index(source), "output"), Literal(b"\x01")))
                for place, source in enumerate(found.split())
            },
            outputs=(),
            after=(),
            options=0,
            base_key="",
        )
        for name, found in needs.items()
    )
    return Snapshot(pipeline="p", source="m:p", params={}, steps=steps)


@pytest.mark.feature("CORE-09")
def test_a_graph_is_a_tree_in_which_chains_go_straight_down():
    drawn = draw_snapshot(graph(load="", split="load", fit="split", base="split", compare="fit base", report="compare"))
    assert drawn.splitlines() == [
        "p",
        "load",
        "split",
        "├─ fit",
        "└─ base",
        "   compare  ← fit",
        "   report",
    ]


@pytest.mark.feature("CORE-09")
def test_a_graph_with_several_roots_and_states():
    states = {0: StepStatus.COMPLETED, 1: StepStatus.FAILED, 2: StepStatus.SKIPPED}
    assert draw_snapshot(graph(a="", b="", c="a b", d=""), states).splitlines() == [
        "p",
        "├─ ✓ a",
        "├─ ✗ b",
        "│  - c  ← a",
        "└─ · d",
    ]


@pytest.mark.feature("CORE-09")
def test_a_long_chain_and_a_wide_gather_stay_readable():
    names = [f"s{number}" for number in range(3000)]
    chain = {name: names[place - 1] if place else "" for place, name in enumerate(names)}
    assert max(map(len, draw_snapshot(graph(**chain)).splitlines())) < 10
    wide = {f"s{number}": "" for number in range(50)}
    drawn = draw_snapshot(graph(**wide, gather=" ".join(wide)))
    assert "and 43 more" in drawn


@pytest.mark.feature("CORE-09", "CORE-12")
def test_hostile_names_stay_text_in_every_form():
    bad = "<script>alert(1)</script>\x1b[2J\n\"'&"
    snapshot = graph(**{bad: ""})
    assert "\x1b" not in draw_snapshot(snapshot)
    assert len(draw_snapshot(snapshot).splitlines()) == 2
    picture = ElementTree.fromstring(draw_snapshot(snapshot, form="svg"))
    assert {element.tag.rpartition("}")[2] for element in picture.iter()} == {"svg", "title", "rect", "text"}
    mermaid = draw_snapshot(snapshot, {}, "mermaid")
    assert "<script" not in mermaid
    assert '"<br/>' not in mermaid.replace('<br/>pending"', "")
    with pytest.raises(ConfigError, match="no format 'png'"):
        draw_snapshot(snapshot, form="png")


@pytest.mark.feature("CORE-09")
def test_tables_fit_the_width_and_count_wide_letters_twice():
    table = Table(("name", "n"), (("漢字漢字", "1"), ("a" * 50, "22")), rights=(1,))
    lines = render_table(table, width=24)
    assert all(text.cells(line) <= 24 for line in lines)
    assert lines[1].startswith("漢字漢字 ")
    assert lines[2].startswith("aaaa")
    assert "…" in lines[2]
    assert lines[1].endswith(" 1")
    full = render_table(table)
    assert "a" * 50 in full[2]
    assert full[1].index("1") == text.cells("a" * 50) + 3 - 4


@pytest.mark.feature("CORE-12")
@given(st.text(max_size=40), st.text(max_size=40))
def test_pages_hold_no_control_character_and_no_markup_whatever_they_show(name, value):
    page = Page(name, (("label", value),), (Table(("a", "b"), ((name, value),)),), ((name, value),))
    shown = render_text(page)
    assert all(letter == "\n" or letter == "\t" or letter.isprintable() or letter in "\u200c\u200d" for letter in shown)
    body = render_html(page).partition("</style>")[2]
    pieces = body.replace("<", "\x00<").split("\x00")
    allowed = ("<div", "</div", "<strong", "</strong", "<table", "</table", "<tr", "</tr", "<td", "</td", "<th", "</th",
               "<pre", "</pre")  # fmt: skip
    assert all(piece.startswith(allowed) for piece in pieces if piece)


@pytest.mark.feature("CORE-12")
@given(st.text(), st.integers(min_value=1, max_value=30))
def test_cut_text_never_takes_more_columns_than_there_are(value, width):
    assert text.cells(text.cut(text.printable(value), width)) <= width


@pytest.mark.feature("CORE-09")
def test_examples_in_the_docstrings_hold():
    assert doctest.testmod(text).failed == 0


@pytest.mark.feature("CORE-12")
def test_a_wrong_name_is_answered_with_the_nearest_or_with_what_there_is():
    named = Named("step", ["fit", "load"], lambda name: name.upper(), where="run x")
    assert named["fit"] == "FIT"
    assert list(named.items()) == [("fit", "FIT"), ("load", "LOAD")]
    with pytest.raises(NotFound, match=r"no step 'fitt'.*run x.*\n.*did you mean 'fit'"):
        named["fitt"]
    with pytest.raises(KeyError, match="there are: fit, load"):
        named["zzz"]
    with pytest.raises(NotFound, match="there is no output at all"):
        Named("output", [], str)["x"]
