"""What bulk scoring reads arrives as it was, with its type, or a message says what to do."""

from __future__ import annotations

import csv
import datetime
import decimal
import json

import numpy as np
import pytest

from bert_handler import bulk
from bert_handler.bulk.formats import READERS, WRITERS
from bert_handler.errors import ConfigError
from bert_handler.schema import OutputSpec

pa = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")


@pytest.fixture(scope="module")
def predictor(zoo, load):
    return load(zoo("bert", "sequence_classification"))


def scored(predictor, source, target):
    bulk.score(predictor, source, target, batch_rows=2)
    if target.suffix == ".csv":
        with target.open(newline="") as file:
            return list(csv.DictReader(file))
    if target.suffix == ".parquet":
        return parquet.read_table(target).to_pylist()
    return [json.loads(line) for line in target.read_text().splitlines()]


TYPED = {
    "int32": pa.array([1, None, 3], pa.int32()),
    "uint64": pa.array([2**63, 0, 1], pa.uint64()),
    "float": pa.array([1.5, None, 0.1], pa.float32()),
    "half": pa.array(np.array([1, 2, 3], np.float16)),
    "dictionary": pa.array(["x", "y", "x"]).dictionary_encode(),
    "large": pa.array(["x", None, ""], pa.large_string()),
    "milliseconds": pa.array([0, 1, None], pa.timestamp("ms")),
    "zone": pa.array([0, 1, 2], pa.timestamp("us", tz="UTC")),
    "date": pa.array([0, 1, 2], pa.date32()),
    "decimal": pa.array([decimal.Decimal("1.50")] * 3, pa.decimal128(10, 2)),
    "binary": pa.array([b"\xff", b"", None]),
    "map": pa.array([[("k", 1)], [], None], pa.map_(pa.string(), pa.int64())),
    "struct": pa.array([{"a": 1}, None, {"a": None}], pa.struct([("a", pa.int16())])),
    "list": pa.array([[1.5], [], None], pa.list_(pa.float32())),
    "nothing": pa.nulls(3),
}


def test_columns_of_parquet_keep_their_types(tmp_path, predictor):
    table = pa.table({"text": ["a", "b", "c"], **TYPED})
    parquet.write_table(table, tmp_path / "in.parquet")
    scored(predictor, tmp_path / "in.parquet", tmp_path / "out.parquet")
    found = parquet.read_table(tmp_path / "out.parquet")
    given = parquet.read_table(tmp_path / "in.parquet")
    assert found.select(table.column_names).schema == given.schema
    assert found.select(table.column_names).to_pylist() == given.to_pylist()
    assert found.column_names == [*table.column_names, "predict", "error"]


@pytest.mark.parametrize(
    ("column", "as_json", "as_csv"),
    [
        (pa.array([b"\xff\x00"]), "/wA=", "/wA="),
        (pa.array([decimal.Decimal("1.50")]), "1.50", "1.50"),
        (pa.array([datetime.date(2020, 1, 31)]), "2020-01-31", "2020-01-31"),
        (pa.array([1500], pa.timestamp("ms")), "1970-01-01T00:00:01.500000", "1970-01-01T00:00:01.500000"),
        (pa.array([90], pa.duration("s")), 90.0, "90.0"),
        (pa.array([[("k", b"v")]], pa.map_(pa.string(), pa.binary())), [["k", "dg=="]], '[["k","dg=="]]'),
        (pa.array([{"day": datetime.date(2020, 1, 31)}]), {"day": "2020-01-31"}, '{"day":"2020-01-31"}'),
        (pa.array([[1, None]]), [1, None], "[1,null]"),
    ],
)
def test_types_that_json_does_not_have_are_written_as_text(tmp_path, predictor, column, as_json, as_csv):
    source = tmp_path / "in.parquet"
    parquet.write_table(pa.table({"text": ["a"], "own": column}), source)
    assert scored(predictor, source, tmp_path / "out.jsonl")[0]["own"] == as_json
    assert scored(predictor, source, tmp_path / "out.csv")[0]["own"] == as_csv


MIXED = (
    {"text": "a", "n": 1, "mixed": 1, "flag": True, "items": [], "empty": {}},
    {"text": "b", "n": 2, "mixed": "x", "flag": None, "items": None, "empty": {}},
    {"text": "c", "n": 2.5, "mixed": [1], "flag": False, "items": ["z"], "empty": {}, "late": {"k": "v"}},
)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0)])
def test_columns_are_those_of_all_rows(tmp_path, predictor, order):
    source = tmp_path / "in.jsonl"
    source.write_text("".join(json.dumps(MIXED[index]) + "\n" for index in order))
    in_csv = scored(predictor, source, tmp_path / "out.csv")
    in_parquet = scored(predictor, source, tmp_path / "out.parquet")
    at = [order.index(index) for index in range(3)]
    assert [in_csv[i]["late"] for i in at] == ["", "", '{"k":"v"}']
    assert [in_parquet[i]["late"] for i in at] == [None, None, {"k": "v"}]
    assert [in_parquet[i]["n"] for i in at] == [1, 2, 2.5]
    assert [in_parquet[i]["mixed"] for i in at] == ["1", "x", "[1]"]
    assert [in_parquet[i]["flag"] for i in at] == [True, None, False]
    assert [in_parquet[i]["items"] for i in at] == [[], None, ["z"]]
    assert [in_parquet[i]["empty"] for i in at] == ["{}"] * 3


def test_numbers_that_no_type_holds_are_named(tmp_path, predictor):
    source = tmp_path / "in.jsonl"
    rows = [{"text": "a", "n": 2**60}, {"text": "b"}, {"text": "c", "n": 0.5}]
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert [row["n"] for row in scored(predictor, source, tmp_path / "out.parquet")] == [
        "1152921504606846976",
        None,
        "0.5",
    ]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("in.csv", b"text\ngood\ncaf\xe9\n", r"in\.csv, line 3: not UTF-8; convert the file, for example with iconv"),
        ("in.csv", b'text\ngood\n"a quote that opens\nbad\n', r"in\.csv, line 4: not CSV: unexpected end of data"),
        ("in.txt", b"good\ncaf\xe9\n", r"in\.txt, line 2: not UTF-8; convert the file, for example with iconv"),
        ("in.csv", b"text,id,id\na,1,2\n", r"in\.csv has two columns named 'id'"),
        ("in.csv", b"text,predict\na,1\n", r"in\.csv has a column 'predict', which the output adds; rename or remove"),
        ("in.csv", b"text,more\na,b\nc,d,e\n", r"in\.csv has a column 'more', and a row with cells behind .*; rename"),
        ("in.jsonl", b'{"text": "a"}\n{"text": "b", "error": 1}\n', r"in\.jsonl has a column 'error'"),
        ("in.parquet", b"PAR1 and no more", r"in\.parquet cannot be read as Parquet"),
    ],
)
def test_what_is_wrong_with_an_input_is_said_before_it_is_scored(tmp_path, predictor, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        bulk.score(predictor, tmp_path / name, tmp_path / "out.jsonl")
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("text", ["a\rb", "a\r\nb", "a\nb", "\r", "a\r", '"\r"', "a,\rb"])
def test_line_ends_within_a_cell_are_kept(tmp_path, predictor, text):
    (tmp_path / "in.jsonl").write_text(json.dumps({"text": text, "id\rid": 1}) + "\n")
    (row,) = scored(predictor, tmp_path / "in.jsonl", tmp_path / "out.csv")
    assert (row["text"], row["id\rid"], row["error"]) == (text, "1", "")
    assert (tmp_path / "out.csv").read_bytes().endswith(b",\n")
    with (tmp_path / "in.csv").open("w", newline="") as file:
        csv.writer(file, quoting=csv.QUOTE_ALL).writerows([("text",), (text,)])
    assert [row["text"] for row in scored(predictor, tmp_path / "in.csv", tmp_path / "copy.csv")] == [text]
    again = READERS[".csv"].rows(tmp_path / "copy.csv", 0)
    assert [row["text"] for row in again] == [text]


def test_a_cell_of_a_csv_file_may_be_long_and_is_not_the_rest_of_the_file(tmp_path, predictor):
    source = tmp_path / "in.csv"
    source.write_text("text\n" + "word " * 30_000 + "\n")
    assert scored(predictor, source, tmp_path / "out.jsonl")[0]["error"] is None
    source.write_text('text\n"' + "word\n" * 4_000_000)
    with pytest.raises(ConfigError, match=r"in\.csv, line \d+: not CSV: field larger than field limit \(16777216\)"):
        bulk.score(predictor, source, tmp_path / "out2.jsonl")


def test_cells_behind_the_last_column_are_kept(tmp_path, predictor):
    source = tmp_path / "in.csv"
    source.write_text("text,,\na,,,x,y\nb\n")
    assert [row["more"] for row in scored(predictor, source, tmp_path / "out.csv")] == ['["x","y"]', ""]
    assert [row["more"] for row in scored(predictor, source, tmp_path / "out.parquet")] == ['["x","y"]', None]
    source.write_text("text,more\na,b\n")
    assert [row["more"] for row in scored(predictor, source, tmp_path / "own.csv")] == ["b"]


@pytest.mark.parametrize(
    ("name", "content"), [("in.txt", b"good\n"), ("in.jsonl", b'"good"\n'), ("in.csv", b"text\ngood\n")]
)
def test_a_byte_order_mark_is_no_text(tmp_path, predictor, name, content):
    (tmp_path / name).write_bytes(b"\xef\xbb\xbf" + content)
    (row,) = scored(predictor, tmp_path / name, tmp_path / "out.jsonl")
    assert (row["text"], row["error"]) == ("good", None)


def test_outputs_are_typed(tmp_path):
    specs = [OutputSpec("n_tokens", "INT64"), OutputSpec("scores", "FP32", (-1,)), OutputSpec("predict", "BYTES")]
    rows = [{"n_tokens": 3, "scores": np.array([0.5], np.float32), "predict": ("a", "b"), "error": None}]
    form = WRITERS[".parquet"]
    form.write(tmp_path / "part", rows, {}, specs)
    schema = parquet.read_schema(tmp_path / "part")
    assert schema.types == [pa.int64(), pa.list_(pa.float32()), pa.string(), pa.string()]
    with pytest.raises(ConfigError, match=r"column 'n_tokens' is no int64 in all rows .*; write \.jsonl instead"):
        form.write(tmp_path / "part", [{**rows[0], "n_tokens": [1]}], {}, specs)


def test_columns_without_a_name_are_kept_apart(tmp_path, predictor):
    source = tmp_path / "in.csv"
    source.write_text("text,,\na,x,y\n")
    row = scored(predictor, source, tmp_path / "out.csv")[0]
    assert (row["Unnamed: 1"], row["Unnamed: 2"]) == ("x", "y")


def test_a_name_of_two_lines_is_one_header(tmp_path, predictor):
    source = tmp_path / "in.jsonl"
    source.write_text("".join(json.dumps({"text": "a", "two\nlines": i}) + "\n" for i in range(5)))
    rows = scored(predictor, source, tmp_path / "out.csv")
    assert [row["two\nlines"] for row in rows] == ["0", "1", "2", "3", "4"]
