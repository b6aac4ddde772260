-- name: lock_streams
-- One loader at a time works on a stream; held to the end of the transaction. $1: streams in the order that all lock in.
SELECT pg_advisory_xact_lock(hashtextextended('tradetrail stream ' || stream, 0)) FROM unnest($1::text[]) AS s (stream);

-- name: lock_orders
-- One loader at a time folds orders: without it, overlapping ones lost updates.
SELECT pg_advisory_xact_lock(hashtextextended('tradetrail orders-merge', 0));

-- name: ledger
-- How far every segment was taken.
SELECT stream, segment, bytes, closed_at IS NOT NULL AS closed, last_seq FROM monitoring.audit_segments;

-- name: ledger_of
-- How far some segments were taken, locked: after a lost COMMIT this waits for the old transaction, and is the answer.
SELECT stream, segment, bytes, closed_at IS NOT NULL AS closed, last_seq
FROM monitoring.audit_segments
WHERE (stream, segment) IN (SELECT * FROM unnest($1::text[], $2::integer[]))
ORDER BY stream, segment
FOR UPDATE;

-- name: ledger_write
-- Move segments' rows on, in the transaction that takes their records. $1: a list of objects, one for each segment.
INSERT INTO monitoring.audit_segments AS known (
    stream, segment, file, service, bytes, records, rejected, lost, losses, first_seq, last_seq, sha256, recovered,
    void_from, opened_at, closed_at, loaded_at
)
SELECT
    stream, segment, file, service, bytes, records, rejected, lost, losses, first_seq, last_seq, sha256, recovered,
    void_from, opened_at, closed_at, clock_timestamp()
FROM jsonb_to_recordset($1::jsonb) AS part (
    stream text, segment integer, file text, service text, bytes bigint, records bigint, rejected bigint, lost bigint,
    losses jsonb, first_seq bigint, last_seq bigint, sha256 text, recovered boolean, void_from bigint, opened_at timestamptz,
    closed_at timestamptz
)
ON CONFLICT (stream, segment) DO UPDATE SET
    bytes = excluded.bytes,
    records = known.records + excluded.records,
    rejected = known.rejected + excluded.rejected,
    lost = known.lost + excluded.lost,
    losses = known.losses || excluded.losses,
    first_seq = coalesce(known.first_seq, excluded.first_seq),
    last_seq = coalesce(excluded.last_seq, known.last_seq),
    sha256 = coalesce(excluded.sha256, known.sha256),
    recovered = known.recovered OR excluded.recovered,
    void_from = coalesce(excluded.void_from, known.void_from),
    closed_at = coalesce(excluded.closed_at, known.closed_at),
    loaded_at = excluded.loaded_at;

-- name: stage
-- A temporary table that takes what a merge has to look at first; emptied by every COMMIT.
CREATE TEMPORARY TABLE IF NOT EXISTS incoming_{table} ON COMMIT DELETE ROWS AS
SELECT {columns} FROM monitoring.{table} WITH NO DATA;

-- name: drop_known_trades
-- Records that are loaded already, as rows or as noted repeats. OFFSET: a look into the index for each, as in touch.
DELETE FROM incoming_trades AS i
WHERE
    EXISTS (SELECT FROM monitoring.trades AS t WHERE t.stream = i.stream AND t.seq = i.seq OFFSET 0)
    OR EXISTS (
        SELECT FROM monitoring.audit_rejects AS r, unnest(r.reasons) AS reason
        WHERE r.stream = i.stream AND r.seq = i.seq AND reason LIKE 'repeated\_trade:%'
        OFFSET 0
    );

-- name: insert
-- Rows for what is new, and how many; what has none, as a fill whose trade_id came from another record, stays in
-- incoming_{table}.
WITH made AS (
    INSERT INTO monitoring.{table} ({columns})
    SELECT {columns} FROM incoming_{table} ORDER BY stream, seq
    ON CONFLICT DO NOTHING
    RETURNING stream, seq
), done AS (
    DELETE FROM incoming_{table} AS i USING made WHERE made.stream = i.stream AND made.seq = i.seq
)
SELECT count(*) FROM made;

-- name: unplaced
-- Whether a record is left of which there is no row, though nobody has its keys: something else kept it out, as an id that
-- is taken, or a constraint of the bot's.
SELECT EXISTS (SELECT FROM incoming_{table} AS i WHERE {unplaced});

-- name: unplaced_trades
-- Partitioned, these have no unique ids, and trade_keys also has fills whose rows were dropped with their month.
(SELECT relkind = 'r' FROM pg_class WHERE oid = 'monitoring.trades'::regclass)
AND NOT EXISTS (SELECT FROM monitoring.trades AS t WHERE t.stream = i.stream AND t.seq = i.seq OFFSET 0)
AND NOT EXISTS (
    SELECT FROM monitoring.trades AS t
    WHERE t.exchange = i.exchange AND t.symbol = i.symbol AND t.trade_id = i.trade_id AND t.stream IS NOT NULL
    OFFSET 0
)

-- name: repeated_trades
-- What insert left.
SELECT stream, seq FROM incoming_trades ORDER BY stream, seq;

-- name: drop_known_events
-- Records that are loaded already.
DELETE FROM incoming_events AS i
WHERE EXISTS (SELECT FROM monitoring.events AS e WHERE e.stream = i.stream AND e.seq = i.seq OFFSET 0);

-- name: unplaced_events
-- See unplaced.
NOT EXISTS (SELECT FROM monitoring.events AS e WHERE e.stream = i.stream AND e.seq = i.seq OFFSET 0)

-- name: drop_known_orders
-- Records that are loaded already, as the row of their order or as part of its fold.
DELETE FROM incoming_orders AS i
WHERE
    EXISTS (SELECT FROM monitoring.orders AS o WHERE o.stream = i.stream AND o.seq = i.seq OFFSET 0)
    OR EXISTS (SELECT FROM monitoring.order_updates AS u WHERE u.stream = i.stream AND u.seq = i.seq OFFSET 0);

-- name: insert_orders
-- As insert: a row for the first record of each order that has none, and how many; orders without order_id are rows of their own.
WITH first_of_each AS (
    SELECT DISTINCT ON (exchange, symbol, order_id, CASE WHEN order_id IS NULL THEN stream END, CASE WHEN order_id IS NULL THEN seq END)
        *
    FROM incoming_orders
    ORDER BY
        exchange, symbol, order_id, CASE WHEN order_id IS NULL THEN stream END, CASE WHEN order_id IS NULL THEN seq END,
        recorded_at, stream, seq
), made AS (
    INSERT INTO monitoring.orders ({columns})
    SELECT {columns} FROM first_of_each ORDER BY stream, seq
    ON CONFLICT DO NOTHING
    RETURNING stream, seq
), done AS (
    DELETE FROM incoming_orders AS i USING made WHERE made.stream = i.stream AND made.seq = i.seq
)
SELECT count(*) FROM made;

-- name: keep_repeated_orders
-- An order logged again is part of its fold.
INSERT INTO monitoring.order_updates (kind, {columns})
SELECT 'created', {columns} FROM incoming_orders ORDER BY stream, seq
ON CONFLICT DO NOTHING;

-- name: unplaced_orders
-- Those without a row that are not part of the fold of one either.
NOT EXISTS (SELECT FROM monitoring.orders AS o WHERE o.stream = i.stream AND o.seq = i.seq OFFSET 0)
AND NOT (
    EXISTS (SELECT FROM monitoring.order_updates AS u WHERE u.stream = i.stream AND u.seq = i.seq OFFSET 0)
    AND EXISTS (
        SELECT FROM monitoring.orders AS o
        WHERE o.exchange = i.exchange AND o.symbol = i.symbol AND o.order_id = i.order_id AND o.stream IS NOT NULL
        OFFSET 0
    )
)

-- name: unplaced_order_updates
-- See unplaced.
NOT EXISTS (SELECT FROM monitoring.order_updates AS u WHERE u.stream = i.stream AND u.seq = i.seq OFFSET 0)

-- name: insert_audit_rejects
-- Lines with findings that are not noted yet.
INSERT INTO monitoring.audit_rejects ({columns})
SELECT {columns} FROM incoming_audit_rejects ORDER BY stream, segment, byte_offset
ON CONFLICT (stream, segment, byte_offset) DO NOTHING;

-- name: stage_touched
-- The ids of orders whose rows have to be folded anew.
CREATE TEMPORARY TABLE IF NOT EXISTS touched (id bigint PRIMARY KEY) ON COMMIT DELETE ROWS;

-- name: touch
-- Orders whose rows lack a record of theirs: what this batch brought of orders that it could not fold by itself, and the
-- batch's orders of which records came earlier. $1, $2, $3: the former, as streams with first and last seqs; $4, $5, $6: the
-- whole batch alike; $7: whether it could fold some. LATERAL with LIMIT or OFFSET, here and below: a look into the index for
-- each, never a scan of all that was ever loaded. How many rows there are the planner can but guess: it guesses a part of
-- the table, or none, while what this transaction wrote was counted by nobody.
INSERT INTO touched (id)
WITH unfolded AS (
    SELECT stream COLLATE "C" AS stream, first_seq, last_seq
    FROM unnest($1::text[], $2::bigint[], $3::bigint[]) AS b (stream, first_seq, last_seq)
), batch AS (
    SELECT stream COLLATE "C" AS stream, first_seq, last_seq
    FROM unnest($4::text[], $5::bigint[], $6::bigint[]) AS b (stream, first_seq, last_seq)
), brought AS (
    SELECT u.exchange, u.symbol, u.order_id, u.client_order_id
    FROM unfolded
    CROSS JOIN LATERAL (
        SELECT * FROM monitoring.order_updates AS u
        WHERE u.stream = unfolded.stream AND u.seq BETWEEN unfolded.first_seq AND unfolded.last_seq
        OFFSET 0
    ) AS u
), made AS (
    SELECT o.id, o.exchange, o.symbol, o.order_id, o.client_order_id
    FROM batch
    CROSS JOIN LATERAL (
        SELECT * FROM monitoring.orders AS o
        WHERE o.stream = batch.stream AND o.seq BETWEEN batch.first_seq AND batch.last_seq
        OFFSET 0
    ) AS o
)
SELECT o.id
FROM brought AS u
CROSS JOIN LATERAL (
    SELECT o.id FROM monitoring.orders AS o
    WHERE o.exchange = u.exchange AND o.symbol = u.symbol AND o.order_id = u.order_id AND o.stream IS NOT NULL
    LIMIT 1
) AS o
UNION
SELECT o.id
FROM brought AS u
CROSS JOIN LATERAL (
    SELECT o.id FROM monitoring.orders AS o
    WHERE
        o.exchange = u.exchange AND o.symbol = u.symbol AND o.client_order_id = u.client_order_id AND o.stream IS NOT NULL
    OFFSET 0
) AS o
WHERE u.order_id IS NULL
UNION
SELECT o.id
FROM made AS o
CROSS JOIN LATERAL (
    SELECT FROM monitoring.order_updates AS u
    WHERE
        u.exchange = o.exchange AND u.symbol = o.symbol AND u.order_id = o.order_id
        AND NOT (
            $7::boolean
            AND EXISTS (SELECT FROM batch WHERE batch.stream = u.stream AND u.seq BETWEEN batch.first_seq AND batch.last_seq)
        )
    LIMIT 1
) AS earlier
UNION
SELECT o.id
FROM made AS o
CROSS JOIN LATERAL (
    SELECT FROM monitoring.order_updates AS u
    WHERE
        u.exchange = o.exchange AND u.symbol = o.symbol
        AND u.order_id IS NULL AND u.client_order_id = o.client_order_id AND u.kind = 'updated'
    LIMIT 1
) AS by_client;

-- name: keep_own_values
-- A row that is folded for the first time leaves its own values in order_updates: the fold starts from them.
INSERT INTO monitoring.order_updates (
    kind, recorded_at, stream, seq, position_id, exchange, symbol, order_id, client_order_id, type, side, size, price,
    status, filled, remaining, fee, fee_currency, fees, created_at, updated_at
)
SELECT
    'created', o.recorded_at, o.stream, o.seq, o.position_id, o.exchange, o.symbol, o.order_id, o.client_order_id, o.type,
    o.side, o.size, o.price, o.status, o.filled, o.remaining, o.fee, o.fee_currency, o.fees, o.created_at, o.updated_at
FROM touched
CROSS JOIN LATERAL (SELECT * FROM monitoring.orders AS o WHERE o.id = touched.id OFFSET 0) AS o
WHERE NOT EXISTS (SELECT FROM monitoring.order_updates AS u WHERE u.stream = o.stream AND u.seq = o.seq OFFSET 0);

-- name: fold
-- The row of an order from all its records in order of (recorded_at, stream, seq): what is not final after the first final
-- record is left out, then each field takes its last value that was said.
WITH direct AS (
    SELECT o.id, u.*
    FROM touched
    CROSS JOIN LATERAL (SELECT * FROM monitoring.orders AS o WHERE o.id = touched.id OFFSET 0) AS o
    CROSS JOIN LATERAL (
        SELECT * FROM monitoring.order_updates AS u
        WHERE u.exchange = o.exchange AND u.symbol = o.symbol AND u.order_id = o.order_id
        OFFSET 0
    ) AS u
    UNION ALL
    SELECT o.id, u.*
    FROM touched
    CROSS JOIN LATERAL (SELECT * FROM monitoring.orders AS o WHERE o.id = touched.id AND o.order_id IS NULL OFFSET 0) AS o
    CROSS JOIN LATERAL (
        SELECT * FROM monitoring.order_updates AS u WHERE u.stream = o.stream AND u.seq = o.seq OFFSET 0
    ) AS u
), members AS (
    SELECT order_row, recorded_at, stream, seq, kind, position_id, client_order_id, type, side, size, price, status, filled,
        remaining, fee, fee_currency, fees, created_at, updated_at
    FROM direct AS d (order_row)
    UNION ALL
    SELECT named.order_row, u.recorded_at, u.stream, u.seq, u.kind, u.position_id, u.client_order_id, u.type, u.side, u.size,
        u.price, u.status, u.filled, u.remaining, u.fee, u.fee_currency, u.fees, u.created_at, u.updated_at
    FROM (
        -- Named by what counts among the direct records, as the row is.
        SELECT
            order_row, exchange, symbol,
            (array_agg(client_order_id ORDER BY recorded_at DESC, stream DESC, seq DESC)
                FILTER (WHERE client_order_id IS NOT NULL AND (status IS NULL OR final OR NOT after_final)))[1] AS client_order_id
        FROM (
            SELECT
                order_row, exchange, symbol, client_order_id, recorded_at, stream, seq, status, final,
                coalesce(bool_or(final) OVER (
                    PARTITION BY order_row ORDER BY recorded_at, stream, seq ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
                ), false) AS after_final
            FROM (
                SELECT d.*, coalesce(upper(status) IN ('FILLED', 'CANCELED', 'REJECTED', 'EXPIRED'), false) AS final
                FROM direct AS d (order_row)
            ) AS d
        ) AS d
        GROUP BY order_row, exchange, symbol
    ) AS named
    CROSS JOIN LATERAL (
        SELECT * FROM monitoring.order_updates AS u
        WHERE
            u.exchange = named.exchange AND u.symbol = named.symbol AND u.client_order_id = named.client_order_id
            AND u.order_id IS NULL AND u.kind = 'updated'
        OFFSET 0
    ) AS u
), placed AS (
    SELECT
        *,
        coalesce(upper(status) IN ('FILLED', 'CANCELED', 'REJECTED', 'EXPIRED'), false) AS final,
        row_number() OVER (PARTITION BY order_row ORDER BY recorded_at, stream, seq) AS place
    FROM members
), judged AS (
    SELECT
        *,
        status IS NULL OR final
            OR place < coalesce(min(place) FILTER (WHERE final) OVER (PARTITION BY order_row), place + 1) AS counts
    FROM placed
), folded AS (
    SELECT
        order_row,
        (array_agg(position_id ORDER BY place DESC) FILTER (WHERE counts AND position_id IS NOT NULL))[1] AS position_id,
        (array_agg(client_order_id ORDER BY place DESC) FILTER (WHERE counts AND client_order_id IS NOT NULL))[1]
            AS client_order_id,
        (array_agg(size ORDER BY place DESC) FILTER (WHERE counts AND size IS NOT NULL))[1] AS size,
        (array_agg(price ORDER BY place DESC) FILTER (WHERE counts AND price IS NOT NULL))[1] AS price,
        (array_agg(status ORDER BY place DESC) FILTER (WHERE counts AND status IS NOT NULL))[1] AS status,
        (array_agg(filled ORDER BY place DESC) FILTER (WHERE counts AND filled IS NOT NULL))[1] AS filled,
        (array_agg(remaining ORDER BY place DESC) FILTER (WHERE counts AND remaining IS NOT NULL))[1] AS remaining,
        (array_agg(fee ORDER BY place DESC) FILTER (WHERE counts AND fee IS NOT NULL))[1] AS fee,
        (array_agg(fee_currency ORDER BY place DESC) FILTER (WHERE counts AND fee_currency IS NOT NULL))[1] AS fee_currency,
        (array_agg(fees ORDER BY place DESC) FILTER (WHERE counts AND fees IS NOT NULL))[1] AS fees,
        (array_agg(updated_at ORDER BY place DESC) FILTER (WHERE counts AND updated_at IS NOT NULL))[1] AS updated_at,
        (array_agg(type ORDER BY place) FILTER (WHERE kind = 'created'))[1] AS type,
        (array_agg(side ORDER BY place) FILTER (WHERE kind = 'created'))[1] AS side,
        (array_agg(created_at ORDER BY place) FILTER (WHERE kind = 'created'))[1] AS created_at,
        (array_agg(recorded_at ORDER BY place) FILTER (WHERE kind = 'created'))[1] AS recorded_at,
        (array_agg(stream ORDER BY place) FILTER (WHERE kind = 'created'))[1] AS stream,
        (array_agg(seq ORDER BY place) FILTER (WHERE kind = 'created'))[1] AS seq
    FROM judged
    GROUP BY order_row
)
UPDATE monitoring.orders AS o
SET
    position_id = f.position_id, client_order_id = f.client_order_id, size = f.size, price = f.price, status = f.status,
    filled = f.filled, remaining = f.remaining, fee = f.fee, fee_currency = f.fee_currency, fees = f.fees,
    updated_at = f.updated_at, type = f.type, side = f.side, created_at = f.created_at, recorded_at = f.recorded_at,
    stream = f.stream, seq = f.seq
FROM folded AS f
WHERE o.id = f.order_row AND o.id = ANY (ARRAY(SELECT id FROM touched));
