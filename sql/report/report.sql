-- name: curve_in_question
-- The equity curve of the round trips in question, for the statements below.
SELECT closed_at, stream, seq, lane, trip, net_pnl, outcome, equity, drawdown FROM equity

-- name: curve
-- The equity curve as a page can show it, on both engines: of each of {bins} stretches of time the first, last, lowest and
-- highest point, and the deepest drawdown, so that no extreme is left out. Up to {whole} points it is whole.
SELECT closed_ms, equity, drawdown, points
FROM (
    SELECT
        *,
        row_number() OVER (PARTITION BY bin ORDER BY place) AS from_first,
        row_number() OVER (PARTITION BY bin ORDER BY place DESC) AS from_last,
        row_number() OVER (PARTITION BY bin ORDER BY equity, place) AS from_lowest,
        row_number() OVER (PARTITION BY bin ORDER BY equity DESC, place) AS from_highest,
        row_number() OVER (PARTITION BY bin ORDER BY drawdown DESC, place) AS from_deepest
    FROM (
        SELECT
            *,
            CASE
                WHEN points <= {whole} THEN place
                ELSE (position_ms - position_ms % span_ms) / span_ms
            END AS bin
        FROM (
            SELECT
                closed_ms, equity, drawdown, place,
                count(*) OVER () AS points,
                (closed_ms - min(closed_ms) OVER ()) * {bins} AS position_ms,
                max(closed_ms) OVER () - min(closed_ms) OVER () + 1 AS span_ms
            FROM (
                SELECT
                    {closed_ms} AS closed_ms, equity, drawdown,
                    row_number() OVER (ORDER BY closed_at, stream, seq, lane, trip) AS place
                FROM curve_in_question
            ) AS timed
        ) AS spanned
    ) AS binned
) AS ranked
WHERE from_first = 1 OR from_last = 1 OR from_lowest = 1 OR from_highest = 1 OR from_deepest = 1
ORDER BY place

-- name: spread
-- Where the middle 98 of 100 net profits lie; the rest goes into the bars at the ends.
SELECT
    min(CASE WHEN place * 100 >= points THEN net_pnl END) AS low,
    min(CASE WHEN place * 100 >= points * 99 THEN net_pnl END) AS high
FROM (
    SELECT net_pnl, row_number() OVER (ORDER BY net_pnl) AS place, count(*) OVER () AS points
    FROM curve_in_question
    WHERE outcome <> 0
) AS ranked

-- name: distribution
-- How many wins and losses there are in each bar; bar n goes from n to n + 1 times {step}, so that none holds both.
SELECT bar, count(*) AS trips
FROM (
    SELECT
        CASE
            WHEN net_pnl < CAST({low} AS numeric(38, 18)) THEN {first_bar}
            WHEN net_pnl >= CAST({high} AS numeric(38, 18)) THEN {last_bar}
            ELSE CAST(floor(monitoring.ratio_of(net_pnl, CAST({step} AS numeric(38, 18)))) AS bigint)
        END AS bar
    FROM curve_in_question
    WHERE outcome <> 0
) AS barred
GROUP BY bar
ORDER BY bar

-- name: parts_in_question
-- The parts of fills that count in the period, by the time at which they do in the figures.
SELECT *
FROM (
    SELECT p.*, coalesce(t.closed_at, p.executed_at) AS counted_at
    FROM portions AS p
    LEFT JOIN round_trips AS t ON t.lane = p.lane AND t.trip = p.trip
) AS timed
WHERE {chosen}

-- name: fee_coverage
-- Of how many fills a fee is known in each currency.
SELECT currency, count(DISTINCT n) AS fills
FROM (
    SELECT n, coalesce(only_currency, 'unknown') AS currency FROM parts_in_question WHERE only_fee IS NOT NULL
    UNION ALL
    SELECT p.n, coalesce(l.currency, 'unknown') AS currency
    FROM parts_in_question AS p
    JOIN listed_fees AS l ON l.stream = p.stream AND l.seq = p.seq
) AS each_fee
GROUP BY currency
ORDER BY currency

-- name: estimated_fills
-- Fills that the bot did not see itself.
SELECT count(DISTINCT n) AS fills FROM parts_in_question WHERE estimated

-- name: live_stops
-- Stop orders that are not final: of a position, or where it has none of a symbol.
SELECT
    position_id, exchange, symbol,
    count(*) AS stops,
    sum(coalesce(size, 0) - coalesce(filled, 0)) AS size,
    min(price) AS low_price,
    max(price) AS high_price
FROM order_rows
WHERE is_stop AND NOT is_final
GROUP BY position_id, exchange, symbol

-- name: holdings
-- What is open, lane by lane.
SELECT
    lane, min(exchange) AS exchange, min(symbol) AS symbol, min(position_id) AS position_id, min(side) AS side,
    min(quote) AS quote,
    sum(part) AS quantity,
    monitoring.ratio_of(sum(part_value), sum(part)) AS entry_price,
    sum(part_value) AS entry_value,
    {opened_ms} AS opened_ms,
    coalesce(bool_or(estimated), false) AS estimated
FROM parts_in_question
WHERE trip IS NULL
GROUP BY lane

-- name: open_positions
-- Those with the stops that protect them, the unprotected and the newest first; {most} of them, and how many there are.
SELECT
    exchange, symbol, position_id, side, quote, quantity, entry_price, entry_value, opened_ms, estimated,
    coalesce(stops, 0) AS stops, stop_size, low_price, high_price,
    count(*) OVER () AS positions,
    count(CASE WHEN stops IS NULL THEN 1 END) OVER () AS without_stop
FROM (
    SELECT h.*, s.stops, s.size AS stop_size, s.low_price, s.high_price
    FROM holdings AS h
    LEFT JOIN live_stops AS s
        ON s.exchange = h.exchange AND s.symbol = h.symbol
        AND coalesce(s.position_id, '') = coalesce(h.position_id, '')
) AS protected
ORDER BY CASE WHEN stops IS NULL THEN 0 ELSE 1 END, opened_ms DESC, exchange, symbol, position_id
LIMIT {most}

-- name: entered
-- Positions that were entered in the period, and whether any order of theirs was ever a stop.
SELECT p.position_id, p.exchange, p.symbol, p.entered_ms, s.position_id IS NOT NULL AS had_stop
FROM (
    SELECT position_id, min(exchange) AS exchange, min(symbol) AS symbol, {entered_ms} AS entered_ms
    FROM parts_in_question
    WHERE entry AND position_id IS NOT NULL
    GROUP BY position_id
) AS p
LEFT JOIN (SELECT DISTINCT position_id FROM order_rows WHERE is_stop AND position_id IS NOT NULL) AS s
    ON s.position_id = p.position_id

-- name: never_protected
-- Those that never had one, the newest first; {most} of them, how many there are, and of how many.
SELECT position_id, exchange, symbol, entered_ms, count(*) OVER () AS without_stop
FROM entered
WHERE NOT had_stop
ORDER BY entered_ms DESC, position_id
LIMIT {most}

-- name: count_entered
-- Of how many.
SELECT count(*) AS positions FROM entered

-- name: orders_in_question
-- The orders that were made in the period.
SELECT * FROM order_rows WHERE {chosen}

-- name: life_times
-- From the making of an order to its final state, by type and state; the most frequent {most} of them.
SELECT type, status, orders, median, nine_of_ten, longest
FROM (
    SELECT
        type, status,
        max(orders) AS orders,
        min(CASE WHEN place * 2 >= orders THEN seconds END) AS median,
        min(CASE WHEN place * 10 >= orders * 9 THEN seconds END) AS nine_of_ten,
        max(seconds) AS longest
    FROM (
        SELECT
            type, status, seconds,
            row_number() OVER (PARTITION BY type, status ORDER BY seconds) AS place,
            count(*) OVER (PARTITION BY type, status) AS orders
        FROM orders_in_question
        WHERE is_final
    ) AS ranked
    GROUP BY type, status
) AS lives
ORDER BY orders DESC, type, status
LIMIT {most}

-- name: order_states
-- How many orders there are, and how many of them are not final yet.
SELECT count(*) AS orders, count(CASE WHEN NOT is_final THEN 1 END) AS open FROM orders_in_question
