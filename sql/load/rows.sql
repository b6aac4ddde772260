-- name: orders
-- monitoring.orders from order.created; `fitted` holds the fields as their columns can take them.
SELECT
    stream, seq, moment AS recorded_at,
    position_id, exchange, symbol, order_id, client_order_id, type, side, size, price, status, filled, remaining,
    fee, fee_currency, fees,
    coalesce(created_at, moment) AS created_at,
    coalesce(updated_at, moment) AS updated_at
FROM fitted
ORDER BY n;

-- name: order_updates
-- monitoring.order_updates from order.updated.
SELECT
    stream, seq, moment AS recorded_at, 'updated' AS kind,
    position_id, exchange, symbol, order_id, client_order_id, type, side, size, price, status, filled, remaining,
    average_price, fee, fee_currency, fees, reason,
    created_at,
    coalesce(updated_at, moment) AS updated_at
FROM fitted
ORDER BY n;

-- name: trades
-- monitoring.trades from trade.executed.
SELECT
    stream, seq,
    signal_id, position_id, exchange, symbol, side, order_type, quantity, price, executed_qty, average_price,
    order_id, client_order_id, trade_id, status, fee, fee_currency, fees,
    coalesce(executed_at, moment) AS executed_at,
    moment AS updated_at
FROM fitted
ORDER BY n;

-- name: events
-- monitoring.events from any other event name; the attributes stay whole in event_data.
SELECT
    stream, seq,
    event_name AS event_type,
    attributes AS event_data,
    correlation_id, position_id, order_id, symbol, exchange,
    severity_text AS severity,
    error_message, stack_trace,
    moment AS created_at
FROM fitted
ORDER BY n;
