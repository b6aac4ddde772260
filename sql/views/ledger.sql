-- name: streams
-- What PostgreSQL has of each stream.
SELECT
    stream,
    max(service) AS service,
    min(opened_at) AS started_at,
    sum(records - rejected)::bigint AS loaded,
    sum(rejected)::bigint AS rejected,
    sum(lost)::bigint AS lost,
    max(last_seq) AS last_seq,
    max(loaded_at) AS loaded_at,
    sum(bytes)::bigint AS bytes
FROM monitoring.audit_segments
GROUP BY stream;

-- name: progress
-- How far every segment was taken.
SELECT stream, segment, bytes, closed_at IS NOT NULL AS closed, last_seq FROM monitoring.audit_segments;

-- name: is_there
-- Whether this database has the ledger at all.
SELECT to_regclass('monitoring.audit_segments') IS NOT NULL;

-- name: rejects
-- Lines with findings, the newest last. $1 stream, $2 severity, $3 rule, $4 since, $5 limit; NULL: any.
SELECT *
FROM (
    SELECT
        id, stream, segment, byte_offset, seq, seq_inferred, severity, reasons, event_name, raw, raw_bytes, rejected_at,
        retried_at
    FROM monitoring.audit_rejects
    WHERE
        ($1::text IS NULL OR strpos(stream, $1) > 0)
        AND ($2::text IS NULL OR severity = $2)
        AND ($3::text IS NULL OR EXISTS (SELECT FROM unnest(reasons) AS reason WHERE split_part(reason, ':', 1) = $3))
        AND ($4::timestamptz IS NULL OR rejected_at >= $4)
    ORDER BY id DESC
    LIMIT $5
) AS newest
ORDER BY id;

-- name: count_rejects
-- How many there are of those.
SELECT count(*)
FROM monitoring.audit_rejects
WHERE
    ($1::text IS NULL OR strpos(stream, $1) > 0)
    AND ($2::text IS NULL OR severity = $2)
    AND ($3::text IS NULL OR EXISTS (SELECT FROM unnest(reasons) AS reason WHERE split_part(reason, ':', 1) = $3))
    AND ($4::timestamptz IS NULL OR rejected_at >= $4);
