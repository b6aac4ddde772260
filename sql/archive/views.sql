-- name: files
-- The files of each kind that the manifest lists; what lies there beside them is not in the data set.
SET TimeZone = 'UTC';

CREATE SCHEMA IF NOT EXISTS raw;

CREATE OR REPLACE TABLE raw.parquet AS
SELECT kind, list({folder} || '/' || file ORDER BY "date", file) AS files
FROM read_json(
    {folder} || '/manifest.jsonl', format = 'newline_delimited',
    columns = {'file': 'VARCHAR', 'kind': 'VARCHAR', 'date': 'DATE'}
)
GROUP BY kind;

-- name: read
-- The rows of one kind; it has the same columns where there is no file of it yet.
SET VARIABLE parquet_{kind} = (SELECT files FROM raw.parquet WHERE kind = '{kind}');

CREATE OR REPLACE VIEW {view} AS
FROM query(CASE
    WHEN len(getvariable('parquet_{kind}')) > 0
    THEN 'FROM read_parquet(getvariable(''parquet_{kind}''), hive_partitioning = true, hive_types = {''date'': DATE})'
    ELSE '{empty}'
END){once};

-- name: once
-- Of a fill that was reported again one row counts, as in the view over raw files.
QUALIFY trade_id IS NULL OR row_number() OVER (PARTITION BY exchange, symbol, trade_id ORDER BY stream, seq) = 1
