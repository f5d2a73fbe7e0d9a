"""Tables in CSV files: what is written reads back equal, and what is ambiguous is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as draws

from balal.cli import table

ANYTHING = draws.text(draws.characters(exclude_categories=["Cs"]), max_size=9)
# Line breaks and as many separators as there are columns look like lines that were swallowed.
CELLS = ANYTHING.filter(lambda cell: not ("\r" in cell or "\n" in cell) or "," not in cell)


@given(rows=draws.lists(draws.tuples(CELLS, CELLS, CELLS), min_size=1, max_size=5))
def test_what_is_written_reads_back_equal(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("table") / "t.csv"
    rows = [row for row in rows if any(row)] or [("a", "", "")]
    table.write(path, [dict(zip(("file", "label", "notes"), row, strict=True)) for row in rows])
    found = [tuple(line.cells.values()) for line in table.read(path, columns=("file", "label"))]
    assert found == rows


@given(name=draws.text(max_size=9))
def test_any_file_name_survives_its_cell(name):
    cell = table.escape(name)
    assert table.unescape(cell) == name
    assert not cell.startswith(("=", "+", "-", "@"))
    assert "\n" not in cell
    assert "\r" not in cell
    cell.encode()


@pytest.mark.parametrize(
    "text",
    [
        "file,label\na.jpg,cat\n",
        "\ufefffile,label\r\na.jpg,cat\r\n",
        "file;label\na.jpg;cat\n",
        "sep=;\nfile;label\na.jpg;cat\n",
        "file\tlabel\na.jpg\tcat\n",
        "file,label\ra.jpg,cat\r",
        "\nfile,label,,\n\na.jpg,cat,,\n,,,\n",
        "file,label\na.jpg,cat,\n",
        '"file","label"\n"a.jpg","cat"',
        ",file,label\n0,a.jpg,cat\n",
    ],
)
def test_spreadsheets_write_tables_in_many_ways(text, tmp_path):
    (tmp_path / "t.csv").write_bytes(text.encode())
    (line,) = table.read(tmp_path / "t.csv", columns=("file", "label"))
    assert line.cells == {"file": "a.jpg", "label": "cat"}
    (tmp_path / "t.csv").write_bytes(text.removeprefix("\ufeff").encode("utf-16"))
    assert table.read(tmp_path / "t.csv", columns=("file", "label")) == [line]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("file,label,label\na,b,c\n", "line 1 of .* names the column 'label' more than once"),
        ("file,file,label\na,b,c\n", "line 1 of .* names the column 'file' more than once"),
        ("file,label\na,dog, black\n", "line 2 of .* has 3 cells, and there are 2 columns"),
        ("file,label,r,s\na,b,r,s\na,dog, black,r,\n", "line 3 of .* has 5 cells"),
        ('file,label\na,"dog\nb,cat\n', "line 2 of .* that is never closed"),
        ('file,label\na,"dog\nb,cat"\n', "line 2 of .* closed in line 3 only"),
        ('file,label\na,cat\nb,"dog" black\n', "line 3 of .* cannot be read"),
        ("file,label\na\rb,cat\nc,dog\n", "line 2 of .* has a carriage return inside a cell"),
        ("file;label\n", "has no line below its column names"),
        ("name,label\na,cat\n", "must have the columns file and label .* has 'name', 'label'"),
        ("", "must have the columns file and label"),
    ],
)
def test_what_is_ambiguous_is_refused_with_its_line(text, said, tmp_path):
    (tmp_path / "t.csv").write_bytes(text.encode())
    with pytest.raises(ValueError, match=said):
        table.read(tmp_path / "t.csv", columns=("file", "label"))


def test_text_that_is_not_unicode_is_refused_with_its_line(tmp_path):
    (tmp_path / "t.csv").write_bytes("file,label\na,cat\nb,Käfer\n".encode("latin-1"))
    with pytest.raises(ValueError, match="is not UTF-8 text, in line 3: save it as text in UTF-8"):
        table.read(tmp_path / "t.csv", columns=("file", "label"))
