-- name: setup
-- Macros of the views, beside those of the loader's checks.
CREATE MACRO exact_number(t) AS TRY_CAST(number_or_null(t) AS DECIMAL(38, 18));

CREATE SCHEMA IF NOT EXISTS raw;

-- name: tables
-- Which files are read, and what is known of each.
CREATE TABLE raw.paths (path VARCHAR, stream VARCHAR, segment BIGINT);

CREATE TABLE raw.files (
    file VARCHAR, stream VARCHAR, segment BIGINT, service VARCHAR, opened_at VARCHAR, closed_at VARCHAR, bytes BIGINT,
    records BIGINT, first_seq BIGINT, last_seq BIGINT, sha256 VARCHAR, recovered BOOLEAN, state VARCHAR
);

-- name: read_lines
-- The lines of segments, raw or archived, with the file each stands in. No sign is special but the line end.
CREATE MACRO raw.read_lines(files) AS TABLE SELECT line, filename AS path
FROM read_csv(
    files,
    columns = {'line': 'VARCHAR'},
    delim = chr(1), quote = '', escape = '', comment = '', header = false, auto_detect = false,
    new_line = '\n', max_line_size = 2097152, strict_mode = false, ignore_errors = true, filename = true
);

-- name: no_lines
-- What the views read where there is no segment at all.
CREATE VIEW raw.lines AS SELECT NULL::VARCHAR AS line, NULL::VARCHAR AS path WHERE false;

-- name: lines
-- The lines of all segments that are listed, because they are not all of the directory's.
CREATE VIEW raw.lines AS SELECT line, path FROM raw.read_lines(listed);

-- name: records
-- Every record that the loader would look at: a JSON object with this file's stream, a seq, a time and a name.
-- random() keeps DuckDB from parsing each line anew for every condition; event_name is among the keys so that a view
-- of one kind need not sort the others.
CREATE VIEW records AS
SELECT
    stream, seq, "timestamp", observed_timestamp, severity_text, severity_number, event_name, trace_id, span_id, attributes,
    segment
FROM (
    SELECT
        record.stream AS stream,
        CASE WHEN regexp_full_match(record.seq, '[0-9]{1,18}') THEN CAST(record.seq AS BIGINT) END AS seq,
        moment(record."timestamp") AS "timestamp",
        moment(record.observed_timestamp) AS observed_timestamp,
        record.severity_text AS severity_text,
        TRY_CAST(record.severity_number AS INTEGER) AS severity_number,
        nullif(record.event_name, '') AS event_name,
        record.trace_id AS trace_id,
        record.span_id AS span_id,
        record.attributes AS attributes,
        f.segment
    FROM (
        SELECT
            path,
            CASE WHEN random() < 2 THEN json_transform(
                line,
                '{"stream": "VARCHAR", "seq": "VARCHAR", "timestamp": "VARCHAR", "observed_timestamp": "VARCHAR",
                "severity_text": "VARCHAR", "severity_number": "VARCHAR", "event_name": "VARCHAR", "trace_id": "VARCHAR",
                "span_id": "VARCHAR", "attributes": "JSON"}'
            ) END AS record
        FROM raw.lines
        WHERE line[1] = '{' AND json_valid(line)
    ) AS l
    JOIN raw.paths AS f USING (path)
    WHERE record.stream = f.stream
)
WHERE seq >= 1 AND "timestamp" IS NOT NULL AND event_name IS NOT NULL AND json_type(attributes) = 'OBJECT'
QUALIFY row_number() OVER (PARTITION BY stream, seq, event_name ORDER BY segment) = 1;

COMMENT ON VIEW records IS 'every record of the log, once; attributes is the JSON as it was written';

-- name: trades
-- Fills as the loader would take them; a fill that is reported again makes no second row.
CREATE VIEW trades AS
SELECT
    stream, seq, "timestamp", position_id, TRY_CAST(signal_id AS BIGINT) AS signal_id, exchange, symbol, side, order_type,
    exact_number(quantity) AS quantity, exact_number(price) AS price, exact_number(executed_qty) AS executed_qty,
    exact_number(average_price) AS average_price, order_id, client_order_id, trade_id, status,
    exact_number(fee) AS fee, fee_currency, fees,
    exact_number(contract_size) AS contract_size, reason, true_or_false(estimated) AS estimated,
    coalesce(moment(executed_at), "timestamp") AS executed_at,
    attributes
FROM accepted
QUALIFY trade_id IS NULL OR row_number() OVER (PARTITION BY exchange, symbol, trade_id ORDER BY stream, seq) = 1;

COMMENT ON VIEW trades IS 'one row per fill; numbers are exact to 18 decimals, their text as written is in attributes';

-- name: order_updates
-- What was said about orders after they were made.
CREATE VIEW order_updates AS
SELECT
    stream, seq, "timestamp", position_id, exchange, symbol, order_id, client_order_id, type, side,
    exact_number(size) AS size, exact_number(price) AS price, status, exact_number(filled) AS filled,
    exact_number(remaining) AS remaining, exact_number(average_price) AS average_price,
    exact_number(fee) AS fee, fee_currency, fees, reason,
    moment(created_at) AS created_at, coalesce(moment(updated_at), "timestamp") AS updated_at,
    attributes
FROM accepted;

COMMENT ON VIEW order_updates IS 'the changes of orders, one row per record';

-- name: orders_created
-- Orders as they were first said, and said again; the view orders folds them.
CREATE VIEW raw.orders_created AS
SELECT
    stream, seq, "timestamp", position_id, exchange, symbol, order_id, client_order_id, type, side,
    exact_number(size) AS size, exact_number(price) AS price, status, exact_number(filled) AS filled,
    exact_number(remaining) AS remaining, exact_number(fee) AS fee, fee_currency, fees,
    coalesce(moment(created_at), "timestamp") AS created_at, coalesce(moment(updated_at), "timestamp") AS updated_at,
    attributes
FROM accepted;

-- name: orders
-- The row of an order, folded as PostgreSQL's is: what is not final after the first final record is left out, then each
-- field takes its last value that was said. type, side, created_at, attributes and (stream, seq) are the first record's.
CREATE VIEW orders AS
WITH said AS MATERIALIZED (
    SELECT
        *,
        CASE
            WHEN order_id IS NULL THEN stream || chr(31) || seq
            ELSE exchange || chr(31) || symbol || chr(31) || order_id
        END AS key
    FROM (
        SELECT 'created' AS kind, * FROM raw.orders_created
        UNION ALL BY NAME
        SELECT 'updated' AS kind, * EXCLUDE (average_price, reason) FROM order_updates
    )
), keys AS (
    SELECT DISTINCT key FROM said WHERE kind = 'created'
), direct AS MATERIALIZED (
    SELECT * FROM said SEMI JOIN keys USING (key)
), named AS (
    -- By what counts among the direct records, as the row is.
    SELECT
        key, exchange, symbol,
        arg_max(client_order_id, place) FILTER (
            WHERE client_order_id IS NOT NULL AND (status IS NULL OR final OR place < coalesce(first_final, place + 1))
        ) AS client_order_id
    FROM (
        SELECT *, min(place) FILTER (WHERE final) OVER (PARTITION BY key) AS first_final
        FROM (
            SELECT
                *,
                coalesce(upper(status) IN ('FILLED', 'CANCELED', 'REJECTED', 'EXPIRED'), false) AS final,
                row_number() OVER (PARTITION BY key ORDER BY "timestamp", stream, seq) AS place
            FROM direct
        ) AS placed
    ) AS judged
    GROUP BY key, exchange, symbol
), members AS (
    SELECT * FROM direct
    UNION ALL BY NAME
    SELECT u.* REPLACE (n.key AS key)
    FROM said AS u
    JOIN named AS n USING (exchange, symbol, client_order_id)
    WHERE u.kind = 'updated' AND u.order_id IS NULL
), placed AS (
    SELECT
        *,
        coalesce(upper(status) IN ('FILLED', 'CANCELED', 'REJECTED', 'EXPIRED'), false) AS final,
        row_number() OVER (PARTITION BY key ORDER BY "timestamp", stream, seq) AS place
    FROM members
), judged AS (
    SELECT
        *,
        status IS NULL OR final
            OR place < coalesce(min(place) FILTER (WHERE final) OVER (PARTITION BY key), place + 1) AS counts
    FROM placed
)
SELECT
    arg_min(stream, place) FILTER (WHERE kind = 'created') AS stream,
    arg_min(seq, place) FILTER (WHERE kind = 'created') AS seq,
    arg_min("timestamp", place) FILTER (WHERE kind = 'created') AS "timestamp",
    arg_max(position_id, place) FILTER (WHERE counts) AS position_id,
    any_value(exchange) AS exchange,
    any_value(symbol) AS symbol,
    any_value(order_id) AS order_id,
    arg_max(client_order_id, place) FILTER (WHERE counts) AS client_order_id,
    arg_min(type, place) FILTER (WHERE kind = 'created') AS type,
    arg_min(side, place) FILTER (WHERE kind = 'created') AS side,
    arg_max(size, place) FILTER (WHERE counts) AS size,
    arg_max(price, place) FILTER (WHERE counts) AS price,
    arg_max(status, place) FILTER (WHERE counts) AS status,
    arg_max(filled, place) FILTER (WHERE counts) AS filled,
    arg_max(remaining, place) FILTER (WHERE counts) AS remaining,
    arg_max(fee, place) FILTER (WHERE counts) AS fee,
    arg_max(fee_currency, place) FILTER (WHERE counts) AS fee_currency,
    arg_max(fees, place) FILTER (WHERE counts) AS fees,
    arg_min(created_at, place) FILTER (WHERE kind = 'created') AS created_at,
    arg_max(updated_at, place) FILTER (WHERE counts) AS updated_at,
    arg_min(attributes, place) FILTER (WHERE kind = 'created') AS attributes
FROM judged
GROUP BY key;

COMMENT ON VIEW orders IS 'one row per order, with its last known state; attributes are those of its first record';

-- name: events
-- Whatever else was recorded.
CREATE VIEW events AS
SELECT
    stream, seq, "timestamp", event_name AS event_type, severity_text AS severity, position_id, order_id, symbol, exchange,
    correlation_id, error_message, stack_trace, attributes
FROM accepted;

COMMENT ON VIEW events IS 'whatever else was recorded; all fields are in attributes';

-- name: segments
-- The files themselves.
CREATE VIEW segments AS
SELECT
    file, service, stream, segment, state, bytes, records, first_seq, last_seq, moment(opened_at) AS opened_at,
    moment(closed_at) AS closed_at, recovered, sha256
FROM raw.files
ORDER BY stream, segment;

COMMENT ON VIEW segments IS 'the files; records, seqs, closed_at and sha256 as their last lines say';

-- name: round_trips
-- What was opened and closed, as the metrics count it.
CREATE VIEW round_trips AS
SELECT * FROM trips;

COMMENT ON VIEW round_trips IS 'what was opened and closed, by FIFO: one row for each round trip';

-- name: list_views
-- The views, what each is, and their columns.
SELECT v.view_name, v.comment, c.column_name, c.data_type
FROM duckdb_views() AS v
JOIN duckdb_columns() AS c ON c.schema_name = v.schema_name AND c.table_name = v.view_name
WHERE v.schema_name = 'main' AND NOT v.internal
ORDER BY list_position(['records', 'orders', 'trades', 'order_updates', 'events', 'segments', 'round_trips'], v.view_name), c.column_index;
