import html.parser
import json
import re
import shutil

import numpy as np
import pytest
import test_study

from keras_spot import prompts, study, transfer
from keras_spot.study import report, results
from keras_spot.study.cells import Cell


class Page(html.parser.HTMLParser):
    """The tables of a page as lists of rows, its addresses, and whether every tag is closed."""

    VOID = {"meta", "img"}

    def __init__(self, text):
        super().__init__()
        self.tables, self.addresses, self.open, self.words = [], [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.addresses += [v for k, v in attributes if k in ("href", "src", "srcset", "action")]
        if tag not in self.VOID:
            self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        if tag == "tr":
            self.tables[-1].append([])
        if tag in ("td", "th"):
            self.tables[-1][-1].append("")

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
        seeds=[0, 1],
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
    assert head[:6] == ["kind", "source", "target", "examples", "seed", "score"]
    assert len(shown) == len(rows) == 4 + 2 * (6 + 22)
    for line, row in zip(shown, rows):
        expected = [row["kind"], row["source"] or "", row["target"] or ""]
        assert line[:3] == expected
        assert line[4:6] == [str(row["seed"]), f"{row['score']:.2f}"]


def test_summary_first_then_what_helps_and_pictures(page):
    order = ["16 target examples", "A source changes the score", "does not beat a random one"]
    order += ["Targets", "Does retrieval beat a random source?", "All target examples"]
    order += ["Every run"]
    places = [page.words.index(words) for words in order]
    assert places == sorted(places)


def test_pictures_and_summary(folder):
    pictures = sorted(file.name for file in (folder / "pictures").iterdir())
    assert "gains-16.svg" in pictures
    assert "heatmap-all.svg" in pictures
    assert "curves-super_glue.cb-all.svg" in pictures
    assert len(pictures) == 2 * (1 + 2 + 3 + 2 + 3)
    said = (folder / "summary.md").read_text(encoding="utf-8")
    assert said.startswith("# <b>Mine</b> & yours\n")
    assert "## 16 target examples" in said
    assert "| best of top k |" in said


def test_similarities_and_gains_are_those_of_the_rows(folder):
    found = results.gather(folder)
    part = found.parts[1]
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
    assert f"{len(kept) - 1} of {len(rows)} finished" in Page(text).words
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
    page = Page(report.write_report(tmp_path).read_text(encoding="utf-8"))
    assert len(page.tables[-1]) == 4
    assert json.loads((tmp_path / "table.jsonl").read_text().splitlines()[1])["seed"] == 7
