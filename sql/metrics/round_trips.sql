-- name: judged
-- Round trips from fills, by FIFO: the steps below run unchanged on DuckDB and on PostgreSQL, each reading the ones before
-- by name (docs/metrics.md says what they mean). Here: fills in base units at the price they were executed at. A fill
-- without trade_id is left out where its order has fills with one: it says the same again, added up.
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

-- name: valued
-- With what they were worth; a step of its own, as all arithmetic here, so that it is done once.
SELECT *, monitoring.product_of(price, quantity) AS value FROM judged

-- name: countable
-- And whether they count.
SELECT
    *,
    coalesce(
        side IN ('buy', 'sell') AND quantity > 0 AND abs(value) < 1000000000000000
        AND NOT (symbol LIKE '%/%:%' AND upper(split_part(symbol, '/', 1)) = quote),
        false
    ) AS counts
FROM valued

-- name: fills
-- Those that count, in order. A lane is what FIFO runs in: the fills of a position, else of a symbol. What settles in its
-- own base currency is inverse: its profit is not quantity times price. (The condition is a column of a step of its own
-- because PostgreSQL would guess that next to no row meets it, and join the steps below in loops.)
SELECT
    row_number() OVER (ORDER BY exchange, symbol, position_id, executed_at, stream, seq) AS n,
    dense_rank() OVER (ORDER BY exchange, symbol, position_id) AS lane,
    *
FROM countable
WHERE counts

-- name: paid
-- What fills with a list of fees paid in the currency of the profit.
SELECT f.n, sum(CASE WHEN l.currency = f.quote THEN l.cost ELSE 0 END) AS fee
FROM fills AS f
JOIN listed_fees AS l ON l.stream = f.stream AND l.seq = f.seq
GROUP BY f.n

-- name: walked
-- Each fill first closes what is open on the other side, then opens.
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

-- name: numbered
-- On the axis of all that was ever opened (or closed) in a lane, a fill opens (closes) the stretch that ends at open_to
-- (close_to). Because no more is ever closed than was opened, FIFO is where stretches overlap. What a fill closes belongs
-- to one trip, which ends where the lane is flat or changes sides; without positions, where an entry follows an exit.
SELECT
    *,
    sum(opens) OVER so_far AS open_to,
    sum(closes) OVER so_far AS close_to,
    count(CASE WHEN opens > 0 AND (position_id IS NULL OR held_before = 0 OR closes > 0) THEN 1 END) OVER so_far
    - CASE WHEN opens > 0 AND closes > 0 THEN 1 ELSE 0 END AS trip
FROM walked
WINDOW so_far AS (PARTITION BY lane ORDER BY n ROWS UNBOUNDED PRECEDING)

-- name: pieces
-- The axis cut at every end of a stretch. A piece was opened by the fill whose stretch ends next, and closed in the trip of
-- the exit whose stretch ends next; both only grow along a lane, so that the next one is the least of those ahead.
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

-- name: cuts
-- Which stretch of each entry was closed in which trip; without trip: what is still open.
SELECT opener, trip, min(piece_from) AS cut_from, max(piece_to) AS cut_to
FROM pieces
WHERE piece_to > piece_from
GROUP BY opener, trip

-- name: parts
-- The parts of fills: of an entry one for each trip, of an exit the one part that closes. part_from and part_to are the
-- quantities of the fill at which the part starts and ends.
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

-- name: shares
-- Of fills that are in several parts: the shares at which a part starts and ends.
SELECT
    *,
    monitoring.ratio_of(part_from, quantity) AS share_from,
    monitoring.ratio_of(part_to, quantity) AS share_to
FROM parts
WHERE NOT whole

-- name: portions
-- Parts with values and fees pro rata by quantity: each from where the one before ended, so that they add up to the whole.
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

-- name: trips
-- What the parts of each trip add up to.
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

-- name: round_trips
-- One row for each round trip. (stream, seq) is the record of its last exit.
SELECT
    exchange, symbol, position_id, signal_id, side, opened_at, closed_at,
    {seconds} AS duration_seconds,
    quantity,
    monitoring.ratio_of(entry_value, quantity) AS entry_price,
    monitoring.ratio_of(exit_value, quantity) AS exit_price,
    CASE side WHEN 'long' THEN exit_value - entry_value ELSE entry_value - exit_value END AS gross_pnl,
    fees,
    CASE side WHEN 'long' THEN exit_value - entry_value ELSE entry_value - exit_value END - fees AS net_pnl,
    quote, exit_reason, estimated, stream, seq, lane, trip
FROM trips
