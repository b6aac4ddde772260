-- name: milliseconds
-- Milliseconds since 1970.
epoch_ms({at})

-- name: order_rows
-- The orders of the log as a report asks for them.
SELECT
    position_id, exchange, symbol, upper(type) AS type, upper(status) AS status, size, filled, price,
    created_at AS counted_at,
    {seconds} AS seconds,
    coalesce(upper(type) LIKE '%STOP%', false) AS is_stop,
    coalesce(upper(status) IN {final}, false) AS is_final
FROM orders
