-- name: fitted_orders
-- order.created as rows of monitoring.orders. Here and below, `fitted` stands for the accepted records of one kind, each
-- field as its real column can take it (DuckDB); what the statements answer with is the columns of a CSV file.
CREATE OR REPLACE TEMP TABLE fitted_orders AS
SELECT
    n, stream, seq, moment AS recorded_at, 'created' AS kind,
    position_id, exchange, symbol, order_id, client_order_id, type, side, size, price, status, filled, remaining,
    fee, fee_currency, fees,
    coalesce(created_at, moment) AS created_at,
    coalesce(updated_at, moment) AS updated_at
FROM fitted;

-- name: fitted_order_updates
-- order.updated as rows of monitoring.order_updates.
CREATE OR REPLACE TEMP TABLE fitted_order_updates AS
SELECT
    n, stream, seq, moment AS recorded_at, 'updated' AS kind,
    position_id, exchange, symbol, order_id, client_order_id, type, side, size, price, status, filled, remaining,
    average_price, fee, fee_currency, fees, reason,
    created_at,
    coalesce(updated_at, moment) AS updated_at
FROM fitted;

-- name: orders
-- Each order.created as a row of its own.
SELECT * EXCLUDE (n, kind) FROM fitted_orders ORDER BY n;

-- name: order_updates
-- Each order.updated.
SELECT * EXCLUDE (n) FROM fitted_order_updates ORDER BY n;

-- name: settled
-- Orders that can be folded here: all their records in this batch are said by order_id. What the fold is, says
-- sql/load/merge.sql, which folds all others; tests/model holds the two together. Records of earlier batches it finds
-- by those that are not settled.
CREATE OR REPLACE TEMP TABLE settled AS
WITH narrow AS (
    SELECT n, stream, seq, recorded_at, kind, exchange, symbol, order_id, client_order_id, status FROM fitted_orders
    UNION ALL
    SELECT n, stream, seq, recorded_at, kind, exchange, symbol, order_id, client_order_id, status FROM fitted_order_updates
), loose AS (
    SELECT DISTINCT exchange, symbol, client_order_id, true AS loose FROM narrow WHERE order_id IS NULL AND kind = 'updated'
), several AS (
    SELECT exchange, symbol, order_id, row_number() OVER () AS which
    FROM narrow
    LEFT JOIN loose USING (exchange, symbol, client_order_id)
    WHERE order_id IS NOT NULL
    GROUP BY exchange, symbol, order_id
    HAVING count(*) > 1 AND bool_or(kind = 'created') AND count(loose) = 0
), placed AS (
    SELECT
        n, which, kind, status,
        coalesce(upper(status) IN ('FILLED', 'CANCELED', 'REJECTED', 'EXPIRED'), false) AS final,
        row_number() OVER (PARTITION BY which ORDER BY recorded_at, stream, seq) AS place
    FROM narrow
    JOIN several USING (exchange, symbol, order_id)
)
SELECT
    n, which, place, kind = 'created' AS created,
    status IS NULL OR final OR place < coalesce(min(place) FILTER (WHERE final) OVER (PARTITION BY which), place + 1) AS counts,
    kind = 'created' AND place = min(place) FILTER (WHERE kind = 'created') OVER (PARTITION BY which) AS makes_row
FROM placed;

-- name: settled_counts
-- Of the settled: created records, and rows that they make.
SELECT count(*) FILTER (WHERE created) AS created, count(*) FILTER (WHERE makes_row) AS made FROM settled;

-- name: settled_orders
-- Rows of monitoring.orders as they are after all records of this batch: the settled ones folded.
WITH members AS (
    SELECT * FROM fitted_orders JOIN settled USING (n)
    UNION ALL BY NAME
    SELECT * EXCLUDE (average_price, reason) FROM fitted_order_updates JOIN settled USING (n)
), folded AS (
    SELECT
        min(n) FILTER (WHERE makes_row) AS n,
        any_value(stream) FILTER (WHERE makes_row) AS stream,
        any_value(seq) FILTER (WHERE makes_row) AS seq,
        any_value(recorded_at) FILTER (WHERE makes_row) AS recorded_at,
        arg_max(position_id, place) FILTER (WHERE counts AND position_id IS NOT NULL) AS position_id,
        any_value(exchange) AS exchange,
        any_value(symbol) AS symbol,
        any_value(order_id) AS order_id,
        arg_max(client_order_id, place) FILTER (WHERE counts AND client_order_id IS NOT NULL) AS client_order_id,
        any_value(type) FILTER (WHERE makes_row) AS type,
        any_value(side) FILTER (WHERE makes_row) AS side,
        arg_max(size, place) FILTER (WHERE counts AND size IS NOT NULL) AS size,
        arg_max(price, place) FILTER (WHERE counts AND price IS NOT NULL) AS price,
        arg_max(status, place) FILTER (WHERE counts AND status IS NOT NULL) AS status,
        arg_max(filled, place) FILTER (WHERE counts AND filled IS NOT NULL) AS filled,
        arg_max(remaining, place) FILTER (WHERE counts AND remaining IS NOT NULL) AS remaining,
        arg_max(fee, place) FILTER (WHERE counts AND fee IS NOT NULL) AS fee,
        arg_max(fee_currency, place) FILTER (WHERE counts AND fee_currency IS NOT NULL) AS fee_currency,
        arg_max(fees, place) FILTER (WHERE counts AND fees IS NOT NULL) AS fees,
        any_value(created_at) FILTER (WHERE makes_row) AS created_at,
        arg_max(updated_at, place) FILTER (WHERE counts AND updated_at IS NOT NULL) AS updated_at
    FROM members
    GROUP BY which
)
SELECT * EXCLUDE (n, kind)
FROM (
    SELECT * FROM fitted_orders ANTI JOIN settled USING (n)
    UNION ALL BY NAME
    SELECT * FROM folded
)
ORDER BY n;

-- name: settled_order_updates
-- Rows of monitoring.order_updates: beside the changes, the own values of settled orders, as a merge keeps them.
SELECT * EXCLUDE (n)
FROM (
    SELECT * FROM fitted_order_updates
    UNION ALL BY NAME
    SELECT * FROM fitted_orders SEMI JOIN settled USING (n)
)
ORDER BY n;

-- name: unsettled
-- Changes of orders that are not folded here, as streams with first and last seqs.
SELECT stream, min(seq) AS first_seq, max(seq) AS last_seq
FROM (
    SELECT stream, seq, n - row_number() OVER (PARTITION BY stream ORDER BY n) AS run
    FROM fitted_order_updates
    ANTI JOIN settled USING (n)
)
GROUP BY stream, run;

-- name: trades
-- monitoring.trades from trade.executed.
SELECT
    stream, seq,
    signal_id, position_id, exchange, symbol, side, order_type, quantity, price, executed_qty, average_price,
    order_id, client_order_id, trade_id, status, fee, fee_currency, fees, contract_size, reason, estimated,
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
