-- name: noted
-- Records that the database notes in audit_rejects: ? streams, ? seqs.
CREATE OR REPLACE TABLE facts.noted AS SELECT unnest(?::VARCHAR[]) AS stream, unnest(?::BIGINT[]) AS seq;

-- name: buckets
-- The digests that the database gave: ? tables, ? streams, ? buckets, ? rows, ? digests.
CREATE OR REPLACE TABLE facts.database_buckets AS
SELECT
    unnest(?::VARCHAR[]) AS tbl, unnest(?::VARCHAR[]) AS stream, unnest(?::BIGINT[]) AS bucket, unnest(?::BIGINT[]) AS rows,
    unnest(?::VARCHAR[]) AS digest;

-- name: differences
-- Where the log's own are others, or only one side has any.
WITH log AS (
    SELECT
        tbl, CAST(stream AS VARCHAR) AS stream, seq // {width} AS bucket, count(*) AS rows,
        sha256(string_agg(digest, '' ORDER BY seq)) AS digest
    FROM facts.row_digests AS r
    WHERE NOT EXISTS (FROM facts.noted AS n WHERE n.stream = CAST(r.stream AS VARCHAR) AND n.seq = r.seq)
    GROUP BY ALL
)
SELECT tbl, stream, bucket
FROM log AS l
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
