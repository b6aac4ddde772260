-- What the records of a trail must have in common (DuckDB), over the views of `tradetrail query` and one more, streams
-- (stream, live). Each rule asks for what breaks it: stream, seq, and what is put into its sentence as {value}.
-- "needs: whole trail": where files are archived, what is missing may stand in those, and the rule is left out.
-- In the stream of a bot that runs, what the last minute lacks may still come: settled() leaves it out.

-- rule: trade_without_order
-- severity: warning
-- needs: whole trail
-- says: a fill of an order that the log does not have: {value}
SELECT t.stream, t.seq, t.order_id || ' (' || t.exchange || ' ' || t.symbol || ')' AS value
FROM trades AS t
ANTI JOIN orders AS o USING (exchange, symbol, order_id)
ANTI JOIN (
    SELECT exchange, symbol, order_id FROM order_updates WHERE order_id IS NOT NULL
) AS u USING (exchange, symbol, order_id)
SEMI JOIN settled AS s ON s.stream = t.stream AND t."timestamp" <= s.until
WHERE t.order_id IS NOT NULL

-- rule: order_without_position
-- severity: warning
-- says: an order without position_id: {value}
SELECT o.stream, o.seq, coalesce(o.order_id, 'no order_id') || ' (' || o.exchange || ' ' || o.symbol || ')' AS value
FROM orders AS o
ANTI JOIN late USING (stream, seq)
WHERE o.position_id IS NULL OR lower(o.position_id) IN ('pending', 'unknown', 'none', 'null')

-- rule: position_without_stop
-- severity: warning
-- needs: whole trail
-- says: position {value} was entered, and no order of it is a stop
SELECT min_by(t.stream, t."timestamp") AS stream, min_by(t.seq, t."timestamp") AS seq, t.position_id AS value
FROM trades AS t
ANTI JOIN (
    SELECT position_id FROM orders WHERE contains(upper(type), 'STOP') AND position_id IS NOT NULL
) AS o USING (position_id)
SEMI JOIN settled AS s ON s.stream = t.stream AND t."timestamp" <= s.until
WHERE t.position_id IS NOT NULL
GROUP BY t.position_id

-- rule: fills_differ_from_filled
-- severity: warning
-- needs: whole trail
-- says: the order's fills do not add up to its filled: {value}
SELECT o.stream, o.seq, f.sum || ' in fills, ' || trim_zeros(o.filled) || ' filled' AS value
FROM orders AS o
JOIN (
    SELECT exchange, symbol, order_id, trim_zeros(sum(executed_qty)) AS sum, sum(executed_qty) AS filled, max("timestamp") AS last
    FROM (
        SELECT *, max(trade_id) OVER (PARTITION BY exchange, symbol, order_id) AS named
        FROM trades
        WHERE order_id IS NOT NULL
    )
    -- A fill without trade_id is a report of one that has its own, where there is such.
    WHERE trade_id IS NOT NULL OR named IS NULL
    GROUP BY exchange, symbol, order_id
) AS f USING (exchange, symbol, order_id)
SEMI JOIN settled AS s ON s.stream = o.stream AND f.last <= s.until
WHERE abs(o.filled - f.filled) > greatest(abs(o.filled), abs(f.filled)) * 1e-9

-- rule: filled_without_fill
-- severity: information
-- needs: whole trail
-- says: an order was filled, and the log has no fill of it: {value}
SELECT o.stream, o.seq, coalesce(o.order_id, 'no order_id') || ', ' || trim_zeros(o.filled) || ' filled' AS value
FROM orders AS o
ANTI JOIN trades AS t USING (exchange, symbol, order_id)
SEMI JOIN settled AS s ON s.stream = o.stream AND o."timestamp" <= s.until
WHERE o.filled > 0 AND o.order_id IS NOT NULL

-- rule: filled_is_not_size
-- severity: warning
-- says: {value}
SELECT
    stream, seq,
    CASE WHEN filled > size THEN 'more is filled than the order is for: ' ELSE 'FILLED, and not all of it is filled: ' END
    || trim_zeros(filled) || ' of ' || trim_zeros(size) AS value
FROM orders
WHERE size > 0 AND filled IS NOT NULL AND (filled > size * (1 + 1e-9) OR (upper(status) = 'FILLED' AND filled < size * (1 - 1e-9)))

-- rule: status_step
-- severity: warning
-- says: the order's status went from {value}
SELECT stream, seq, before || ' to ' || status AS value
FROM (
    SELECT
        stream, seq, status, rank,
        lag(status) OVER steps AS before,
        lag(rank) OVER steps AS rank_before,
        lag(final) OVER steps AS final_before,
        final
    FROM (
        SELECT
            *,
            -- How far an order is; a status that says nothing of it (a cancel was asked for, or one that is not known) is left out.
            CASE
                WHEN status IN ('FILLED', 'CANCELED', 'CANCELLED', 'REJECTED', 'EXPIRED', 'EXPIRED_IN_MATCH') THEN 2
                WHEN status = 'PARTIALLY_FILLED' THEN 1
                WHEN status IN (
                    'NEW', 'OPEN', 'PENDING', 'PENDING_NEW', 'CREATED', 'ACCEPTED', 'ACTIVE', 'UNTRIGGERED', 'TRIGGERED'
                ) THEN 0
            END AS rank,
            replace(replace(status, 'CANCELLED', 'CANCELED'), 'EXPIRED_IN_MATCH', 'EXPIRED') AS final
        FROM (
            SELECT stream, seq, "timestamp", exchange, symbol, order_id, upper(status) AS status FROM order_updates
            UNION ALL
            SELECT stream, seq, "timestamp", exchange, symbol, order_id, upper(status) FROM raw.orders_created
        )
        WHERE order_id IS NOT NULL
    )
    WHERE rank IS NOT NULL
    WINDOW steps AS (PARTITION BY exchange, symbol, order_id ORDER BY "timestamp", stream, seq)
)
WHERE rank < rank_before OR (rank = 2 AND rank_before = 2 AND final <> final_before)

-- rule: trade_repeated
-- severity: warning
-- says: two fills have the trade_id {value}, and are not the same
SELECT
    max_by(stream, (stream, seq)) AS stream, max_by(seq, (stream, seq)) AS seq, trade_id || ' (' || exchange || ' ' || symbol || ')' AS value
FROM fills
WHERE trade_id IS NOT NULL
GROUP BY exchange, symbol, trade_id
HAVING count(DISTINCT (price, executed_qty, lower(side), order_id)) > 1

-- rule: trade_said_again
-- severity: information
-- says: a fill was logged again, and makes no second row: {value}
SELECT
    max_by(stream, (stream, seq)) AS stream, max_by(seq, (stream, seq)) AS seq, trade_id || ' (' || exchange || ' ' || symbol || ')' AS value
FROM fills
WHERE trade_id IS NOT NULL
GROUP BY exchange, symbol, trade_id
HAVING count(*) > 1 AND count(DISTINCT (price, executed_qty, lower(side), order_id)) = 1

-- rule: order_said_again
-- severity: information
-- says: an order was logged again, which is part of its state: {value}
SELECT
    max_by(stream, (stream, seq)) AS stream, max_by(seq, (stream, seq)) AS seq, order_id || ' (' || exchange || ' ' || symbol || ')' AS value
FROM raw.orders_created
WHERE order_id IS NOT NULL
GROUP BY exchange, symbol, order_id
HAVING count(*) > 1

-- rule: cost_differs
-- severity: warning
-- says: price and amount do not come to the cost: {value}
SELECT stream, seq, trim_zeros(price) || ' x ' || trim_zeros(executed_qty) || ', cost ' || trim_zeros(cost) AS value
FROM (
    SELECT *, executed_qty::DOUBLE * coalesce(contract_size, 1)::DOUBLE AS amount, abs(cost::DOUBLE) AS said
    FROM fills
    WHERE cost IS NOT NULL AND price > 0
)
-- Exchanges round it; an inverse contract is worth its amount over the price.
WHERE
    abs(abs(price::DOUBLE * amount) - said) > greatest(said * 1e-3, 0.01)
    AND abs(abs(amount / price::DOUBLE) - said) > greatest(said * 1e-3, 1e-8)

-- rule: clock_went_back
-- severity: warning
-- says: the clock went back by {value} s since the record before
SELECT stream, seq, round(seconds, 3)::VARCHAR AS value FROM clock_steps
