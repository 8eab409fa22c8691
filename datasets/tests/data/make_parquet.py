"""Writes pyarrow.parquet and pyarrow_v2.parquet: files as pyarrow and with it Hugging Face's datasets write them, by default
and with newer encodings; and many_ids.parquet, a few bytes that stand for a list of 70,000,000 ids.

    pip install pyarrow==26.0.1 numpy
    python make_parquet.py
"""

import pathlib

import numpy
import pyarrow as pa
import pyarrow.parquet as pq

TEXTS = ["One day, a girl went out.", None, "Der Bär fraß Käse.", "", "One day, a girl went out."] * 3
IDS = [[1, 2, 3], [], None, [50256], [7, 8]] * 3

folder = pathlib.Path(__file__).parent
table = pa.table(
    {
        "text": pa.array(TEXTS, pa.string()),
        "large": pa.array(TEXTS, pa.large_string()),
        "input_ids": pa.array(IDS, pa.list_(pa.int32())),
        "labels": pa.array(IDS, pa.list_(pa.int64())),
        "short": pa.array(IDS, pa.list_(pa.uint16())),
        "meta": pa.array(
            [{"source": "a", "url": text} for text in TEXTS],
            pa.struct([("source", pa.string()), ("url", pa.string())]),
        ),
    }
)
# Row groups of 7, 7 and 1 records.
pq.write_table(table, folder / "pyarrow.parquet", row_group_size=7)
pq.write_table(
    table,
    folder / "pyarrow_v2.parquet",
    row_group_size=7,
    compression="zstd",
    data_page_version="2.0",
    use_dictionary=False,
    column_encoding={"text": "DELTA_LENGTH_BYTE_ARRAY", "large": "DELTA_BYTE_ARRAY"},
)

n = 70_000_000
ids = pa.ListArray.from_arrays(pa.array([0, n], pa.int32()), pa.array(numpy.zeros(n, numpy.int32)))
pq.write_table(
    pa.table({"ids": ids}),
    folder / "many_ids.parquet",
    data_page_size=1 << 30,
    write_batch_size=1 << 20,
    max_rows_per_page=1 << 30,
)
