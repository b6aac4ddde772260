-- name: setup
-- Macros, beside those of the loader's checks. A number is a DECIMAL(38,18), as in the raw views.
CREATE MACRO exact(t) AS TRY_CAST(number_or_null(t) AS DECIMAL(38, 18));

-- A number for people: without zeros at its end.
CREATE MACRO shown(d) AS rtrim(rtrim(CAST(d AS VARCHAR), '0'), '.');

-- A float holds 15 digits: what agrees in these was the same number once.
CREATE MACRO same_number(a, b, slack) AS
    a = b OR abs(CAST(a AS DOUBLE) - CAST(b AS DOUBLE))
        <= greatest(1e-15 * greatest(abs(CAST(a AS DOUBLE)), abs(CAST(b AS DOUBLE))), slack * (1 + 1e-9));

-- The words of emitter/ccxt.py for a status, also where a bot wrote the exchange's own.
CREATE MACRO known_status(status, filled) AS CASE upper(status)
    WHEN 'OPEN' THEN CASE WHEN filled > 0 THEN 'PARTIALLY_FILLED' ELSE 'NEW' END
    WHEN 'CLOSED' THEN CASE WHEN filled = 0 THEN 'CLOSED' ELSE 'FILLED' END
    WHEN 'CANCELLED' THEN 'CANCELED'
    ELSE upper(status)
END;

-- What a fill without id is known by.
CREATE MACRO content(side, price, size, order_id, happened_at) AS concat_ws(
    '|', lower(side), shown(exact(price)), shown(exact(size)), coalesce(order_id, ''),
    coalesce(epoch_ms(happened_at), 0)
);

-- A sum or an average for people.
CREATE MACRO figure(d) AS shown(CAST(round(d, 12) AS DECIMAL(38, 12)));

-- How many decimals a number has, in the digits that a float holds.
CREATE MACRO places(d) AS decimals(format('{:.15g}', CAST(d AS DOUBLE)));

CREATE MACRO key_of(kind, id, content, copy) AS
    coalesce(id, CASE kind WHEN 'trade' THEN content || '#' || CAST(copy AS VARCHAR) END);

-- How far apart two numbers may lie, by places of a tick and of a column.
CREATE MACRO allowed(places, tolerance, scale) AS greatest(
    coalesce(CASE WHEN tolerance > 0 THEN tolerance * pow(10, -places) END, 0), coalesce(0.5 * pow(10, -scale), 0)
);

-- Fees as a text that does not depend on their order; NULL where none are said.
CREATE MACRO listed_fees(fees) AS list_aggregate(
    list_sort(list_transform(
        TRY_CAST(fees AS JSON[]),
        lambda one: coalesce(shown(exact(one ->> 'cost')), '?') || ' ' || coalesce(one ->> 'currency', '?')
    )),
    'string_agg', ', '
);

CREATE MACRO all_fees(fees, fee, currency) AS coalesce(fees, shown(fee) || ' ' || coalesce(currency, '?'));

-- name: said
-- What the exchange says, each order and fill once: of an order said several times its final state, else its newest.
-- key identifies it.
CREATE TABLE said AS
SELECT
    n, file, line, kind, exchange, symbol, id, order_id, client_order_id, lower(side) AS side, upper(type) AS type,
    exact(price) AS price, exact(size) AS size, exact(filled) AS filled, exact(remaining) AS remaining,
    known_status(status, exact(filled)) AS status, exact(fee) AS fee, fee_currency, listed_fees(fees) AS fees,
    happened_at, key_of(kind, id, content, copy) AS key, id IS NOT NULL AS has_id
FROM (
    SELECT *, row_number() OVER (PARTITION BY kind, exchange, symbol, id, content ORDER BY n) AS copy
    FROM (SELECT *, content(side, price, size, order_id, happened_at) AS content FROM said_rows)
    WHERE
        happened_at IS NULL
        OR (($since IS NULL OR happened_at >= $since) AND ($until IS NULL OR happened_at < $until))
)
QUALIFY
    id IS NULL
    OR row_number() OVER (
        PARTITION BY kind, exchange, symbol, id
        ORDER BY
            coalesce(kind = 'order' AND status IN ('FILLED', 'CANCELED', 'REJECTED', 'EXPIRED'), false) DESC,
            CASE kind WHEN 'order' THEN changed_at END DESC NULLS LAST,
            CASE kind WHEN 'order' THEN -n ELSE n END
    ) = 1;

-- name: trail
-- What the trail has, under the files' names of markets.
CREATE TABLE trail AS
SELECT
    n, stream, seq, kind, exchange, symbol, own_exchange, own_symbol, id, order_id, client_order_id, lower(side) AS side,
    upper(type) AS type, exact(price) AS price, exact(size) AS size, exact(filled) AS filled,
    exact(remaining) AS remaining, known_status(status, exact(filled)) AS status, exact(fee) AS fee, fee_currency,
    listed_fees(fees) AS fees, happened_at, key_of(kind, id, content, copy) AS key, id IS NOT NULL AS has_id
FROM (
    SELECT *, row_number() OVER (PARTITION BY kind, exchange, symbol, id, content ORDER BY stream, seq) AS copy
    FROM (
        SELECT
            r.* EXCLUDE (exchange, symbol), r.exchange AS own_exchange, r.symbol AS own_symbol, names.exchange,
            names.said_symbol AS symbol,
            content(side, price, size, order_id, happened_at) AS content
        FROM trail_rows AS r
        JOIN names ON names.exchange = lower(r.exchange) AND names.symbol = r.symbol
    )
);

-- name: paired
-- Which of them are the same: by id; where one side has none, orders by client_order_id.
CREATE TABLE paired AS
WITH by_id AS (
    SELECT said.n AS said, trail.n AS trail
    FROM said
    JOIN trail USING (kind, exchange, symbol, key, has_id)
), left_said AS (
    SELECT *, row_number() OVER (PARTITION BY exchange, symbol, client_order_id ORDER BY n) AS copy
    FROM said ANTI JOIN by_id ON by_id.said = said.n
    WHERE kind = 'order' AND client_order_id IS NOT NULL
), left_trail AS (
    SELECT *, row_number() OVER (PARTITION BY exchange, symbol, client_order_id ORDER BY stream, seq) AS copy
    FROM trail ANTI JOIN by_id ON by_id.trail = trail.n
    WHERE kind = 'order' AND client_order_id IS NOT NULL
)
SELECT * FROM by_id
UNION ALL
SELECT s.n, t.n
FROM left_said AS s
JOIN left_trail AS t USING (exchange, symbol, client_order_id, copy)
WHERE s.id IS NULL OR t.id IS NULL;

-- name: gathered
-- Orders whose fills the trail has without ids: together they stand for the fills that the exchange lists.
CREATE TABLE gathered AS
WITH fills AS (
    SELECT
        exchange, symbol, order_id, count(*) AS fills, sum(CAST(size AS DOUBLE)) AS size,
        sum(CAST(size AS DOUBLE) * CAST(price AS DOUBLE)) AS value, min(n) AS said
    FROM said
    WHERE kind = 'trade' AND order_id IS NOT NULL AND n NOT IN (SELECT said FROM paired)
    GROUP BY ALL
), summaries AS (
    SELECT
        exchange, symbol, order_id, sum(CAST(size AS DOUBLE)) AS size,
        sum(CAST(size AS DOUBLE) * CAST(price AS DOUBLE)) AS value, min(n) AS trail
    FROM trail
    WHERE kind = 'trade' AND order_id IS NOT NULL
    GROUP BY ALL
    HAVING NOT bool_or(has_id)
)
SELECT fills.*, summaries.trail, summaries.size AS trail_size, summaries.value AS trail_value
FROM fills
JOIN summaries USING (exchange, symbol, order_id);

-- name: slack
-- How far apart numbers may lie: $tolerance ticks, a tick being the last decimal place that the files use for such a
-- number of that symbol; and what a column that keeps fewer decimals has rounded away.
CREATE TABLE slack AS
SELECT
    places.kind, exchange, symbol, pow(10, -places.price) AS price_tick,
    allowed(places.price, $tolerance, scales.price) AS price, allowed(places.size, $tolerance, scales.size) AS size,
    allowed(places.size, $tolerance, scales.filled) AS filled,
    allowed(places.size, $tolerance, scales.remaining) AS remaining,
    allowed(places.fee, $tolerance, scales.fee) AS fee
FROM (
    SELECT
        kind, exchange, symbol, max(places(price)) AS price, max(places(fee)) AS fee,
        greatest(max(places(size)), max(places(filled)), max(places(remaining))) AS size
    FROM said
    GROUP BY ALL
) AS places
LEFT JOIN scales ON scales.kind = places.kind;

-- name: pairs
-- Both sides of each pair in one row: s says, t has.
CREATE TABLE pairs AS
SELECT s, t, slack
FROM paired
JOIN said AS s ON s.n = paired.said
JOIN trail AS t ON t.n = paired.trail
JOIN slack ON slack.kind = s.kind AND slack.exchange = s.exchange AND slack.symbol = s.symbol;

-- name: differences
-- Fields that both sides say, and differently. Of fills without ids it is their sum, and their average price, which
-- was rounded somewhere.
CREATE TABLE differences AS
SELECT s.n AS said, t.n AS trail, 'side' AS field, s.side AS says, t.side AS has FROM pairs WHERE s.side <> t.side
UNION ALL
SELECT s.n, t.n, 'type', s.type, t.type FROM pairs WHERE replace(s.type, '-', '_') <> replace(t.type, '-', '_')
UNION ALL
SELECT s.n, t.n, 'status', s.status, t.status FROM pairs WHERE s.status <> t.status
UNION ALL
SELECT s.n, t.n, 'order_id', s.order_id, t.order_id FROM pairs WHERE s.order_id <> t.order_id
UNION ALL
SELECT s.n, t.n, 'client_order_id', s.client_order_id, t.client_order_id FROM pairs
WHERE s.client_order_id <> t.client_order_id
UNION ALL
SELECT s.n, t.n, 'price', shown(s.price), shown(t.price) FROM pairs
WHERE
    NOT same_number(s.price, t.price, slack.price)
    AND (s.kind = 'trade' OR (s.price <> 0 AND t.price <> 0))  -- by 0 some say that an order has no price
UNION ALL
SELECT s.n, t.n, CASE s.kind WHEN 'trade' THEN 'executed_qty' ELSE 'size' END, shown(s.size), shown(t.size) FROM pairs
WHERE NOT same_number(s.size, t.size, slack.size)
UNION ALL
SELECT s.n, t.n, 'filled', shown(s.filled), shown(t.filled) FROM pairs
WHERE NOT same_number(s.filled, t.filled, slack.filled)
UNION ALL
SELECT s.n, t.n, 'remaining', shown(s.remaining), shown(t.remaining) FROM pairs
WHERE NOT same_number(s.remaining, t.remaining, slack.remaining)
UNION ALL
SELECT s.n, t.n, 'fee', shown(s.fee), shown(t.fee) FROM pairs WHERE NOT same_number(s.fee, t.fee, slack.fee)
UNION ALL
SELECT s.n, t.n, 'fee_currency', s.fee_currency, t.fee_currency FROM pairs
WHERE s.fee IS NOT NULL AND t.fee IS NOT NULL AND s.fee_currency <> t.fee_currency
UNION ALL
SELECT s.n, t.n, 'fees', all_fees(s.fees, s.fee, s.fee_currency), all_fees(t.fees, t.fee, t.fee_currency) FROM pairs
WHERE
    (s.fee IS NULL OR t.fee IS NULL)
    AND all_fees(s.fees, s.fee, s.fee_currency) <> all_fees(t.fees, t.fee, t.fee_currency)
UNION ALL
SELECT said, trail, 'executed_qty', figure(g.size), figure(trail_size) FROM gathered AS g
JOIN slack ON slack.kind = 'trade' AND slack.exchange = g.exchange AND slack.symbol = g.symbol
WHERE NOT same_number(g.size, trail_size, greatest(slack.size, 1e-12 * g.size))
UNION ALL
SELECT said, trail, 'average_price', figure(g.value / g.size), figure(trail_value / trail_size) FROM gathered AS g
JOIN slack ON slack.kind = 'trade' AND slack.exchange = g.exchange AND slack.symbol = g.symbol
WHERE NOT same_number(g.value / g.size, trail_value / trail_size, greatest(slack.price, price_tick));

-- name: not_said
-- How often the trail does not say what the exchange does, by kind and field: no difference, but worth knowing.
SELECT kind, field, count(*) AS times
FROM (
    SELECT
        s.kind AS kind,
        unnest(list_filter([
            CASE WHEN s.side IS NOT NULL AND t.side IS NULL THEN 'side' END,
            CASE WHEN s.status IS NOT NULL AND t.status IS NULL THEN 'status' END,
            CASE WHEN s.order_id IS NOT NULL AND t.order_id IS NULL THEN 'order_id' END,
            CASE WHEN s.price IS NOT NULL AND t.price IS NULL THEN 'price' END,
            CASE WHEN s.size IS NOT NULL AND t.size IS NULL THEN 'size' END,
            CASE WHEN s.filled IS NOT NULL AND t.filled IS NULL THEN 'filled' END,
            CASE WHEN (s.fee IS NOT NULL OR s.fees IS NOT NULL) AND t.fee IS NULL AND t.fees IS NULL THEN 'fee' END
        ], lambda name: name IS NOT NULL)) AS field
    FROM pairs
)
GROUP BY ALL
ORDER BY ALL;

-- name: spans
-- What the files cover: by kind, exchange and symbol from their first to their last entry, or as far as was asked.
CREATE TABLE spans AS
SELECT
    kind, exchange, symbol, coalesce($since, min(happened_at)) AS first_at,
    coalesce($until, max(happened_at)) AS last_at, count(*) AS entries
FROM said_rows
GROUP BY ALL;

-- name: missing
-- Said by the exchange, and not in the trail.
CREATE TABLE missing AS
SELECT *
FROM said
WHERE
    n NOT IN (SELECT said FROM paired)
    AND (kind = 'order' OR NOT EXISTS (
        SELECT 1 FROM gathered AS g
        WHERE g.exchange = said.exchange AND g.symbol = said.symbol AND g.order_id = said.order_id
    ));

-- name: unknown
-- In the trail, within what the files cover, and not in them. Fills without ids do not count where the order has fills
-- with ids, as in metrics.
CREATE TABLE unknown AS
WITH identified AS (
    SELECT DISTINCT exchange, symbol, order_id FROM trail WHERE kind = 'trade' AND has_id AND order_id IS NOT NULL
    UNION
    SELECT exchange, symbol, order_id FROM gathered
)
SELECT trail.*
FROM trail
JOIN spans USING (kind, exchange, symbol)
WHERE
    trail.n NOT IN (SELECT trail FROM paired)
    AND happened_at >= first_at AND (happened_at < last_at OR ($until IS NULL AND happened_at = last_at))
    AND (kind = 'order' OR has_id OR NOT EXISTS (
        SELECT 1 FROM identified AS i
        WHERE i.exchange = trail.exchange AND i.symbol = trail.symbol AND i.order_id = trail.order_id
    ));

-- name: counts
-- Findings by kind, and how many of the exchange's entries the trail has as they are.
SELECT
    (SELECT count(*) FROM missing) AS missing,
    (SELECT count(*) FROM unknown) AS unknown,
    (SELECT count(DISTINCT said) FROM differences) AS different,
    (SELECT count(*) FROM said) - (SELECT count(*) FROM missing) - (
        SELECT coalesce(sum(coalesce(g.fills, 1)), 0)
        FROM (SELECT DISTINCT said FROM differences) AS d
        LEFT JOIN gathered AS g USING (said)
    ) AS equal;

-- name: list_missing
-- The missing, in the order of the files.
SELECT
    kind, exchange, symbol, id, order_id, client_order_id, side, type, status, shown(price) AS price,
    shown(size) AS size, strftime(happened_at, '%Y-%m-%dT%H:%M:%S.%fZ') AS happened_at, file, line
FROM missing
ORDER BY n
LIMIT $most;

-- name: list_unknown
-- The unknown, as the trail has them.
SELECT
    kind, own_exchange AS exchange, own_symbol AS symbol, id, order_id, client_order_id, side, type, status, shown(price) AS price,
    shown(size) AS size, strftime(happened_at, '%Y-%m-%dT%H:%M:%S.%fZ') AS happened_at, stream, seq
FROM unknown
ORDER BY happened_at, stream, seq
LIMIT $most;

-- name: list_different
-- The different, each with its fields as [name, what the exchange says, what the trail has].
SELECT
    s.kind, s.exchange, s.symbol, CASE WHEN g.said IS NULL THEN coalesce(s.id, t.id) END AS id, s.order_id,
    s.client_order_id, s.file, s.line, t.stream, t.seq, d.fields
FROM (
    SELECT said, trail, list([field, says, has]) AS fields FROM differences GROUP BY ALL
) AS d
JOIN said AS s ON s.n = d.said
JOIN trail AS t ON t.n = d.trail
LEFT JOIN gathered AS g ON g.said = d.said
ORDER BY d.said
LIMIT $most;

-- name: list_spans
-- What the files cover.
SELECT
    kind, exchange, symbol, strftime(first_at, '%Y-%m-%dT%H:%M:%S.%fZ') AS first_at,
    strftime(last_at, '%Y-%m-%dT%H:%M:%S.%fZ') AS last_at, entries
FROM spans
ORDER BY ALL;

-- name: own_names
-- What the trail calls a market, where it has one name for it: what is written joins what is there.
SELECT exchange, symbol, min(own_exchange), min(own_symbol)
FROM trail
GROUP BY ALL
HAVING count(DISTINCT (own_exchange, own_symbol)) = 1;

-- name: to_emit
-- Of the missing: which the log does not name yet and could be taken, and how many are left out for each reason.
WITH logged AS (
    SELECT
        kind, lower(r.exchange) AS exchange, said_symbol AS symbol, id, client_order_id,
        content(side, price, size, order_id, TRY_CAST(happened_at AS TIMESTAMPTZ)) AS content
    FROM logged_rows AS r
    JOIN names ON names.exchange = lower(r.exchange) AND names.symbol = r.symbol
), keys AS (
    SELECT DISTINCT kind, exchange, symbol, coalesce(key_of(kind, id, content, copy), client_order_id) AS known
    FROM (SELECT *, row_number() OVER (PARTITION BY kind, exchange, symbol, id, content) AS copy FROM logged)
)
SELECT
    m.n,
    CASE
        WHEN keys.known IS NOT NULL THEN 'in the log'
        WHEN m.side IS NULL OR (m.kind = 'order' AND (m.type IS NULL OR m.status IS NULL))
            OR (m.kind = 'trade' AND (m.price IS NULL OR m.size IS NULL)) THEN 'incomplete'
        ELSE 'emit'
    END AS what
FROM missing AS m
LEFT JOIN keys
    ON keys.kind = m.kind AND keys.exchange = m.exchange AND keys.symbol = m.symbol
    AND keys.known = coalesce(m.key, m.client_order_id)
ORDER BY m.n;
