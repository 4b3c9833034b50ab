import base64
import html.parser
import json
import pathlib
import re
import shutil

import numpy as np
import pytest
import test_study

from keras_spot import prompts, study, transfer
from keras_spot.study import report, results
from keras_spot.study.cells import Cell
from keras_spot.study.report import content, markdown, words
from keras_spot.study.report.pictures import Drawn

ROOT = pathlib.Path(__file__).parents[2]


class Page(html.parser.HTMLParser):
    """The tables of a page as lists of rows, its addresses, and whether every tag is closed."""

    VOID = {"meta", "img"}

    def __init__(self, text):
        super().__init__()
        self.tables, self.addresses, self.open, self.words = [], [], [], ""
        self.wrapped = []  # for every table whether it may be scrolled sideways
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.addresses += [v for k, v in attributes if k in ("href", "src", "srcset", "action")]
        if tag not in self.VOID:
            self.open.append(tag)
        if tag == "table":
            self.tables.append([])
            self.wrapped.append(self.scrolls)
        if tag == "tr":
            self.tables[-1].append([])
        if tag in ("td", "th"):
            self.tables[-1][-1].append("")
        self.scrolls = dict(attributes).get("class") == "scroll"

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words += data
        if self.open and self.open[-1] in ("td", "th"):
            self.tables[-1][-1][-1] += data


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    plan = test_study.describe(
        name="<b>Mine</b> & yours",
        sources=["mr", "snli", "glue/rte", "subj"],
        targets=["glue/sst2", "glue/rte", "super_glue/cb"],
        examples=[16, None],
        seeds=[0, 1, 2],
    )
    test_study.run(folder, plan)
    report.write_report(folder)
    return folder


@pytest.fixture(scope="module")
def page(folder):
    return Page((folder / "report.html").read_text(encoding="utf-8"))


def test_the_page_stands_alone(folder, page):
    text = (folder / "report.html").read_text(encoding="utf-8")
    assert page.open == []
    assert page.addresses
    assert all(address.startswith("data:image/svg+xml;base64,") for address in page.addresses)
    assert not re.search(r"https?:|//[a-z]|@import|url\(|<link|<iframe", text)
    assert "<b>Mine" not in text
    assert "&lt;b&gt;Mine&lt;/b&gt; &amp; yours" in text


def test_the_page_has_every_run(folder, page):
    rows = study.StudyFolder(folder).rows()
    head, *shown = page.tables[-1]
    assert head[:5] == ["kind", "source", "target", "examples", "seed"]
    assert head[7] == "score"
    assert len(shown) == len(rows) == 4 + 2 * (9 + 33)
    for line, row in zip(shown, rows):
        expected = [row["kind"], row["source"] or "", row["target"] or ""]
        assert line[:3] == expected
        assert (line[4], line[7]) == (str(row["seed"]), f"{row['score']:.2f}")


def test_the_answer_first_and_statistics_behind_it(page, folder):
    """For page and summary: which source, the heatmap of gains, and only then how one knows."""
    order = ["Which source should I use with 16 target examples?", "majority class", "Gain: points"]
    order += ["Mean gain of every source", "Learning curves", "Where transfer helps"]
    order += ["Every pair", "Statistics: 16 target examples", "A source changes the score"]
    order += ["Does retrieval beat a random source?", "Similarity and gain"]
    order += ["Which source should I use with all target examples?", "How it was run"]
    for text in (page.words, (folder / "summary.md").read_text(encoding="utf-8")):
        places = [text.index(part) for part in order]
        assert places == sorted(places)
    assert page.words.index("Every run (88)") > page.words.index("How it was run")


def test_a_recommendation_for_every_target(page, folder):
    actual = results.gather(folder)
    tables = [table for table in page.tables if table[0][1] == "use"]
    assert len(tables) == len(actual.parts) == 2
    for part, (head, *shown) in zip(actual.parts, tables):
        assert head[:3] == ["target", "use", "gain"]
        assert head[4:7] == ["from scratch", "majority class", "metric"]
        assert [line[0] for line in shown] == list(part.grid.targets)
        for line, record in zip(shown, part.recommendations):
            use = record["use"]
            assert line[1] == (use["source"] if use else "none: train from scratch")
            assert line[2] == words.signed(*((use["gain"], use["gain_spread"]) if use else (None,)))
            assert (line[5], line[6]) == ("40.0", "accuracy")


def lines(text):
    """The cells of all tables of a Markdown text."""
    rows = [line for line in text.splitlines() if line.startswith("|")]
    return [re.split(r" \| ", row[2:-2]) for row in rows if not row.startswith("|---")]


def test_page_and_summary_have_the_same_tables(page, folder):
    text = (folder / "summary.md").read_text(encoding="utf-8")
    every_run = page.tables[-1]
    assert lines(text) == [row for table in page.tables if table is not every_run for row in table]


def test_tables_and_pictures_scroll_on_a_phone_and_say_so(folder, page):
    text = (folder / "report.html").read_text(encoding="utf-8")
    assert all(page.wrapped)
    assert text.count("<div class=scroll tabindex=0") == len(page.tables) + text.count("<img")
    assert ".scroll { overflow-x: auto; }" in text
    assert 'content: "scroll sideways for more' in text
    assert 'name="viewport" content="width=device-width' in text


def test_no_card_is_empty_and_every_picture_is_shown(folder):
    text = (folder / "report.html").read_text(encoding="utf-8")
    names = {file.read_bytes() for file in (folder / "pictures").glob("*.svg")}
    cards = re.findall(r"<figure[^>]*>(.*?)</figure>", text, re.DOTALL)
    shown = {base64.b64decode(re.search(r"base64,([^\"]+)", card)[1]) for card in cards}
    assert shown == names
    assert all(re.search(r"<figcaption>[^<]{20,}", card) for card in cards)
    assert not re.search(r"<div class=figures></div>|<ul></ul>|<tbody></tbody>", text)


def test_pictures_and_summary(folder):
    pictures = sorted(file.name for file in (folder / "pictures").iterdir())
    assert "gains-16.svg" in pictures
    assert "heatmap-all.svg" in pictures
    assert "curves-super_glue.cb-all.svg" in pictures
    assert pictures.pop(pictures.index("keras_spot.json"))
    assert len(pictures) == 2 * (1 + 2 + 3 + 2 + 3)
    text = (folder / "summary.md").read_text(encoding="utf-8")
    assert text.startswith("# <b>Mine</b> & yours\n")
    assert sorted(re.findall(r"\]\(pictures/(.*?)\)", text)) == pictures


def test_pictures_of_a_page_follow_it_to_dark(folder):
    for file in (folder / "pictures").glob("*.svg"):
        assert "prefers-color-scheme:dark" in file.read_text(encoding="utf-8")
    text = (folder / "report.html").read_text(encoding="utf-8")
    assert "@media (prefers-color-scheme: dark)" in text
    assert '<meta name="color-scheme" content="light dark">' in text


def test_a_report_of_what_is_kept(folder, tmp_path):
    """Description, table and embeddings are enough for the same report; more runs need cells."""
    for name in ("study.json", "table.jsonl"):
        shutil.copy(folder / name, tmp_path / name)
    shutil.copytree(folder / "embeddings", tmp_path / "embeddings")
    report.write_report(tmp_path)
    for name in ("report.html", "summary.md", "table.csv", "table.jsonl"):
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()
    assert study.status(tmp_path).complete
    shutil.rmtree(tmp_path / "embeddings")
    text = report.write_report(tmp_path).read_text(encoding="utf-8")
    assert "Which source should I use with 16 target examples?" in text
    assert "Similarity and gain" not in text
    with pytest.raises(ValueError, match="`folder` must hold the cells of its runs to go on"):
        test_study.run(tmp_path, study.StudyFolder(tmp_path).study())
    with (tmp_path / "table.jsonl").open("a") as file:
        file.write('{"id": "x"}\n')
    with pytest.raises(ValueError, match=r"must be a record of a run.*table\.jsonl \(kind=None"):
        study.StudyFolder(tmp_path).rows()


def test_similarities_and_gains_are_those_of_the_rows(folder):
    actual = results.gather(folder)
    part = actual.parts[1]
    place = study.StudyFolder(folder)

    def read(*cell):
        return prompts.read(place.embedding(Cell(*cell))).values

    target = read("scratch", None, "super_glue/cb", None, 1)
    source = read("source", "subj", None, None, 0)
    for name, function in transfer.SIMILARITIES.items():
        value = part.similarities[name][3, 2, 1]
        assert value == pytest.approx(function(target, source[None])[0])
    rows = {row["id"]: row for row in place.rows()}
    gain = rows["transfer--mr--super_glue.cb--all--1"]["score"]
    gain -= rows["scratch--super_glue.cb--all--1"]["score"]
    assert part.grid.gains[0, 2, 1] == pytest.approx(gain)
    assert np.isnan(part.grid.scores[2, 1]).all()  # a task is not transferred to itself
    assert list(part.embeddings) == [
        *("mr", "snli", "glue/rte", "subj", "glue/sst2", "super_glue/cb"),
    ]


def test_a_study_on_its_way(folder, tmp_path):
    """Half a study is reported as far as it is; one that has not begun says so."""
    copy = tmp_path / "study"
    shutil.copytree(folder, copy)
    rows = sorted((copy / "cells").iterdir())
    kept = [file for file in rows if not file.name.startswith("transfer--subj")]
    kept = [file for file in kept if "--all--" not in file.name or file.name.startswith("source")]
    for file in set(rows) - set(kept):
        file.unlink()
    (copy / "cells" / "scratch--glue.sst2--16--1.json").unlink()

    def nearness(query, prompts):
        """A similarity of one's own."""
        return -np.linalg.norm(prompts - query, axis=(1, 2))

    report.write_report(copy, {"nearness": nearness})
    text = (copy / "report.html").read_text(encoding="utf-8")
    assert "The first source by nearness" in text
    assert "2 seeds cannot tell chance from gain" in text  # one seed's baseline is missing
    assert f"{len(kept) - 1} of {len(rows)} runs finished" in Page(text).words
    for file in kept:
        if not file.name.startswith("source"):
            file.unlink(missing_ok=True)
    before = (copy / "report.html").read_bytes()
    with pytest.raises(ValueError, match="must have at least one finished run on a target"):
        report.write_report(copy)
    assert (copy / "report.html").read_bytes() == before


def test_one_seed_and_two_tasks(tmp_path):
    plan = test_study.describe(sources=["mr"], targets=["glue/rte"], seeds=[7])
    test_study.run(tmp_path, plan)
    text = report.write_report(tmp_path).read_text(encoding="utf-8")
    page = Page(text)
    assert len(page.tables[-1]) == 4
    assert "Nothing can be claimed yet about glue/rte." in page.words
    assert "1 seed cannot tell chance from gain" in page.words
    assert "<td class=sentences>1 seed cannot" in text  # no number, though it begins with one
    assert "of 1 pair " in page.words
    assert "1 source by 1 target by 1 seed" in page.words
    assert "random" not in page.words  # nothing to choose, nothing to correlate: no empty cards
    assert "Similarity and gain" not in page.words
    assert json.loads((tmp_path / "table.jsonl").read_text().splitlines()[1])["seed"] == 7


def test_the_kept_study_says_what_its_table_says():
    """Its summary is up to date, and MRPC, whose gains stay below the majority class, has none."""
    kept = ROOT / "examples" / "studies" / "tiny"
    assert report.check_report(kept)  # the command of its header writes it anew
    actual = results.gather(kept)
    nothing = Drawn(gains=[], curves=[], top_k=[], similarity=[], tasks=[])
    text = markdown.render(content.compose(actual, [nothing], []), kept, "pictures")
    assert lines(text) == lines((kept / "summary.md").read_text(encoding="utf-8"))
    for start in ("**Start", "- "):
        shown = [line for line in text.splitlines() if line.startswith(start)]
        assert shown
        assert set(shown) <= set((kept / "summary.md").read_text(encoding="utf-8").splitlines())
    (mrpc,) = [r for r in actual.parts[0].recommendations if r["target"] == "glue/mrpc"]
    assert mrpc["use"] is None
    assert mrpc["best"]["score"] < mrpc["majority"]
    assert not any(p["helps"] for p in actual.parts[0].pairs if p["target"] == "glue/mrpc")
