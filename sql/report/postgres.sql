-- name: milliseconds
-- Milliseconds since 1970.
CAST(floor(extract(epoch FROM {at}) * 1000) AS bigint)

-- name: order_rows
-- The orders that came from the log, as a report asks for them.
SELECT
    position_id::text COLLATE "C" AS position_id, exchange COLLATE "C" AS exchange, symbol COLLATE "C" AS symbol,
    upper(type) COLLATE "C" AS type, upper(status) COLLATE "C" AS status, size, filled, price,
    created_at AS counted_at,
    {seconds} AS seconds,
    coalesce(upper(type) LIKE '%STOP%', false) AS is_stop,
    coalesce(upper(status) IN {final}, false) AS is_final
FROM monitoring.orders
WHERE stream IS NOT NULL

-- name: begin
-- All that a report asks is of one state.
SET TRANSACTION ISOLATION LEVEL REPEATABLE READ;

-- name: ledger
-- What was ever loaded.
SELECT
    count(DISTINCT stream) AS streams, count(*) AS segments, coalesce(sum(records), 0)::bigint AS records,
    coalesce(sum(rejected), 0)::bigint AS rejected, coalesce(sum(lost), 0)::bigint AS lost,
    to_char(max(loaded_at) AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS') AS loaded_at
FROM monitoring.audit_segments;

-- name: newest_digest
-- The segment that was closed last.
SELECT
    coalesce(service, '') AS service, stream, segment, sha256,
    to_char(closed_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS') AS closed_at
FROM monitoring.audit_segments
WHERE sha256 IS NOT NULL AND closed_at IS NOT NULL
ORDER BY closed_at DESC, stream DESC, segment DESC
LIMIT 1;

-- name: load_lag
-- From the last line of a closed segment to the load that had it; a segment whose rejects were retried since counts that.
SELECT
    max(segments) AS segments,
    min(CASE WHEN place * 2 >= segments THEN seconds END) AS median,
    min(CASE WHEN place * 10 >= segments * 9 THEN seconds END) AS nine_of_ten,
    max(seconds) AS longest
FROM (
    SELECT seconds, row_number() OVER (ORDER BY seconds) AS place, count(*) OVER () AS segments
    FROM (
        SELECT round(extract(epoch FROM loaded_at - closed_at), 3) AS seconds
        FROM monitoring.audit_segments
        WHERE closed_at IS NOT NULL
    ) AS lags
) AS ranked;

-- name: reject_rules
-- Lines with findings by rule, the most frequent first; at most $1.
SELECT
    severity, split_part(reason, ':', 1) AS rule, count(DISTINCT r.id) AS lines,
    count(DISTINCT CASE WHEN r.retried_at IS NOT NULL THEN r.id END) AS taken
FROM monitoring.audit_rejects AS r
CROSS JOIN LATERAL unnest(r.reasons) AS reason
GROUP BY 1, 2
ORDER BY lines DESC, severity, rule
LIMIT $1;
