-- name: setup
-- What sql/metrics asks of its engine, for DuckDB over the raw views: numbers are DECIMAL(38, 18), and a product or a
-- quotient of two such is put together from parts that fit, exactly. PostgreSQL's are in sql/migrations.
CREATE SCHEMA IF NOT EXISTS monitoring;

CREATE MACRO monitoring.amount_of(x) AS CASE WHEN abs(x) < 1000000000000000 THEN CAST(x AS DECIMAL(38, 18)) END;

CREATE MACRO to_9(x) AS CAST(x AS DECIMAL(29, 9));

CREATE MACRO below_9(x) AS CAST(x - to_9(x) AS DECIMAL(18, 18));

CREATE MACRO to_18(x) AS CAST(x AS DECIMAL(38, 18));

-- a = a9 + a', b = b9 + b': a9 b9 has 18 decimals, what the other three products have beyond them is tiny, and is rounded
-- at last (kept above zero, so that half goes up).
CREATE MACRO product_of_magnitudes(a, b) AS
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

CREATE MACRO monitoring.product_of(a, b) AS sign(a) * sign(b) * product_of_magnitudes(
    CASE WHEN abs(CAST(a AS DOUBLE) * CAST(b AS DOUBLE)) < 1e18 THEN abs(a) END, abs(b)
);

CREATE MACRO units(x) AS CAST(replace(CAST(CAST(x AS DECIMAL(38, 18)) AS VARCHAR), '.', '') AS HUGEINT);

-- Division by hand: the whole part, then 5, 5, 5 and 3 decimals, each from the remainder before; the last one rounds.
CREATE MACRO long_division(a, b) AS
    CAST(a // b AS DECIMAL(38, 0)) * CAST(1 AS DECIMAL(1, 0))
    + CAST(
        a % b * 100000 // b * 10000000000000
        + a % b * 100000 % b * 100000 // b * 100000000
        + a % b * 100000 % b * 100000 % b * 100000 // b * 1000
        + a % b * 100000 % b * 100000 % b * 100000 % b * 1000 // b
        + CASE WHEN a % b * 100000 % b * 100000 % b * 100000 % b * 1000 % b * 2 >= b THEN 1 ELSE 0 END
        AS DECIMAL(38, 0)
    ) * CAST(0.000000000000000001 AS DECIMAL(18, 18));

CREATE MACRO monitoring.ratio_of(a, b) AS sign(a) * sign(b) * long_division(
    CASE WHEN b <> 0 AND abs(CAST(a AS DOUBLE) / CAST(b AS DOUBLE)) < 1e18 THEN units(abs(a)) END,
    CASE WHEN b <> 0 AND abs(b) < 1000000000000000 THEN units(abs(b)) END
);

CREATE MACRO monitoring.quote_of(symbol) AS nullif(CASE
    WHEN symbol LIKE '%/%:%' THEN upper(split_part(split_part(symbol, ':', 2), '-', 1))
    WHEN symbol LIKE '%/%' THEN upper(split_part(symbol, '/', 2))
    ELSE regexp_extract(
        upper(symbol),
        '^[A-Z0-9]+?[-_]?(USDT|USDC|FDUSD|BUSD|TUSD|USDE|DAI|USD|EUR|GBP|TRY|BRL|JPY|AUD|BTC|ETH|BNB|SOL)([-_].*)?$',
        1
    )
END, '');

-- name: seconds
-- Seconds between two times, to the microsecond.
CAST((epoch_us({to}) - epoch_us({from})) AS DECIMAL(38, 6)) * CAST(0.000001 AS DECIMAL(6, 6))

-- name: recorded
-- The fills of the log; here, so that its lines are read once.
SELECT
    stream, seq, executed_at, exchange, symbol, position_id, signal_id, side, order_type, order_id, trade_id, reason, estimated,
    executed_qty, price, average_price, contract_size, fee, fee_currency, fees
FROM trades

-- name: trade_rows
-- Numbers as amounts.
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

-- name: listed_fees
-- The fees of fills that have a list of them.
SELECT stream, seq, currency, cost
FROM (
    SELECT
        stream, seq,
        upper(coalesce(nullif(one ->> 'currency', ''), CASE WHEN json_array_length(fees) = 1 THEN fee_currency END)) AS currency,
        monitoring.amount_of(exact_number(CASE json_type(one) WHEN 'OBJECT' THEN one ->> 'cost' ELSE one ->> '$' END)) AS cost
    FROM (SELECT stream, seq, fee_currency, fees, unnest(json_extract(fees, '$[*]')) AS one FROM recorded WHERE fees IS NOT NULL)
)
WHERE cost IS NOT NULL
