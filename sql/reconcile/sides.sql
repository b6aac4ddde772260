-- name: said
-- What the exchange says, as it was read from its files (DuckDB). n counts the entries of all files; numbers are texts.
CREATE TABLE said_rows AS
SELECT *
FROM read_csv(
    $path, header = false, auto_detect = false, delim = ',', quote = '"', escape = '"', new_line = '\n',
    columns = {
        'n': 'BIGINT', 'file': 'VARCHAR', 'line': 'BIGINT', 'kind': 'VARCHAR', 'exchange': 'VARCHAR', 'symbol': 'VARCHAR',
        'id': 'VARCHAR', 'order_id': 'VARCHAR', 'client_order_id': 'VARCHAR', 'side': 'VARCHAR', 'type': 'VARCHAR',
        'status': 'VARCHAR', 'price': 'VARCHAR', 'size': 'VARCHAR', 'filled': 'VARCHAR', 'remaining': 'VARCHAR',
        'fee': 'VARCHAR', 'fee_currency': 'VARCHAR', 'fees': 'VARCHAR', 'happened_at': 'TIMESTAMPTZ',
        'changed_at': 'TIMESTAMPTZ'
    }
);

-- name: trail
-- What the trail has, as it was read from the log or from PostgreSQL, in the same columns (DuckDB).
CREATE TABLE trail_rows AS
SELECT row_number() OVER () AS n, *
FROM read_csv(
    $path, header = false, auto_detect = false, delim = ',', quote = '"', escape = '"', new_line = '\n',
    columns = {
        'stream': 'VARCHAR', 'seq': 'BIGINT', 'kind': 'VARCHAR', 'exchange': 'VARCHAR', 'symbol': 'VARCHAR',
        'id': 'VARCHAR', 'order_id': 'VARCHAR', 'client_order_id': 'VARCHAR', 'side': 'VARCHAR', 'type': 'VARCHAR',
        'status': 'VARCHAR', 'price': 'VARCHAR', 'size': 'VARCHAR', 'filled': 'VARCHAR', 'remaining': 'VARCHAR',
        'fee': 'VARCHAR', 'fee_currency': 'VARCHAR', 'fees': 'VARCHAR', 'happened_at': 'TIMESTAMPTZ'
    }
);

-- name: logged
-- What the log names already, whether the loader would take it or not, by all that can identify it (DuckDB).
CREATE TABLE logged_rows AS
SELECT *
FROM read_csv(
    $path, header = false, auto_detect = false, delim = ',', quote = '"', escape = '"', new_line = '\n',
    columns = {
        'kind': 'VARCHAR', 'exchange': 'VARCHAR', 'symbol': 'VARCHAR', 'id': 'VARCHAR', 'order_id': 'VARCHAR',
        'client_order_id': 'VARCHAR', 'side': 'VARCHAR', 'price': 'VARCHAR', 'size': 'VARCHAR', 'happened_at': 'VARCHAR'
    }
);

-- name: logs_trail
-- Orders and fills of the raw views (DuckDB, in the log's own engine). {exchanges} and {symbols}: lists of texts.
SELECT
    stream, seq, 'order' AS kind, exchange, symbol, order_id AS id, order_id, client_order_id, side, type, status,
    CAST(price AS VARCHAR) AS price, CAST(size AS VARCHAR) AS size, CAST(filled AS VARCHAR) AS filled,
    CAST(remaining AS VARCHAR) AS remaining, CAST(fee AS VARCHAR) AS fee, fee_currency, CAST(fees AS VARCHAR) AS fees,
    created_at AS happened_at
FROM orders
WHERE lower(exchange) IN ({exchanges}) AND symbol IN ({symbols})
UNION ALL
SELECT
    stream, seq, 'trade', exchange, symbol, trade_id, order_id, client_order_id, side, order_type, NULL,
    CAST(price AS VARCHAR), CAST(executed_qty AS VARCHAR), NULL,
    NULL, CAST(fee AS VARCHAR), fee_currency, CAST(fees AS VARCHAR),
    executed_at
FROM trades
WHERE lower(exchange) IN ({exchanges}) AND symbol IN ({symbols});

-- name: logs_named
-- What each record of an order or a fill says of its identity, also where a rule would reject it (DuckDB, as above).
SELECT
    CASE event_name WHEN 'order.created' THEN 'order' ELSE 'trade' END AS kind,
    attributes ->> 'exchange', attributes ->> 'symbol',
    attributes ->> CASE event_name WHEN 'order.created' THEN 'order_id' ELSE 'trade_id' END,
    attributes ->> 'order_id', attributes ->> 'client_order_id', attributes ->> 'side', attributes ->> 'price',
    attributes ->> 'executed_qty', attributes ->> 'executed_at'
FROM records
WHERE
    event_name IN ('order.created', 'trade.executed')
    AND lower(attributes ->> 'exchange') IN ({exchanges}) AND attributes ->> 'symbol' IN ({symbols});

-- name: database_trail
-- Orders and fills that came through the log (PostgreSQL). $1, $2: exchanges in lower case, and symbols.
DECLARE trail NO SCROLL CURSOR FOR
SELECT
    stream, seq, 'order' AS kind, exchange, symbol, order_id AS id, order_id, client_order_id, side, type, status,
    price::text, size::text, filled::text, remaining::text, fee::text, fee_currency, fees::text,
    to_char(created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS happened_at
FROM monitoring.orders
WHERE stream IS NOT NULL AND lower(exchange) = ANY ($1::text[]) AND symbol = ANY ($2::text[])
UNION ALL
SELECT
    stream, seq, 'trade', exchange, symbol, trade_id, order_id, client_order_id, side, order_type, NULL,
    price::text, executed_qty::text, NULL, NULL, fee::text, fee_currency, fees::text,
    to_char(executed_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
FROM monitoring.trades
WHERE stream IS NOT NULL AND lower(exchange) = ANY ($1::text[]) AND symbol = ANY ($2::text[]);

-- name: database_trail_next
-- The next rows of it.
FETCH 20000 FROM trail;

-- name: scales
-- How many decimals the columns of the trail keep, by kind; NULL: all (DuckDB).
CREATE TABLE scales (kind VARCHAR, price BIGINT, size BIGINT, filled BIGINT, remaining BIGINT, fee BIGINT);

-- name: names
-- The trail's symbols, and what the files call them (DuckDB).
CREATE TABLE names (exchange VARCHAR, symbol VARCHAR, said_symbol VARCHAR);
