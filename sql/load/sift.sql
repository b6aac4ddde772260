-- name: begin
-- What PostgreSQL refused of a batch, and why. A part is a few rows in tables of millions, and nobody has counted those of
-- this transaction yet: never read a table to its end for them.
CREATE TEMPORARY TABLE refused (stream text, seq bigint, reason text);
SET LOCAL enable_hashjoin = off;
SET LOCAL enable_mergejoin = off;
SET LOCAL enable_seqscan = off;

-- name: stage_as_text
-- A temporary table that takes any row there is: what its columns refuse is found out row by row.
DROP TABLE IF EXISTS pg_temp.incoming_{table};
CREATE TEMPORARY TABLE incoming_{table} AS SELECT {texts} FROM monitoring.{table} WITH NO DATA;

-- name: as_they_are
-- How a text becomes a value of each real column, as COPY would read it. $1 table, $2 columns.
SELECT array_agg(format('%I::%s', a.attname, format_type(a.atttypid, -1)) ORDER BY c.place)
FROM unnest($2::text[]) WITH ORDINALITY AS c (name, place)
JOIN pg_attribute AS a ON a.attrelid = to_regclass('monitoring.' || $1::text) AND a.attname = c.name;

-- name: sift
-- Take rows in the largest parts that PostgreSQL takes whole: a part that it refuses is undone and cut into eight, down to
-- the one row that is noted in refused. {first} and {many} say which rows, {take} and {place} how: they read those from
-- the_first to the_last. What is undone or rolled back has used up ids of its table, as any failed insert has.
DO $sift$
DECLARE
    the_rows tid[] := ARRAY(SELECT ctid FROM incoming_{table} ORDER BY ctid OFFSET {first} LIMIT {many});
    the_parts integer[] := ARRAY[1, cardinality(the_rows)];
    the_first integer;
    the_last integer;
BEGIN
    WHILE cardinality(the_parts) > 0 LOOP
        the_first := the_parts[1];
        the_last := the_parts[2];
        the_parts := the_parts[3:];
        BEGIN
            {take}
            {place}
        -- A failed ASSERT of a trigger is no "other".
        EXCEPTION WHEN OTHERS OR assert_failure THEN
            IF SQLSTATE !~ '{refusals}' THEN
                RAISE;
            ELSIF the_first = the_last THEN
                INSERT INTO refused SELECT stream, seq, SQLERRM FROM incoming_{table} WHERE ctid = the_rows[the_first];
            ELSE
                the_parts := ARRAY(
                    SELECT unnest(ARRAY[part, least(part + (the_last - the_first) / 8, the_last)])
                    FROM generate_series(the_first, the_last, (the_last - the_first) / 8 + 1) AS part
                ) || the_parts;
            END IF;
        END;
    END LOOP;
END
$sift$;

-- name: place
-- What has no row then, though nobody has its keys: here PostgreSQL says why.
INSERT INTO monitoring.{table} ({columns})
SELECT {values} FROM incoming_{table} AS i
WHERE ctid BETWEEN the_rows[the_first] AND the_rows[the_last] AND {unplaced};

-- name: take_orders
-- Orders: a row, or a record of an order that has its row.
WITH part AS (
    SELECT {values} FROM incoming_orders WHERE ctid BETWEEN the_rows[the_first] AND the_rows[the_last]
), made AS (
    INSERT INTO monitoring.orders ({columns}) SELECT {columns} FROM part ON CONFLICT DO NOTHING RETURNING stream, seq
)
INSERT INTO monitoring.order_updates (kind, {columns})
SELECT 'created', {columns} FROM part
WHERE NOT EXISTS (SELECT FROM made WHERE made.stream = part.stream AND made.seq = part.seq)
ON CONFLICT DO NOTHING;
{fold_part}

-- name: take_order_updates
-- Changes of orders, and the rows that they make of them.
INSERT INTO monitoring.order_updates ({columns})
SELECT {values} FROM incoming_order_updates WHERE ctid BETWEEN the_rows[the_first] AND the_rows[the_last]
ON CONFLICT DO NOTHING;
{fold_part}

-- name: take_trades
-- Trades.
INSERT INTO monitoring.trades ({columns})
SELECT {values} FROM incoming_trades WHERE ctid BETWEEN the_rows[the_first] AND the_rows[the_last]
ON CONFLICT DO NOTHING;

-- name: take_events
-- Events.
INSERT INTO monitoring.events ({columns})
SELECT {values} FROM incoming_events WHERE ctid BETWEEN the_rows[the_first] AND the_rows[the_last]
ON CONFLICT DO NOTHING;

-- name: fold_part
-- The orders that a part has records of, folded anew where they have more than one. {keep_own_values} and {fold} are those
-- of merge.sql.
DELETE FROM touched;
WITH part AS (
    SELECT {values} FROM incoming_{table} WHERE ctid BETWEEN the_rows[the_first] AND the_rows[the_last]
)
INSERT INTO touched (id)
SELECT o.id
FROM part AS p
CROSS JOIN LATERAL (
    SELECT o.id FROM monitoring.orders AS o
    WHERE o.exchange = p.exchange AND o.symbol = p.symbol AND o.order_id = p.order_id AND o.stream IS NOT NULL
    LIMIT 1
) AS o
CROSS JOIN LATERAL (
    SELECT FROM monitoring.order_updates AS u
    WHERE u.exchange = p.exchange AND u.symbol = p.symbol AND u.order_id = p.order_id
    LIMIT 1
) AS u
UNION
SELECT o.id
FROM part AS p
CROSS JOIN LATERAL (
    SELECT o.id FROM monitoring.orders AS o
    WHERE
        o.exchange = p.exchange AND o.symbol = p.symbol AND o.client_order_id = p.client_order_id AND o.stream IS NOT NULL
    OFFSET 0
) AS o
CROSS JOIN LATERAL (
    SELECT FROM monitoring.order_updates AS u
    WHERE
        u.exchange = p.exchange AND u.symbol = p.symbol AND u.client_order_id = p.client_order_id
        AND u.order_id IS NULL AND u.kind = 'updated'
    LIMIT 1
) AS u;
IF FOUND THEN
    {keep_own_values}
    {fold}
END IF;
