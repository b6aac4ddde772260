-- name: orders
-- The orders that were made or changed last, by their last record. Of the newest $1 rows and changes the newest $2; rows
-- without stream are the bot's own.
WITH touched AS (
    SELECT exchange, symbol, order_id, stream, seq, recorded_at AS at
    FROM (SELECT * FROM monitoring.orders ORDER BY id DESC LIMIT $1) AS newest
    WHERE stream IS NOT NULL
    UNION ALL
    SELECT o.exchange, o.symbol, o.order_id, o.stream, o.seq, u.recorded_at AS at
    FROM (SELECT * FROM monitoring.order_updates ORDER BY id DESC LIMIT $1) AS u
    JOIN monitoring.orders AS o
        ON o.exchange = u.exchange AND o.symbol = u.symbol AND o.order_id = u.order_id AND o.stream IS NOT NULL
    WHERE u.order_id IS NOT NULL
), newest AS (
    SELECT stream, seq, max(at) AS at
    FROM touched
    GROUP BY stream, seq
    ORDER BY at DESC, stream DESC, seq DESC
    LIMIT $2
)
SELECT n.at, o.exchange, o.symbol, o.type, o.side, o.size, o.price, o.status, o.filled
FROM newest AS n
JOIN monitoring.orders AS o ON o.stream = n.stream AND o.seq = n.seq
ORDER BY n.at DESC, n.stream DESC, n.seq DESC;

-- name: trades
-- The trades that were executed last, of the newest $1 rows the newest $2.
SELECT
    executed_at AS at, exchange, symbol, side, executed_qty AS quantity, price, fee, fee_currency, fees, position_id::text AS position_id
FROM (SELECT * FROM monitoring.trades ORDER BY id DESC LIMIT $1) AS newest
WHERE stream IS NOT NULL
ORDER BY executed_at DESC, stream DESC, seq DESC
LIMIT $2;

-- name: streams
-- What PostgreSQL has of each stream, the newest first; missing: numbers that neither a line nor a declared loss has.
SELECT
    stream,
    coalesce(max(service), '') AS service,
    sum(records)::bigint AS records,
    sum(rejected)::bigint AS rejected,
    sum(lost)::bigint AS lost,
    coalesce(max(last_seq), 0)::bigint AS last_seq,
    count(*) AS segments,
    max(loaded_at) AS loaded_at,
    bool_and(closed_at IS NOT NULL OR void_from IS NOT NULL) AS closed
FROM monitoring.audit_segments
GROUP BY stream
ORDER BY stream DESC;
