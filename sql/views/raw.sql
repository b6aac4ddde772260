-- The log of a bot as views in DuckDB: records, orders, trades, order_updates, events, segments, round_trips.
--
--   duckdb
--   D SET VARIABLE audit_dir = '/var/lib/bot/audit';   -- var/audit without this
--   D .read sql/views/raw.sql
--   D SELECT symbol, count(*) FROM trades GROUP BY ALL;
--
-- Lines that the bot writes later are seen by the next query, files that it begins later once this is read again.
-- docs/querying.md has more. Made by `make views` from the files beside it: change those.

SET TimeZone = 'UTC';

SET VARIABLE audit_dir = rtrim(coalesce(getvariable('audit_dir'), 'var/audit'), '/');

SET VARIABLE audit_files = (
    SELECT list(file ORDER BY file)
    FROM (
        FROM glob(regexp_replace(getvariable('audit_dir'), '([*?[])', '[\1]', 'g') || '/*.jsonl*')
        UNION ALL
        FROM glob(regexp_replace(getvariable('audit_dir'), '([*?[])', '[\1]', 'g') || '/archive/*.jsonl*')
    )
    WHERE regexp_full_match(file, '.*[.][0-9a-f]{32}[.][0-9]{6,}[.]jsonl([.](zst|gz))?')
);

CREATE OR REPLACE MACRO is_number(t) AS
    strlen(t) <= 1000 AND regexp_full_match(t, '[+-]?([0-9]+([.][0-9]*)?|[.][0-9]+)([eE][+-]?[0-9][0-9]?[0-9]?)?');

CREATE OR REPLACE MACRO is_infinite_or_nan(t) AS
    CASE
        WHEN contains(t, 'n') OR contains(t, 'N') THEN regexp_full_match(t, '(?i)\s*[+-]?(nan|inf|infinity)\s*')
        ELSE t IS NULL AND NULL
    END;

CREATE OR REPLACE MACRO number_or_null(t) AS CASE WHEN NOT is_infinite_or_nan(t) THEN t END;

CREATE OR REPLACE MACRO true_or_false(t) AS
    CASE lower(t) WHEN 'true' THEN true WHEN 'false' THEN false END;

-- How many decimals a number text needs: 1.500 needs 1, 12e-7 needs 7.
CREATE OR REPLACE MACRO any_decimals(t) AS greatest(
    0,
    strlen(regexp_extract(t, '[.]([0-9]*)', 1))
    - coalesce(TRY_CAST(nullif(regexp_extract(t, '[eE]([+-]?[0-9]+)', 1), '') AS BIGINT), 0)
    - (
        strlen(regexp_replace(regexp_extract(t, '^[^eE]*'), '[^0-9]', '', 'g'))
        - strlen(rtrim(regexp_replace(regexp_extract(t, '^[^eE]*'), '[^0-9]', '', 'g'), '0'))
    )
);

CREATE OR REPLACE MACRO decimals(t) AS CASE
    WHEN contains(t, '.') OR contains(t, 'e') OR contains(t, 'E') THEN any_decimals(t)
    WHEN t IS NOT NULL THEN 0
END;

CREATE OR REPLACE MACRO any_moment(t) AS CASE
    WHEN regexp_matches(t, '^[0-9]{4}-[0-9]{2}-[0-9]{2}') THEN TRY_CAST(t AS TIMESTAMPTZ)
    WHEN regexp_full_match(t, '[+-]?[0-9]{1,20}([.][0-9]*)?') THEN make_timestamptz(CAST(floor(
        -- TRY, though every branch has looked: DuckDB may compute what branches share for all rows.
        CASE
            WHEN TRY_CAST(t AS DECIMAL(38, 9)) < 100000000000 THEN TRY_CAST(t AS DECIMAL(38, 9)) * 1000000
            WHEN TRY_CAST(t AS DECIMAL(38, 9)) < 100000000000000 THEN TRY_CAST(t AS DECIMAL(38, 9)) * 1000
            WHEN TRY_CAST(t AS DECIMAL(38, 9)) < 100000000000000000 THEN TRY_CAST(t AS DECIMAL(38, 9))
            ELSE TRY_CAST(t AS DECIMAL(38, 9)) / 1000
        END) AS BIGINT))
END;

-- The start of 1970 and all before it is what senders write for "not said".
CREATE OR REPLACE MACRO moment(t) AS CASE
    WHEN any_moment(t) > TIMESTAMPTZ '1970-01-01 00:00:00+00' THEN any_moment(t)
END;

CREATE OR REPLACE MACRO is_moment(t) AS
    coalesce(any_moment(t) < TIMESTAMPTZ '9999-01-01 00:00:00+00', false);

CREATE OR REPLACE MACRO exact_number(t) AS TRY_CAST(number_or_null(t) AS DECIMAL(38, 18));

CREATE SCHEMA IF NOT EXISTS raw;

CREATE OR REPLACE MACRO raw.read_lines(files) AS TABLE SELECT line, filename AS path
FROM read_csv(
    files,
    columns = {'line': 'VARCHAR'},
    delim = chr(1), quote = '', escape = '', comment = '', header = false, auto_detect = false,
    new_line = '\n', max_line_size = 2097152, strict_mode = false, ignore_errors = true, filename = true
);

CREATE OR REPLACE MACRO raw.reading(variable) AS CASE
    WHEN len(getvariable(variable)) > 0 THEN 'FROM raw.read_lines(getvariable(''' || variable || '''))'
    ELSE 'SELECT NULL::VARCHAR AS line, NULL::VARCHAR AS path WHERE false'
END;

CREATE OR REPLACE MACRO raw.measuring(variable) AS CASE
    WHEN len(getvariable(variable)) > 0
    THEN 'SELECT filename AS path, size FROM read_blob(getvariable(''' || variable || '''))'
    ELSE 'SELECT NULL::VARCHAR AS path, NULL::BIGINT AS size WHERE false'
END;

CREATE OR REPLACE TABLE raw.control AS
SELECT path, control.stream, control.event_name, control."timestamp", control.attributes
FROM (
    SELECT
        path,
        CASE WHEN random() < 2 THEN json_transform(
            line,
            '{"stream": "VARCHAR", "seq": "VARCHAR", "timestamp": "VARCHAR", "event_name": "VARCHAR", "attributes": "JSON"}'
        ) END AS control
    FROM query(raw.reading('audit_files'))
    WHERE contains(line, '"segment.') AND line[1] = '{' AND json_valid(line)
)
WHERE control.event_name IN ('segment.opened', 'segment.closed') AND control.seq IS NULL;

CREATE OR REPLACE TABLE raw.found AS
WITH named AS (
    SELECT
        file AS path,
        regexp_extract(file, '([^/]*)[.]([0-9a-f]{32})[.]([0-9]+)[.]jsonl([.].*)?$', ['service', 'stream', 'segment', 'suffix']) AS name
    FROM (SELECT unnest(getvariable('audit_files')) AS file)
), opened AS (
    SELECT
        n.path, c.stream, CAST(n.name.segment AS BIGINT) AS segment, c.attributes ->> 'service' AS service,
        c."timestamp" AS opened_at, c.attributes -> '$.replaces[*]' AS replaces, n.name.suffix = '' AS is_raw
    FROM named AS n
    JOIN raw.control AS c ON
        c.path = n.path AND c.event_name = 'segment.opened' AND c.stream = n.name.stream
        AND CAST(c.attributes ->> 'segment' AS BIGINT) = CAST(n.name.segment AS BIGINT)
    QUALIFY row_number() OVER (
        PARTITION BY n.name.service, n.name.stream, n.name.segment ORDER BY list_position(['', '.zst', '.gz'], n.name.suffix)
    ) = 1
), voids AS (
    SELECT stream, segment, min(void) AS void
    FROM (
        SELECT stream, CAST(entry ->> 'segment' AS BIGINT) AS segment, CAST(entry ->> 'offset' AS BIGINT) AS void
        FROM (SELECT stream, unnest(replaces) AS entry FROM opened)
    )
    GROUP BY stream, segment
), closed AS (
    SELECT path, stream, max("timestamp") AS closed_at, arg_max(attributes, "timestamp") AS footer
    FROM raw.control
    WHERE event_name = 'segment.closed'
    GROUP BY path, stream
)
SELECT o.* EXCLUDE (replaces), v.void, c.closed_at, c.footer
FROM opened AS o
LEFT JOIN voids AS v USING (stream, segment)
LEFT JOIN closed AS c USING (path, stream);

SET VARIABLE audit_whole = (SELECT list(path ORDER BY path) FROM raw.found WHERE footer IS NOT NULL AND void IS NULL);
SET VARIABLE audit_limited = (SELECT list(path ORDER BY path) FROM raw.found WHERE footer IS NULL OR void IS NOT NULL);
SET VARIABLE audit_raw = (SELECT list(path ORDER BY path) FROM raw.found WHERE is_raw);
SET VARIABLE audit_archived = (SELECT list(path ORDER BY path) FROM raw.found WHERE NOT is_raw);

CREATE OR REPLACE VIEW raw.sizes AS
FROM query(raw.measuring('audit_raw'))
UNION ALL
SELECT path, sum(coalesce(strlen(line), 0) + 1) AS size FROM query(raw.reading('audit_archived')) GROUP BY path;

CREATE OR REPLACE VIEW raw.limited_lines AS
SELECT line, path, line_end <= coalesce(f.void, line_end) AS counts
FROM (
    SELECT *, sum(coalesce(strlen(line), 0) + 1) OVER (PARTITION BY path ORDER BY n) AS line_end
    FROM (SELECT *, row_number() OVER () AS n FROM query(raw.reading('audit_limited')))
)
JOIN raw.found AS f USING (path)
LEFT JOIN (FROM query(raw.measuring('audit_raw'))) AS s USING (path)
WHERE line_end <= coalesce(s.size, line_end);

CREATE OR REPLACE VIEW raw.lines AS
SELECT line, path
FROM (
    FROM query(raw.reading('audit_whole'))
    UNION ALL
    SELECT line, path FROM raw.limited_lines WHERE counts
)
WHERE strlen(line) <= 1048576;

CREATE OR REPLACE VIEW raw.paths AS SELECT path, stream, segment FROM raw.found;

CREATE OR REPLACE VIEW raw.files AS
SELECT
    parse_filename(path) AS file, f.stream, f.segment, f.service, f.opened_at, f.closed_at, s.size AS bytes,
    CAST(f.footer ->> 'records' AS BIGINT) AS records,
    CAST(f.footer ->> 'first_seq' AS BIGINT) AS first_seq,
    coalesce(CAST(f.footer ->> 'last_seq' AS BIGINT), l.last_seq) AS last_seq,
    f.footer ->> 'sha256' AS sha256,
    CAST(f.footer ->> 'recovered' AS BOOLEAN) AS recovered,
    CASE WHEN f.void < s.size THEN 'replaced' WHEN f.footer IS NOT NULL THEN 'closed' ELSE 'unfinished' END AS state
FROM raw.found AS f
LEFT JOIN raw.sizes AS s USING (path)
LEFT JOIN (
    SELECT path, max(TRY_CAST(json_extract_string(line, '$.seq') AS BIGINT)) AS last_seq
    FROM raw.limited_lines
    WHERE json_valid(line)
    GROUP BY path
) AS l USING (path);

CREATE OR REPLACE VIEW records AS
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

CREATE OR REPLACE VIEW raw.orders_created AS
SELECT
    stream, seq, "timestamp", position_id, exchange, symbol, order_id, client_order_id, type, side,
    exact_number(size) AS size, exact_number(price) AS price, status, exact_number(filled) AS filled,
    exact_number(remaining) AS remaining, exact_number(fee) AS fee, fee_currency, fees,
    coalesce(moment(created_at), "timestamp") AS created_at, coalesce(moment(updated_at), "timestamp") AS updated_at,
    attributes
FROM (
SELECT *
FROM (
SELECT
    * EXCLUDE (fee, fees, fee_currency),
    CASE WHEN json_type(fee) IN ('OBJECT', 'ARRAY') THEN nullif(one ->> 'cost', '')
        ELSE coalesce(nullif(fee ->> '$', ''), nullif(one ->> 'cost', '')) END AS fee,
    coalesce(fee_currency, nullif(one ->> 'currency', '')) AS fee_currency,
    list AS fees
FROM (
    SELECT
        *,
        CASE
            WHEN json_type(fees) = 'ARRAY' AND json_array_length(fees) > 0 THEN fees
            WHEN json_type(fee) = 'ARRAY' AND json_array_length(fee) > 0 THEN fee
        END AS list,
        CASE
            WHEN json_type(fee) = 'OBJECT' THEN fee
            WHEN json_array_length(list) = 1 THEN list -> 0
        END AS one
    FROM (
SELECT
    stream, seq, "timestamp", event_name, severity_text, attributes,
    nullif(a."position_id", '') AS "position_id",
    nullif(a."exchange", '') AS "exchange",
    nullif(a."symbol", '') AS "symbol",
    nullif(a."order_id", '') AS "order_id",
    nullif(a."client_order_id", '') AS "client_order_id",
    nullif(a."type", '') AS "type",
    nullif(a."side", '') AS "side",
    nullif(a."size", '') AS "size",
    nullif(a."price", '') AS "price",
    nullif(a."status", '') AS "status",
    nullif(a."filled", '') AS "filled",
    nullif(a."remaining", '') AS "remaining",
    a."fee" AS "fee",
    nullif(a."fee_currency", '') AS "fee_currency",
    a."fees" AS "fees",
    nullif(a."created_at", '') AS "created_at",
    nullif(a."updated_at", '') AS "updated_at"
FROM (
    SELECT *, CASE WHEN random() < 2 THEN json_transform(attributes, '{"position_id": "VARCHAR", "exchange": "VARCHAR", "symbol": "VARCHAR", "order_id": "VARCHAR", "client_order_id": "VARCHAR", "type": "VARCHAR", "side": "VARCHAR", "size": "VARCHAR", "price": "VARCHAR", "status": "VARCHAR", "filled": "VARCHAR", "remaining": "VARCHAR", "fee": "JSON", "fee_currency": "VARCHAR", "fees": "JSON", "created_at": "VARCHAR", "updated_at": "VARCHAR"}') END AS a
    FROM records
    WHERE event_name = 'order.created'
)
)
)
)
WHERE
    true
    AND "exchange" IS NOT NULL
    AND "symbol" IS NOT NULL
    AND "type" IS NOT NULL
    AND "side" IS NOT NULL
    AND ("size" IS NULL OR is_number("size") OR is_infinite_or_nan("size"))
    AND ("price" IS NULL OR is_number("price") OR is_infinite_or_nan("price"))
    AND "status" IS NOT NULL
    AND ("filled" IS NULL OR is_number("filled") OR is_infinite_or_nan("filled"))
    AND ("remaining" IS NULL OR is_number("remaining") OR is_infinite_or_nan("remaining"))
    AND ("fee" IS NULL OR is_number("fee") OR is_infinite_or_nan("fee"))
    AND ("created_at" IS NULL OR is_moment("created_at"))
    AND ("updated_at" IS NULL OR is_moment("updated_at"))
) AS accepted;

CREATE OR REPLACE VIEW order_updates AS
SELECT
    stream, seq, "timestamp", position_id, exchange, symbol, order_id, client_order_id, type, side,
    exact_number(size) AS size, exact_number(price) AS price, status, exact_number(filled) AS filled,
    exact_number(remaining) AS remaining, exact_number(average_price) AS average_price,
    exact_number(fee) AS fee, fee_currency, fees, reason,
    moment(created_at) AS created_at, coalesce(moment(updated_at), "timestamp") AS updated_at,
    attributes
FROM (
SELECT *
FROM (
SELECT
    * EXCLUDE (fee, fees, fee_currency),
    CASE WHEN json_type(fee) IN ('OBJECT', 'ARRAY') THEN nullif(one ->> 'cost', '')
        ELSE coalesce(nullif(fee ->> '$', ''), nullif(one ->> 'cost', '')) END AS fee,
    coalesce(fee_currency, nullif(one ->> 'currency', '')) AS fee_currency,
    list AS fees
FROM (
    SELECT
        *,
        CASE
            WHEN json_type(fees) = 'ARRAY' AND json_array_length(fees) > 0 THEN fees
            WHEN json_type(fee) = 'ARRAY' AND json_array_length(fee) > 0 THEN fee
        END AS list,
        CASE
            WHEN json_type(fee) = 'OBJECT' THEN fee
            WHEN json_array_length(list) = 1 THEN list -> 0
        END AS one
    FROM (
SELECT
    stream, seq, "timestamp", event_name, severity_text, attributes,
    nullif(a."position_id", '') AS "position_id",
    nullif(a."exchange", '') AS "exchange",
    nullif(a."symbol", '') AS "symbol",
    nullif(a."order_id", '') AS "order_id",
    nullif(a."client_order_id", '') AS "client_order_id",
    nullif(a."type", '') AS "type",
    nullif(a."side", '') AS "side",
    nullif(a."size", '') AS "size",
    nullif(a."price", '') AS "price",
    nullif(a."status", '') AS "status",
    nullif(a."filled", '') AS "filled",
    nullif(a."remaining", '') AS "remaining",
    nullif(a."average_price", '') AS "average_price",
    a."fee" AS "fee",
    nullif(a."fee_currency", '') AS "fee_currency",
    a."fees" AS "fees",
    nullif(a."reason", '') AS "reason",
    nullif(a."created_at", '') AS "created_at",
    nullif(a."updated_at", '') AS "updated_at"
FROM (
    SELECT *, CASE WHEN random() < 2 THEN json_transform(attributes, '{"position_id": "VARCHAR", "exchange": "VARCHAR", "symbol": "VARCHAR", "order_id": "VARCHAR", "client_order_id": "VARCHAR", "type": "VARCHAR", "side": "VARCHAR", "size": "VARCHAR", "price": "VARCHAR", "status": "VARCHAR", "filled": "VARCHAR", "remaining": "VARCHAR", "average_price": "VARCHAR", "fee": "JSON", "fee_currency": "VARCHAR", "fees": "JSON", "reason": "VARCHAR", "created_at": "VARCHAR", "updated_at": "VARCHAR"}') END AS a
    FROM records
    WHERE event_name = 'order.updated'
)
)
)
)
WHERE
    true
    AND "exchange" IS NOT NULL
    AND "symbol" IS NOT NULL
    AND ("size" IS NULL OR is_number("size") OR is_infinite_or_nan("size"))
    AND ("price" IS NULL OR is_number("price") OR is_infinite_or_nan("price"))
    AND ("filled" IS NULL OR is_number("filled") OR is_infinite_or_nan("filled"))
    AND ("remaining" IS NULL OR is_number("remaining") OR is_infinite_or_nan("remaining"))
    AND ("average_price" IS NULL OR is_number("average_price") OR is_infinite_or_nan("average_price"))
    AND ("fee" IS NULL OR is_number("fee") OR is_infinite_or_nan("fee"))
    AND ("created_at" IS NULL OR is_moment("created_at"))
    AND ("updated_at" IS NULL OR is_moment("updated_at"))
    AND (order_id IS NOT NULL OR client_order_id IS NOT NULL)
) AS accepted;

COMMENT ON VIEW order_updates IS 'the changes of orders, one row per record';

CREATE OR REPLACE VIEW trades AS
SELECT
    stream, seq, "timestamp", position_id, TRY_CAST(signal_id AS BIGINT) AS signal_id, exchange, symbol, side, order_type,
    exact_number(quantity) AS quantity, exact_number(price) AS price, exact_number(executed_qty) AS executed_qty,
    exact_number(average_price) AS average_price, order_id, client_order_id, trade_id, status,
    exact_number(fee) AS fee, fee_currency, fees,
    exact_number(contract_size) AS contract_size, reason, true_or_false(estimated) AS estimated,
    coalesce(moment(executed_at), "timestamp") AS executed_at,
    attributes
FROM (
SELECT *
FROM (
SELECT
    * EXCLUDE (fee, fees, fee_currency),
    CASE WHEN json_type(fee) IN ('OBJECT', 'ARRAY') THEN nullif(one ->> 'cost', '')
        ELSE coalesce(nullif(fee ->> '$', ''), nullif(one ->> 'cost', '')) END AS fee,
    coalesce(fee_currency, nullif(one ->> 'currency', '')) AS fee_currency,
    list AS fees
FROM (
    SELECT
        *,
        CASE
            WHEN json_type(fees) = 'ARRAY' AND json_array_length(fees) > 0 THEN fees
            WHEN json_type(fee) = 'ARRAY' AND json_array_length(fee) > 0 THEN fee
        END AS list,
        CASE
            WHEN json_type(fee) = 'OBJECT' THEN fee
            WHEN json_array_length(list) = 1 THEN list -> 0
        END AS one
    FROM (
SELECT
    stream, seq, "timestamp", event_name, severity_text, attributes,
    nullif(a."signal_id", '') AS "signal_id",
    nullif(a."position_id", '') AS "position_id",
    nullif(a."exchange", '') AS "exchange",
    nullif(a."symbol", '') AS "symbol",
    nullif(a."side", '') AS "side",
    nullif(a."order_type", '') AS "order_type",
    nullif(a."quantity", '') AS "quantity",
    nullif(a."price", '') AS "price",
    nullif(a."executed_qty", '') AS "executed_qty",
    nullif(a."average_price", '') AS "average_price",
    nullif(a."order_id", '') AS "order_id",
    nullif(a."client_order_id", '') AS "client_order_id",
    nullif(a."trade_id", '') AS "trade_id",
    nullif(a."status", '') AS "status",
    a."fee" AS "fee",
    nullif(a."fee_currency", '') AS "fee_currency",
    a."fees" AS "fees",
    nullif(a."contract_size", '') AS "contract_size",
    nullif(a."reason", '') AS "reason",
    nullif(a."estimated", '') AS "estimated",
    nullif(a."executed_at", '') AS "executed_at"
FROM (
    SELECT *, CASE WHEN random() < 2 THEN json_transform(attributes, '{"signal_id": "VARCHAR", "position_id": "VARCHAR", "exchange": "VARCHAR", "symbol": "VARCHAR", "side": "VARCHAR", "order_type": "VARCHAR", "quantity": "VARCHAR", "price": "VARCHAR", "executed_qty": "VARCHAR", "average_price": "VARCHAR", "order_id": "VARCHAR", "client_order_id": "VARCHAR", "trade_id": "VARCHAR", "status": "VARCHAR", "fee": "JSON", "fee_currency": "VARCHAR", "fees": "JSON", "contract_size": "VARCHAR", "reason": "VARCHAR", "estimated": "VARCHAR", "executed_at": "VARCHAR"}') END AS a
    FROM records
    WHERE event_name = 'trade.executed'
)
)
)
)
WHERE
    true
    AND "exchange" IS NOT NULL
    AND "symbol" IS NOT NULL
    AND "side" IS NOT NULL
    AND ("quantity" IS NULL OR is_number("quantity") OR is_infinite_or_nan("quantity"))
    AND "price" IS NOT NULL
    AND ("price" IS NULL OR is_number("price") OR is_infinite_or_nan("price"))
    AND "executed_qty" IS NOT NULL
    AND ("executed_qty" IS NULL OR is_number("executed_qty") OR is_infinite_or_nan("executed_qty"))
    AND ("average_price" IS NULL OR is_number("average_price") OR is_infinite_or_nan("average_price"))
    AND ("fee" IS NULL OR is_number("fee") OR is_infinite_or_nan("fee"))
    AND ("contract_size" IS NULL OR is_number("contract_size") OR is_infinite_or_nan("contract_size"))
    AND ("executed_at" IS NULL OR is_moment("executed_at"))
) AS accepted
QUALIFY trade_id IS NULL OR row_number() OVER (PARTITION BY exchange, symbol, trade_id ORDER BY stream, seq) = 1;

COMMENT ON VIEW trades IS 'one row per fill; numbers are exact to 18 decimals, their text as written is in attributes';

CREATE OR REPLACE VIEW events AS
SELECT
    stream, seq, "timestamp", event_name AS event_type, severity_text AS severity, position_id, order_id, symbol, exchange,
    correlation_id, error_message, stack_trace, attributes
FROM (
SELECT *
FROM (
SELECT
    stream, seq, "timestamp", event_name, severity_text, attributes,
    nullif(a."position_id", '') AS "position_id",
    nullif(a."order_id", '') AS "order_id",
    nullif(a."symbol", '') AS "symbol",
    nullif(a."exchange", '') AS "exchange",
    nullif(a."correlation_id", '') AS "correlation_id",
    nullif(a."error_message", '') AS "error_message",
    nullif(a."stack_trace", '') AS "stack_trace"
FROM (
    SELECT *, CASE WHEN random() < 2 THEN json_transform(attributes, '{"position_id": "VARCHAR", "order_id": "VARCHAR", "symbol": "VARCHAR", "exchange": "VARCHAR", "correlation_id": "VARCHAR", "error_message": "VARCHAR", "stack_trace": "VARCHAR"}') END AS a
    FROM records
    WHERE event_name NOT IN ('segment.opened', 'segment.closed', 'audit.lost', 'order.created', 'order.updated', 'trade.executed')
)
)
WHERE
    true
) AS accepted;

COMMENT ON VIEW events IS 'whatever else was recorded; all fields are in attributes';

CREATE OR REPLACE VIEW orders AS
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

CREATE OR REPLACE VIEW segments AS
SELECT
    file, service, stream, segment, state, bytes, records, first_seq, last_seq, moment(opened_at) AS opened_at,
    moment(closed_at) AS closed_at, recovered, sha256
FROM raw.files
ORDER BY stream, segment;

COMMENT ON VIEW segments IS 'the files; records, seqs, closed_at and sha256 as their last lines say';

CREATE SCHEMA IF NOT EXISTS monitoring;

CREATE OR REPLACE MACRO monitoring.amount_of(x) AS CASE WHEN abs(x) < 1000000000000000 THEN CAST(x AS DECIMAL(38, 18)) END;

CREATE OR REPLACE MACRO to_9(x) AS CAST(x AS DECIMAL(29, 9));

CREATE OR REPLACE MACRO below_9(x) AS CAST(x - to_9(x) AS DECIMAL(18, 18));

CREATE OR REPLACE MACRO to_18(x) AS CAST(x AS DECIMAL(38, 18));

-- a = a9 + a', b = b9 + b': a9 b9 has 18 decimals, what the other three products have beyond them is tiny, and is rounded
-- at last (kept above zero, so that half goes up).
CREATE OR REPLACE MACRO product_of_magnitudes(a, b) AS
    to_9(a) * to_9(b)
    + to_18(to_9(a) * below_9(b))
    + to_18(below_9(a) * to_9(b))
    + to_18(
        CAST(to_9(a) * below_9(b) - to_18(to_9(a) * below_9(b)) AS DECIMAL(38, 36))
        + CAST(below_9(a) * to_9(b) - to_18(below_9(a) * to_9(b)) AS DECIMAL(38, 36))
        + CAST(below_9(a) * below_9(b) AS DECIMAL(38, 36))
        + CAST(0.000000000000000005 AS DECIMAL(38, 36))
    )
    - CAST(0.000000000000000005 AS DECIMAL(38, 18));

CREATE OR REPLACE MACRO monitoring.product_of(a, b) AS sign(a) * sign(b) * product_of_magnitudes(
    CASE WHEN abs(CAST(a AS DOUBLE) * CAST(b AS DOUBLE)) < 1e18 THEN abs(a) END, abs(b)
);

CREATE OR REPLACE MACRO units(x) AS CAST(replace(CAST(CAST(x AS DECIMAL(38, 18)) AS VARCHAR), '.', '') AS HUGEINT);

-- Division by hand: the whole part, then 5, 5, 5 and 3 decimals, each from the remainder before; the last one rounds.
CREATE OR REPLACE MACRO long_division(a, b) AS
    CAST(a // b AS DECIMAL(38, 0)) * CAST(1 AS DECIMAL(1, 0))
    + CAST(
        a % b * 100000 // b * 10000000000000
        + a % b * 100000 % b * 100000 // b * 100000000
        + a % b * 100000 % b * 100000 % b * 100000 // b * 1000
        + a % b * 100000 % b * 100000 % b * 100000 % b * 1000 // b
        + CASE WHEN a % b * 100000 % b * 100000 % b * 100000 % b * 1000 % b * 2 >= b THEN 1 ELSE 0 END
        AS DECIMAL(38, 0)
    ) * CAST(0.000000000000000001 AS DECIMAL(18, 18));

CREATE OR REPLACE MACRO monitoring.ratio_of(a, b) AS sign(a) * sign(b) * long_division(
    CASE WHEN b <> 0 AND abs(CAST(a AS DOUBLE) / CAST(b AS DOUBLE)) < 1e18 THEN units(abs(a)) END,
    CASE WHEN b <> 0 AND abs(b) < 1000000000000000 THEN units(abs(b)) END
);

CREATE OR REPLACE MACRO monitoring.quote_of(symbol) AS nullif(CASE
    WHEN symbol LIKE '%/%:%' THEN upper(split_part(split_part(symbol, ':', 2), '-', 1))
    WHEN symbol LIKE '%/%' THEN upper(split_part(symbol, '/', 2))
    ELSE regexp_extract(
        upper(symbol),
        '^[A-Z0-9]+?[-_]?(USDT|USDC|FDUSD|BUSD|TUSD|USDE|DAI|USD|EUR|GBP|TRY|BRL|JPY|AUD|BTC|ETH|BNB|SOL)([-_].*)?$',
        1
    )
END, '');

CREATE OR REPLACE VIEW round_trips AS
SELECT * FROM (
WITH recorded AS MATERIALIZED (
SELECT
    stream, seq, executed_at, exchange, symbol, position_id, signal_id, side, order_type, order_id, trade_id, reason, estimated,
    executed_qty, price, average_price, contract_size, fee, fee_currency, fees
FROM trades
), trade_rows AS NOT MATERIALIZED (
SELECT
    stream, seq, executed_at, exchange, symbol, position_id, CAST(signal_id AS VARCHAR) AS signal_id, side, order_type,
    order_id, trade_id, reason, estimated,
    monitoring.amount_of(executed_qty) AS executed_qty,
    monitoring.amount_of(price) AS price,
    monitoring.amount_of(average_price) AS average_price,
    monitoring.amount_of(contract_size) AS contract_size,
    CASE WHEN fees IS NULL THEN monitoring.amount_of(fee) END AS only_fee,
    CASE WHEN fees IS NULL THEN upper(fee_currency) END AS only_currency
FROM recorded
), listed_fees AS NOT MATERIALIZED (
SELECT stream, seq, currency, cost
FROM (
    SELECT
        stream, seq,
        upper(coalesce(nullif(one ->> 'currency', ''), CASE WHEN json_array_length(fees) = 1 THEN fee_currency END)) AS currency,
        monitoring.amount_of(exact_number(CASE json_type(one) WHEN 'OBJECT' THEN one ->> 'cost' ELSE one ->> '$' END)) AS cost
    FROM (SELECT stream, seq, fee_currency, fees, unnest(json_extract(fees, '$[*]')) AS one FROM recorded WHERE fees IS NOT NULL)
)
WHERE cost IS NOT NULL
), judged AS NOT MATERIALIZED (
SELECT
    stream, seq, executed_at, exchange, symbol, position_id, signal_id, reason, order_type, estimated, only_fee, only_currency,
    lower(side) AS side,
    coalesce(nullif(average_price, 0), price) AS price,
    monitoring.product_of(executed_qty, coalesce(contract_size, 1)) AS quantity,
    monitoring.quote_of(symbol) AS quote
FROM (
    SELECT *, count(trade_id) OVER (PARTITION BY exchange, symbol, order_id) AS with_trade_id FROM trade_rows
) AS said
WHERE trade_id IS NOT NULL OR order_id IS NULL OR with_trade_id = 0
), valued AS NOT MATERIALIZED (
SELECT *, monitoring.product_of(price, quantity) AS value FROM judged
), countable AS MATERIALIZED (
SELECT
    *,
    coalesce(
        side IN ('buy', 'sell') AND quantity > 0 AND abs(value) < 1000000000000000
        AND NOT (symbol LIKE '%/%:%' AND upper(split_part(symbol, '/', 1)) = quote),
        false
    ) AS counts
FROM valued
), fills AS MATERIALIZED (
SELECT
    row_number() OVER (ORDER BY exchange, symbol, position_id, executed_at, stream, seq) AS n,
    dense_rank() OVER (ORDER BY exchange, symbol, position_id) AS lane,
    *
FROM countable
WHERE counts
), paid AS NOT MATERIALIZED (
SELECT f.n, sum(CASE WHEN l.currency = f.quote THEN l.cost ELSE 0 END) AS fee
FROM fills AS f
JOIN listed_fees AS l ON l.stream = f.stream AND l.seq = f.seq
GROUP BY f.n
), walked AS NOT MATERIALIZED (
SELECT
    w.*, quantity - closes AS opens,
    only_fee IS NULL AND paid.n IS NULL AS fee_unknown,
    coalesce(CASE WHEN only_currency = quote THEN only_fee END, paid.fee, 0) AS fee
FROM (
    SELECT
        *,
        CASE
            WHEN (side = 'buy' AND held_before < 0) OR (side = 'sell' AND held_before > 0)
            THEN least(quantity, abs(held_before))
            ELSE 0
        END AS closes
    FROM (
        SELECT
            *,
            sum(CASE side WHEN 'buy' THEN quantity ELSE -quantity END) OVER (PARTITION BY lane ORDER BY n ROWS UNBOUNDED PRECEDING)
            - CASE side WHEN 'buy' THEN quantity ELSE -quantity END AS held_before
        FROM fills
    ) AS held
) AS w
LEFT JOIN paid ON paid.n = w.n
), numbered AS MATERIALIZED (
SELECT
    *,
    sum(opens) OVER so_far AS open_to,
    sum(closes) OVER so_far AS close_to,
    count(CASE WHEN opens > 0 AND (position_id IS NULL OR held_before = 0 OR closes > 0) THEN 1 END) OVER so_far
    - CASE WHEN opens > 0 AND closes > 0 THEN 1 ELSE 0 END AS trip
FROM walked
WINDOW so_far AS (PARTITION BY lane ORDER BY n ROWS UNBOUNDED PRECEDING)
), pieces AS NOT MATERIALIZED (
SELECT
    coalesce(lag(point) OVER (PARTITION BY lane ORDER BY point, kind), 0) AS piece_from,
    point AS piece_to,
    min(opener) OVER ahead AS opener,
    min(trip) OVER ahead AS trip
FROM (
    SELECT lane, open_to AS point, 0 AS kind, n AS opener, CAST(NULL AS bigint) AS trip FROM numbered WHERE opens > 0
    UNION ALL
    SELECT lane, close_to AS point, 1 AS kind, CAST(NULL AS bigint) AS opener, trip FROM numbered WHERE closes > 0
) AS ends
WINDOW ahead AS (PARTITION BY lane ORDER BY point DESC, kind DESC ROWS UNBOUNDED PRECEDING)
), cuts AS NOT MATERIALIZED (
SELECT opener, trip, min(piece_from) AS cut_from, max(piece_to) AS cut_to
FROM pieces
WHERE piece_to > piece_from
GROUP BY opener, trip
), parts AS MATERIALIZED (
SELECT *, part_to - part_from AS part, part_from = 0 AND part_to = quantity AS whole
FROM (
    SELECT
        e.*, cuts.trip AS part_of, true AS entry,
        quantity - (open_to - cut_from) AS part_from,
        quantity - (open_to - cut_to) AS part_to
    FROM cuts
    JOIN numbered AS e ON e.n = cuts.opener
    UNION ALL
    SELECT x.*, x.trip AS part_of, false AS entry, 0 AS part_from, closes AS part_to
    FROM numbered AS x
    WHERE closes > 0
) AS both_sides
), shares AS MATERIALIZED (
SELECT
    *,
    monitoring.ratio_of(part_from, quantity) AS share_from,
    monitoring.ratio_of(part_to, quantity) AS share_to
FROM parts
WHERE NOT whole
), portions AS MATERIALIZED (
SELECT
    lane, part_of AS trip, entry, n, stream, seq, executed_at, exchange, symbol, position_id, signal_id, quote,
    CASE WHEN entry = (side = 'buy') THEN 'long' ELSE 'short' END AS side,
    coalesce(reason, lower(order_type)) AS reason, estimated, only_fee, only_currency, fee_unknown, whole, part,
    part_value, part_fee, share_from, share_to
FROM (
    SELECT
        *, CAST(0 AS numeric(38, 18)) AS share_from, CAST(1 AS numeric(38, 18)) AS share_to,
        value AS part_value, fee AS part_fee
    FROM parts
    WHERE whole
    UNION ALL
    SELECT
        *,
        monitoring.product_of(price, part_to) - monitoring.product_of(price, part_from) AS part_value,
        monitoring.product_of(fee, share_to) - monitoring.product_of(fee, share_from) AS part_fee
    FROM shares
) AS divided
), trips AS NOT MATERIALIZED (
SELECT
    lane, trip,
    min(exchange) AS exchange,
    min(symbol) AS symbol,
    min(position_id) AS position_id,
    (array_agg(signal_id ORDER BY n) FILTER (WHERE entry))[1] AS signal_id,
    min(side) AS side,
    min(executed_at) FILTER (WHERE entry) AS opened_at,
    max(executed_at) FILTER (WHERE NOT entry) AS closed_at,
    sum(part) FILTER (WHERE entry) AS quantity,
    sum(part_value) FILTER (WHERE entry) AS entry_value,
    sum(part_value) FILTER (WHERE NOT entry) AS exit_value,
    sum(part_fee) AS fees,
    min(quote) AS quote,
    (array_agg(reason ORDER BY n DESC) FILTER (WHERE NOT entry))[1] AS exit_reason,
    coalesce(bool_or(estimated), false) AS estimated,
    (array_agg(stream ORDER BY n DESC) FILTER (WHERE NOT entry))[1] AS stream,
    (array_agg(seq ORDER BY n DESC) FILTER (WHERE NOT entry))[1] AS seq
FROM portions
WHERE trip IS NOT NULL
GROUP BY lane, trip
)
SELECT
    exchange, symbol, position_id, signal_id, side, opened_at, closed_at,
    CAST((epoch_us(closed_at) - epoch_us(opened_at)) AS DECIMAL(38, 6)) * CAST(0.000001 AS DECIMAL(6, 6)) AS duration_seconds,
    quantity,
    monitoring.ratio_of(entry_value, quantity) AS entry_price,
    monitoring.ratio_of(exit_value, quantity) AS exit_price,
    CASE side WHEN 'long' THEN exit_value - entry_value ELSE entry_value - exit_value END AS gross_pnl,
    fees,
    CASE side WHEN 'long' THEN exit_value - entry_value ELSE entry_value - exit_value END - fees AS net_pnl,
    quote, exit_reason, estimated, stream, seq, lane, trip
FROM trips
);

COMMENT ON VIEW round_trips IS 'what was opened and closed, by FIFO: one row for each round trip';

SET VARIABLE audit_found = CASE
    WHEN len(getvariable('audit_files')) > 0 THEN len(getvariable('audit_files'))
    ELSE error(
        'there are no segments in ' || getvariable('audit_dir')
        || '; name the folder, as in: SET VARIABLE audit_dir = ''/var/lib/bot/audit'', and read this file again'
    )
END;
