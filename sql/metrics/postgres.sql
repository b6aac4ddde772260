-- name: seconds
-- Seconds between two times, to the microsecond.
round(extract(epoch FROM {to} - {from}), 6)

-- name: trade_rows
-- Fills as they were loaded, numbers as amounts; rows without stream are the bot's own.
SELECT
    stream, seq, executed_at, exchange COLLATE "C" AS exchange, symbol COLLATE "C" AS symbol,
    position_id::text COLLATE "C" AS position_id, signal_id::text AS signal_id, side, order_type,
    order_id COLLATE "C" AS order_id, trade_id, reason, estimated,
    monitoring.amount_of(executed_qty) AS executed_qty,
    monitoring.amount_of(price) AS price,
    monitoring.amount_of(average_price) AS average_price,
    monitoring.amount_of(contract_size) AS contract_size,
    CASE WHEN fees IS NULL THEN monitoring.amount_of(fee) END AS only_fee,
    CASE WHEN fees IS NULL THEN upper(fee_currency) END AS only_currency
FROM monitoring.trades
WHERE stream IS NOT NULL

-- name: listed_fees
-- The fees of fills that have a list of them.
SELECT stream, seq, currency, cost
FROM (
    SELECT
        stream, seq,
        upper(coalesce(nullif(one ->> 'currency', ''), CASE WHEN jsonb_array_length(fees) = 1 THEN fee_currency END))
            AS currency,
        monitoring.amount_of(CASE
            WHEN length(said) <= 1000 AND said ~ '^[+-]?([0-9]+([.][0-9]*)?|[.][0-9]+)([eE][+-]?[0-9][0-9]?[0-9]?)?$'
            THEN said::numeric
        END) AS cost
    FROM monitoring.trades
    CROSS JOIN LATERAL jsonb_array_elements(CASE jsonb_typeof(fees) WHEN 'array' THEN fees ELSE '[]' END) AS one
    CROSS JOIN LATERAL (
        SELECT CASE jsonb_typeof(one) WHEN 'object' THEN one ->> 'cost' ELSE one #>> '{}' END
    ) AS cost_of (said)
    WHERE stream IS NOT NULL AND fees IS NOT NULL
) AS each_fee
WHERE cost IS NOT NULL

-- name: update_performance
-- A row of our own that is there already. $1 period, $2 to $11 the figures in the order of the table's columns.
UPDATE monitoring.performance_metrics
SET
    total_trades = $2, winning_trades = $3, losing_trades = $4, total_pnl = $5, win_rate = $6, profit_factor = $7,
    sharpe_ratio = $8, max_drawdown = $9, avg_win = $10, avg_loss = $11, stored_at = clock_timestamp()
WHERE period = $1 AND stored_by = 'tradetrail'
RETURNING period;

-- name: insert_performance
-- One that is not; parameters as in update_performance.
INSERT INTO monitoring.performance_metrics (
    period, total_trades, winning_trades, losing_trades, total_pnl, win_rate, profit_factor, sharpe_ratio, max_drawdown,
    avg_win, avg_loss, stored_by, stored_at
)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, 'tradetrail', clock_timestamp());
