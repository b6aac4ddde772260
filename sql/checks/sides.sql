-- name: noted
-- Records that the database notes in audit_rejects: ? streams, ? seqs.
CREATE OR REPLACE TABLE facts.noted AS SELECT unnest(?::VARCHAR[]) AS stream, unnest(?::BIGINT[]) AS seq;

-- name: buckets
-- The digests that the database gave: ? tables, ? streams, ? buckets, ? rows, ? digests.
CREATE OR REPLACE TABLE facts.database_buckets AS
SELECT
    unnest(?::VARCHAR[]) AS tbl, unnest(?::VARCHAR[]) AS stream, unnest(?::BIGINT[]) AS bucket, unnest(?::BIGINT[]) AS rows,
    unnest(?::VARCHAR[]) AS digest;

-- name: extents
-- The streams of which there are rows: how many, and their numbers.
SELECT CAST(stream AS VARCHAR), count(*), min(seq), max(seq) FROM facts.row_digests GROUP BY stream ORDER BY stream;

-- name: log_buckets
-- An empty table for the log's own digests.
CREATE OR REPLACE TABLE facts.log_buckets (tbl VARCHAR, stream VARCHAR, bucket BIGINT, rows BIGINT, digest VARCHAR);

-- name: fill_log_buckets
-- Those of some streams (?) from a number (?) to another (?). An ordered aggregate holds all that it is asked for in memory.
INSERT INTO facts.log_buckets
SELECT
    tbl, CAST(stream AS VARCHAR) AS stream, seq // {width} AS bucket, count(*) AS rows,
    sha256(string_agg(digest, '' ORDER BY seq)) AS digest
FROM facts.row_digests AS r
WHERE
    stream IN (SELECT CAST(unnest(?::VARCHAR[]) AS main.stream_id)) AND seq BETWEEN ? AND ?
    AND NOT EXISTS (FROM facts.noted AS n WHERE n.stream = CAST(r.stream AS VARCHAR) AND n.seq = r.seq)
GROUP BY ALL;

-- name: differences
-- Where the log's own digests are others than the database's, or only one side has any.
SELECT tbl, stream, bucket
FROM facts.log_buckets AS l
FULL JOIN facts.database_buckets AS d USING (tbl, stream, bucket)
WHERE l.digest IS DISTINCT FROM d.digest OR l.rows IS DISTINCT FROM d.rows
ORDER BY ALL;

-- name: log_rows
-- The digests of a table's rows by the log: ? table, ? stream, ? first and ? last seq.
SELECT seq, digest FROM facts.row_digests WHERE tbl = ? AND CAST(stream AS VARCHAR) = ? AND seq BETWEEN ? AND ?;

-- name: segments_of
-- In which segments some records (? stream, ? seqs) stand.
SELECT seq, segment FROM facts.records WHERE CAST(stream AS VARCHAR) = ? AND seq IN (SELECT unnest(?::BIGINT[]));

-- name: records_in
-- Which numbers of ranges (? streams, ? firsts, ? lasts) the log has records of.
SELECT h.stream, h.first, h.last, r.seq
FROM (SELECT unnest(?::VARCHAR[]) AS stream, unnest(?::BIGINT[]) AS first, unnest(?::BIGINT[]) AS last) AS h
JOIN facts.records AS r ON CAST(r.stream AS VARCHAR) = h.stream AND r.seq BETWEEN h.first AND h.last;
