-- name: begin
-- All that is asked of PostgreSQL is asked of one state of it, and nothing is written.
SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY;

-- name: ledger
-- What PostgreSQL says it has of each segment.
SELECT
    stream, segment, coalesce(file, '') AS file, bytes, records, lost, losses, first_seq, last_seq, sha256, void_from,
    closed_at IS NOT NULL AS closed
FROM monitoring.audit_segments
ORDER BY stream, segment;

-- name: has_trigger
-- Whether a table has a trigger of its owner's: then updated_at may be its word.
SELECT EXISTS (
    SELECT FROM pg_trigger
    WHERE tgrelid = to_regclass('monitoring.' || $1::text) AND NOT tgisinternal AND tgenabled <> 'D'
);

-- name: noted
-- Records for which a line in audit_rejects stands in, or explains the row: rejected (no row), taken after all (maybe mended),
-- repeated trades (no row of their own). Part of other statements: r is the line.
r.seq IS NOT NULL AND (
    r.severity = 'rejected' OR r.retried_at IS NOT NULL
    OR EXISTS (SELECT FROM unnest(r.reasons) AS reason WHERE reason LIKE 'repeated\_trade:%')
)

-- name: noted_records
-- Those.
SELECT
    stream, seq,
    CASE
        WHEN EXISTS (SELECT FROM unnest(r.reasons) AS reason WHERE reason LIKE 'repeated\_trade:%') THEN 'repeated'
        WHEN r.retried_at IS NOT NULL THEN 'taken'
        ELSE 'rejected'
    END AS state
FROM monitoring.audit_rejects AS r
WHERE {noted}
ORDER BY stream, seq;

-- name: orders_source
-- The own values of order.created: kept in order_updates where the order was folded, else its row.
(
    SELECT {columns} FROM monitoring.orders AS o
    WHERE
        o.stream IS NOT NULL
        AND NOT EXISTS (SELECT FROM monitoring.order_updates AS u WHERE u.stream = o.stream AND u.seq = o.seq)
    UNION ALL
    SELECT {columns} FROM monitoring.order_updates WHERE kind = 'created'
)

-- name: order_updates_source
-- order.updated.
(SELECT {columns} FROM monitoring.order_updates WHERE kind = 'updated')

-- name: trades_source
-- trade.executed.
(SELECT {columns} FROM monitoring.trades WHERE stream IS NOT NULL)

-- name: events_source
-- Any other event.
(SELECT {columns} FROM monitoring.events WHERE stream IS NOT NULL)

-- name: buckets
-- A digest for every {width} numbers of a stream, over the digests of their rows, of those streams ($1) from a number ($2) on.
SELECT
    stream, seq / {width} AS bucket, count(*) AS rows,
    encode(sha256(convert_to(string_agg(digest, '' ORDER BY seq), 'UTF8')), 'hex') AS digest
FROM (
    SELECT t.stream, t.seq, left(encode(sha256(convert_to({row}, 'UTF8')), 'hex'), 32) AS digest
    FROM {source} AS t
    JOIN unnest($1::text[], $2::bigint[]) AS present (stream, first) ON t.stream = present.stream COLLATE "C"
    WHERE
        t.seq >= present.first
        AND NOT EXISTS (SELECT FROM monitoring.audit_rejects AS r WHERE r.stream = t.stream AND r.seq = t.seq AND {noted})
) AS d
GROUP BY stream, seq / {width};

-- name: row_digests
-- The rows of a stream ($1) from a number ($2) to another ($3), each with its digest.
SELECT t.seq, left(encode(sha256(convert_to({row}, 'UTF8')), 'hex'), 32) AS digest
FROM {source} AS t
WHERE t.stream = $1 AND t.seq BETWEEN $2 AND $3;

-- name: rows
-- The values of some rows ($1 stream, $2 seqs), as the digests take them.
SELECT t.seq, ARRAY[{cells}]::text[] AS cells
FROM {source} AS t
WHERE t.stream = $1 AND t.seq = ANY ($2::bigint[]);

-- name: holes
-- Numbers of a stream that stand nowhere: not in a table, not in audit_rejects, not in a declared loss; up to the last one
-- that the ledger knows.
WITH places AS (
    SELECT stream, seq AS first, seq AS last FROM monitoring.orders WHERE stream IS NOT NULL
    UNION ALL SELECT stream, seq, seq FROM monitoring.order_updates WHERE stream IS NOT NULL
    UNION ALL SELECT stream, seq, seq FROM monitoring.trades WHERE stream IS NOT NULL
    UNION ALL SELECT stream, seq, seq FROM monitoring.events WHERE stream IS NOT NULL
    UNION ALL SELECT stream, seq, seq FROM monitoring.audit_rejects WHERE stream IS NOT NULL AND seq IS NOT NULL
    UNION ALL
    SELECT s.stream, loss.first, loss.last
    FROM monitoring.audit_segments AS s, jsonb_to_recordset(s.losses) AS loss (first bigint, last bigint)
    UNION ALL SELECT stream, max(last_seq) + 1, max(last_seq) + 1 FROM monitoring.audit_segments GROUP BY stream
), ends AS (
    SELECT stream, max(last_seq) AS last FROM monitoring.audit_segments GROUP BY stream
), held AS (
    SELECT
        stream, first,
        max(last) OVER (PARTITION BY stream ORDER BY first, last ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before
    FROM places
)
SELECT stream, coalesce(before, 0) + 1 AS first, least(first - 1, ends.last) AS last
FROM held
JOIN ends USING (stream)
WHERE first > coalesce(before, 0) + 1 AND coalesce(before, 0) < ends.last
ORDER BY stream, first;

-- name: nameless
-- Rejected lines whose number nobody knows: each may be one of the missing.
SELECT stream, segment, byte_offset FROM monitoring.audit_rejects WHERE seq IS NULL;

-- name: strangers
-- Streams that have rows and no ledger: a look into the index for each stream.
WITH RECURSIVE {tables}
SELECT DISTINCT stream
FROM ({streams}) AS found
WHERE stream IS NOT NULL AND NOT EXISTS (SELECT FROM monitoring.audit_segments AS s WHERE s.stream = found.stream);

-- name: streams_of
-- The streams of one table, one step each.
{table}_streams AS (
    SELECT min(stream COLLATE "C") AS stream FROM monitoring.{table} WHERE stream IS NOT NULL
    UNION ALL
    SELECT (SELECT min(t.stream COLLATE "C") FROM monitoring.{table} AS t WHERE t.stream > s.stream)
    FROM {table}_streams AS s
    WHERE s.stream IS NOT NULL
)

-- name: counts
-- How many records of streams ($1) stand in the tables, each counted once.
SELECT stream, count(*) AS records
FROM (
    SELECT stream, seq FROM monitoring.orders WHERE stream = ANY ($1::text[])
    UNION SELECT stream, seq FROM monitoring.order_updates WHERE stream = ANY ($1::text[])
    UNION SELECT stream, seq FROM monitoring.trades WHERE stream = ANY ($1::text[])
    UNION SELECT stream, seq FROM monitoring.events WHERE stream = ANY ($1::text[])
    UNION SELECT stream, coalesce(seq, -id) FROM monitoring.audit_rejects WHERE stream = ANY ($1::text[])
) AS found
GROUP BY stream;

-- name: rejects
-- Lines that were noted, whole, after a place ($1 stream, $2 segment, $3 offset), at most $4.
SELECT stream, segment, byte_offset, seq, raw, raw_bytes
FROM monitoring.audit_rejects
WHERE (stream, segment, byte_offset) > ($1::text COLLATE "C", $2::integer, $3::bigint)
ORDER BY stream, segment, byte_offset
LIMIT $4;

-- name: taken_without_row
-- Lines that were taken after all, and whose row is gone.
SELECT r.stream, r.seq
FROM monitoring.audit_rejects AS r
WHERE
    r.retried_at IS NOT NULL AND r.seq IS NOT NULL
    AND NOT EXISTS (SELECT FROM unnest(r.reasons) AS reason WHERE reason LIKE 'repeated\_trade:%')
    AND NOT EXISTS (SELECT FROM monitoring.orders AS t WHERE t.stream = r.stream AND t.seq = r.seq)
    AND NOT EXISTS (SELECT FROM monitoring.order_updates AS t WHERE t.stream = r.stream AND t.seq = r.seq)
    AND NOT EXISTS (SELECT FROM monitoring.trades AS t WHERE t.stream = r.stream AND t.seq = r.seq)
    AND NOT EXISTS (SELECT FROM monitoring.events AS t WHERE t.stream = r.stream AND t.seq = r.seq)
ORDER BY r.stream, r.seq
LIMIT {most};

-- name: orders_without_row
-- Records of an order that was made, and has no row.
SELECT u.stream, u.seq
FROM monitoring.order_updates AS u
WHERE
    u.kind = 'created'
    AND CASE
        WHEN u.order_id IS NULL THEN NOT EXISTS (
            SELECT FROM monitoring.orders AS o WHERE o.stream = u.stream AND o.seq = u.seq
        )
        ELSE NOT EXISTS (
            SELECT FROM monitoring.orders AS o
            WHERE o.exchange = u.exchange AND o.symbol = u.symbol AND o.order_id = u.order_id AND o.stream IS NOT NULL
        )
    END
ORDER BY u.stream, u.seq
LIMIT {most};

-- name: next_orders
-- The last id of the next orders ($2 of them) after one ($1).
SELECT max(id) FROM (
    SELECT id FROM monitoring.orders WHERE stream IS NOT NULL AND id > $1 ORDER BY id LIMIT $2
) AS next;

-- name: these_orders
-- Which orders a fold is about: stands in for the loader's own list.
touched AS MATERIALIZED (SELECT id FROM monitoring.orders WHERE stream IS NOT NULL AND id > $1 AND id <= $2)

-- name: not_the_fold
-- Orders whose row is not the fold of its records; {names}: which columns.
SELECT o.stream, o.seq, array_remove(ARRAY[{names}], NULL) AS columns
FROM folded AS f
JOIN monitoring.orders AS o ON o.id = f.order_row
WHERE ({of_row}) IS DISTINCT FROM ({of_fold})
