-- name: paths
-- The files of a batch, and the segment that each is.
CREATE TABLE raw.paths (path VARCHAR, stream VARCHAR, segment BIGINT);

-- name: rows
-- The accepted records of one kind, with what the view of records knows of them.
CREATE OR REPLACE TABLE rows AS
SELECT *, CAST("timestamp" AS DATE) AS "date"
FROM ({selected}) AS selected;

-- name: more
-- Columns that each kind has beside those of its view. inexact: the numbers that DECIMAL(38, 18) does not hold as they
-- were written, as JSON of names and texts; NULL where it holds all.
accepted.observed_timestamp, accepted.severity_text, accepted.severity_number, accepted.trace_id, accepted.span_id,
accepted.segment, {inexact} AS inexact

-- name: inexact
-- One number among those: written with more digits than the type has, or no finite number at all.
CASE
    WHEN exact_number(accepted."{name}") IS NULL
        OR ((strlen(accepted."{name}") > 19 OR contains(accepted."{name}", 'e') OR contains(accepted."{name}", 'E'))
            AND decimals(accepted."{name}") > 18)
    THEN CASE WHEN accepted."{name}" IS NOT NULL THEN struct_pack(key := '{name}', value := accepted."{name}") END
END

-- name: dates
-- The days of these rows, and the segments that each has some of.
SELECT CAST("date" AS VARCHAR), count(*), list(DISTINCT (stream, segment) ORDER BY (stream, segment))
FROM rows
GROUP BY "date"
ORDER BY "date";

-- name: write
-- The rows of one day, in their order, into one file.
COPY (
    SELECT * EXCLUDE ("date") FROM rows WHERE "date" = CAST('{date}' AS DATE) ORDER BY "timestamp", stream, seq
) TO {file} (FORMAT parquet, COMPRESSION zstd);
