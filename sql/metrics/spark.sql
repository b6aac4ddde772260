-- name: product_of
-- What sql/metrics asks of its engine, for Spark over the Parquet data set of the archive. Numbers are DECIMAL(38, 18); with
-- spark.sql.decimalOperations.allowPrecisionLoss off and ANSI on, Spark keeps all decimals, and what does not fit is an
-- error. Its own product and quotient of two such fit next to nothing, so they are put together from parts, as in
-- duckdb.sql. transform(array(x), name -> ...)[0] gives x a name: functions would be inlined, and x worked out for each
-- mention. Here: {a} * {b}, rounded half away from zero to 18 decimals; NULL from 10^18 on.
-- a = a9 + a_, b = b9 + b_: a9 b9 has 18 decimals, what the other three products have beyond them is tiny, and is rounded
-- at last (kept above zero, so that half goes up). Most numbers have no more than 9 decimals, and need none of it.
transform(array(struct(CAST({a} AS DECIMAL(38, 18)) AS a, CAST({b} AS DECIMAL(38, 18)) AS b)), g ->
    CASE
    WHEN abs(CAST(g.a AS DOUBLE) * CAST(g.b AS DOUBLE)) >= 1e18 THEN NULL
    WHEN CAST(g.a AS DECIMAL(29, 9)) = g.a AND CAST(g.b AS DECIMAL(29, 9)) = g.b
    THEN CAST(g.a AS DECIMAL(29, 9)) * CAST(g.b AS DECIMAL(29, 9))
    ELSE transform(array(struct(
        CAST(abs(g.a) AS DECIMAL(29, 9)) AS a9,
        CAST(abs(g.a) - CAST(abs(g.a) AS DECIMAL(29, 9)) AS DECIMAL(18, 18)) AS a_,
        CAST(abs(g.b) AS DECIMAL(29, 9)) AS b9,
        CAST(abs(g.b) - CAST(abs(g.b) AS DECIMAL(29, 9)) AS DECIMAL(18, 18)) AS b_
    )), p -> transform(array(struct(
        CAST(p.a9 * p.b9 AS DECIMAL(38, 18)) AS main, p.a9 * p.b_ AS one, p.a_ * p.b9 AS other, p.a_ * p.b_ AS least
    )), q -> CAST(CASE WHEN (g.a < 0) <> (g.b < 0) THEN -1 ELSE 1 END AS DECIMAL(1, 0)) * CAST(
        q.main + CAST(q.one AS DECIMAL(38, 18)) + CAST(q.other AS DECIMAL(38, 18))
        + CAST(
            CAST(q.one - CAST(q.one AS DECIMAL(38, 18)) AS DECIMAL(38, 36))
            + CAST(q.other - CAST(q.other AS DECIMAL(38, 18)) AS DECIMAL(38, 36))
            + CAST(q.least AS DECIMAL(38, 36))
            + CAST('0.000000000000000005' AS DECIMAL(38, 36))
            AS DECIMAL(38, 18)
        )
        - CAST('0.000000000000000005' AS DECIMAL(38, 18)) AS DECIMAL(38, 18)
    ))[0])[0] END
)[0]

-- name: ratio_of
-- {a} / {b}, rounded half away from zero to 18 decimals; NULL where b is 0. By hand, in units of the eighteenth decimal: the
-- whole part, then 5, 5, 5 and 3 decimals, each from the remainder before; the last one rounds.
transform(array(struct(CAST({a} AS DECIMAL(38, 18)) AS a, CAST({b} AS DECIMAL(38, 18)) AS b)), g ->
    CASE WHEN g.b <> 0 AND abs(g.b) < 1000000000000000 AND abs(CAST(g.a AS DOUBLE) / CAST(g.b AS DOUBLE)) < 1e18
    THEN transform(array(struct(
        CAST(replace(CAST(abs(g.a) AS STRING), '.', '') AS DECIMAL(38, 0)) AS a,
        CAST(replace(CAST(abs(g.b) AS STRING), '.', '') AS DECIMAL(38, 0)) AS b
    )), p -> transform(array(p.a % p.b * 100000), r1 -> transform(array(r1 % p.b * 100000), r2 ->
        transform(array(r2 % p.b * 100000), r3 -> transform(array(r3 % p.b * 1000), r4 ->
            CAST(CASE WHEN (g.a < 0) <> (g.b < 0) THEN -1 ELSE 1 END AS DECIMAL(1, 0)) * CAST(
                CAST(p.a DIV p.b AS DECIMAL(38, 18)) + CAST(
                    (r1 DIV p.b) * 10000000000000 + (r2 DIV p.b) * 100000000 + (r3 DIV p.b) * 1000 + (r4 DIV p.b)
                    + CASE WHEN r4 % p.b * 2 >= p.b THEN 1 ELSE 0 END
                    AS DECIMAL(19, 0)
                ) * CAST('0.000000000000000001' AS DECIMAL(18, 18)) AS DECIMAL(38, 18)
            ))[0])[0])[0])[0])[0] END
)[0]

-- name: quote_of
-- The currency that a symbol's profit is in; NULL where its name does not say.
transform(array({symbol}), symbol -> nullif(CASE
    WHEN symbol LIKE '%/%:%' THEN upper(split_part(split_part(symbol, ':', 2), '-', 1))
    WHEN symbol LIKE '%/%' THEN upper(split_part(symbol, '/', 2))
    ELSE regexp_extract(
        upper(symbol),
        '^[A-Z0-9]+?[-_]?(USDT|USDC|FDUSD|BUSD|TUSD|USDE|DAI|USD|EUR|GBP|TRY|BRL|JPY|AUD|BTC|ETH|BNB|SOL)([-_].*)?$',
        1
    )
END, ''))[0]

-- name: seconds
-- Seconds between two times, to the microsecond.
CAST(unix_micros({to}) - unix_micros({from}) AS DECIMAL(38, 6)) * CAST('0.000001' AS DECIMAL(6, 6))

-- name: trade_rows
-- The fills of the data set, each that is reported again once.
SELECT
    stream, seq, executed_at, exchange, symbol, position_id, CAST(signal_id AS STRING) AS signal_id, side, order_type,
    order_id, trade_id, reason, estimated,
    CASE WHEN abs(executed_qty) < 1000000000000000 THEN executed_qty END AS executed_qty,
    CASE WHEN abs(price) < 1000000000000000 THEN price END AS price,
    CASE WHEN abs(average_price) < 1000000000000000 THEN average_price END AS average_price,
    CASE WHEN abs(contract_size) < 1000000000000000 THEN contract_size END AS contract_size,
    CASE WHEN fees IS NULL AND abs(fee) < 1000000000000000 THEN fee END AS only_fee,
    CASE WHEN fees IS NULL THEN upper(fee_currency) END AS only_currency
FROM (
    SELECT
        *,
        row_number() OVER (
            PARTITION BY
                exchange, symbol, trade_id, CASE WHEN trade_id IS NULL THEN stream END, CASE WHEN trade_id IS NULL THEN seq END
            ORDER BY stream, seq
        ) AS report
    FROM archived_trades
) AS reported
WHERE report = 1

-- name: listed_fees
-- The fees of fills that have a list of them.
SELECT stream, seq, currency, cost
FROM (
    SELECT
        stream, seq,
        upper(coalesce(
            CASE WHEN one LIKE '{%' THEN nullif(get_json_object(one, '$.currency'), '') END,
            CASE WHEN json_array_length(fees) = 1 THEN fee_currency END
        )) AS currency,
        try_cast(CASE
            WHEN said RLIKE '^[+-]?([0-9]+([.][0-9]*)?|[.][0-9]+)([eE][+-]?[0-9][0-9]?[0-9]?)?$' THEN said
        END AS DECIMAL(38, 18)) AS cost
    FROM (
        SELECT *, CASE WHEN one LIKE '{%' THEN get_json_object(one, '$.cost') ELSE one END AS said
        FROM (
            SELECT stream, seq, fee_currency, fees, explode(from_json(fees, 'array<string>')) AS one
            FROM archived_trades
            WHERE fees IS NOT NULL
        ) AS each_text
    ) AS each_fee
) AS each_cost
WHERE abs(cost) < 1000000000000000

-- name: fills
-- Those that count, in order. A number over all fills would be one sort on one machine; what orders the fills of a lane,
-- and tells all of them apart, does as well.
SELECT
    struct(executed_at, stream, seq) AS n,
    struct(exchange, symbol, position_id IS NULL AS of_no_position, coalesce(position_id, '') AS position_id) AS lane,
    *
FROM countable
WHERE counts
