-- name: holds_orders
-- Whether there are orders, in a database that tradetrail has not seen yet.
SELECT EXISTS (SELECT FROM monitoring.orders);

-- name: holds_orders_of_others
-- Whether there are orders that no demo has made.
SELECT EXISTS (
    SELECT FROM monitoring.orders AS o
    WHERE NOT EXISTS (
        SELECT FROM monitoring.audit_segments AS s WHERE s.stream = o.stream AND s.service LIKE 'demo-%'
    )
);

-- name: progress
-- How far some streams ($1) are loaded: records, rejected ones, and segments that are taken to their end.
SELECT
    coalesce(sum(records), 0)::bigint AS records,
    coalesce(sum(rejected), 0)::bigint AS rejected,
    count(closed_at) AS closed
FROM monitoring.audit_segments
WHERE stream = ANY ($1);

-- name: counts
-- Rows of some streams ($1), per table.
SELECT 'orders' AS "table", count(*) AS rows, 'one row an order, folded from all its records' AS holds
FROM monitoring.orders WHERE stream = ANY ($1)
UNION ALL
SELECT 'trades', count(*), 'one row a fill'
FROM monitoring.trades WHERE stream = ANY ($1)
UNION ALL
SELECT 'order_updates', count(*), 'what the changed orders were folded from'
FROM monitoring.order_updates WHERE stream = ANY ($1)
UNION ALL
SELECT 'events', count(*), 'everything else the bot said'
FROM monitoring.events WHERE stream = ANY ($1)
UNION ALL
SELECT 'audit_rejects', count(*), 'lines with a fault, whole, with the reason'
FROM monitoring.audit_rejects WHERE stream = ANY ($1)
UNION ALL
SELECT 'audit_segments', count(*), 'the ledger: how far each file is loaded'
FROM monitoring.audit_segments WHERE stream = ANY ($1);

-- name: accounted
-- How many different records of some streams ($1) stand in the tables or among the rejected lines.
SELECT count(*) FROM (
    SELECT stream, seq FROM monitoring.orders WHERE stream = ANY ($1)
    UNION SELECT stream, seq FROM monitoring.trades WHERE stream = ANY ($1)
    UNION SELECT stream, seq FROM monitoring.order_updates WHERE stream = ANY ($1)
    UNION SELECT stream, seq FROM monitoring.events WHERE stream = ANY ($1)
    UNION SELECT stream, seq FROM monitoring.audit_rejects WHERE stream = ANY ($1)
) AS records;

-- name: busiest_position
-- The position of some streams ($1) with the most orders, then fills.
SELECT o.position_id
FROM monitoring.orders AS o
LEFT JOIN monitoring.trades AS t USING (exchange, symbol, order_id)
WHERE o.stream = ANY ($1) AND o.position_id IS NOT NULL
GROUP BY o.position_id
ORDER BY count(DISTINCT o.order_id) DESC, count(t.id) DESC, o.position_id
LIMIT 1;

-- name: position
-- The orders of one position, each with its fills, in order of time.
SELECT
    to_char(coalesce(t.executed_at, o.created_at), 'HH24:MI:SS') AS time, o.order_id, o.type, o.side, o.status,
    o.size, o.price, t.executed_qty AS filled, t.price AS filled_at, concat_ws(' ', t.fee, t.fee_currency) AS fee
FROM monitoring.orders AS o
LEFT JOIN monitoring.trades AS t USING (exchange, symbol, order_id)
WHERE o.position_id = $1
ORDER BY coalesce(t.executed_at, o.created_at), o.seq, t.seq;
