-- The steps of an order, and its state as known at a time. Which steps count is what the fold of a load says (fold in
-- sql/load/merge.sql); tests/model holds the two together. UNION ALL, not OR: each part finds its rows by an index.
CREATE OR REPLACE FUNCTION monitoring.order_history(
    of_exchange text, of_symbol text, of_order_id text,
    until timestamptz DEFAULT 'infinity', of_stream text DEFAULT NULL, of_seq bigint DEFAULT NULL
) RETURNS TABLE (
    place bigint, counts boolean, kind text, recorded_at timestamptz, stream text, seq bigint, position_id text,
    exchange text, symbol text, order_id text, client_order_id text, type text, side text, size numeric, price numeric,
    status text, filled numeric, remaining numeric, average_price numeric, fee numeric, fee_currency text, fees jsonb,
    reason text, created_at timestamptz, updated_at timestamptz
)
LANGUAGE sql STABLE PARALLEL SAFE
AS $$
WITH kept AS (
    SELECT u.* FROM monitoring.order_updates AS u
    WHERE u.exchange = of_exchange AND u.symbol = of_symbol AND u.order_id = of_order_id
    UNION ALL
    SELECT u.* FROM monitoring.order_updates AS u
    WHERE of_order_id IS NULL AND u.stream = of_stream AND u.seq = of_seq
), own AS (
    SELECT o.* FROM monitoring.orders AS o
    WHERE o.exchange = of_exchange AND o.symbol = of_symbol AND o.order_id = of_order_id AND o.stream IS NOT NULL
    UNION ALL
    SELECT o.* FROM monitoring.orders AS o
    WHERE of_order_id IS NULL AND o.order_id IS NULL AND o.stream = of_stream AND o.seq = of_seq
), direct AS (
    SELECT
        k.kind, k.recorded_at, k.stream, k.seq, k.position_id, k.exchange, k.symbol, k.order_id, k.client_order_id, k.type,
        k.side, k.size, k.price, k.status, k.filled, k.remaining, k.average_price, k.fee, k.fee_currency, k.fees, k.reason,
        k.created_at, k.updated_at
    FROM kept AS k
    UNION ALL
    -- A row that was never folded is the only place of its record.
    SELECT
        'created', o.recorded_at, o.stream, o.seq, o.position_id, o.exchange, o.symbol, o.order_id, o.client_order_id, o.type,
        o.side, o.size, o.price, o.status, o.filled, o.remaining, NULL, o.fee, o.fee_currency, o.fees, NULL, o.created_at,
        o.updated_at
    FROM own AS o
    WHERE NOT EXISTS (SELECT FROM kept AS k WHERE k.stream = o.stream AND k.seq = o.seq)
), named AS (
    -- The client_order_id that the order had by then: that of the last direct record that counts.
    SELECT d.exchange, d.symbol, d.client_order_id
    FROM (
        SELECT
            f.*,
            coalesce(bool_or(f.final) OVER (
                ORDER BY f.recorded_at, f.stream, f.seq ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
            ), false) AS after_final
        FROM (
            SELECT
                r.*, coalesce(upper(r.status) IN ('FILLED', 'CANCELED', 'REJECTED', 'EXPIRED'), false) AS final
            FROM direct AS r
            WHERE r.recorded_at <= until
        ) AS f
    ) AS d
    WHERE d.client_order_id IS NOT NULL AND (d.status IS NULL OR d.final OR NOT d.after_final)
    ORDER BY d.recorded_at DESC, d.stream DESC, d.seq DESC
    LIMIT 1
), members AS (
    SELECT r.* FROM direct AS r WHERE r.recorded_at <= until
    UNION ALL
    SELECT
        u.kind, u.recorded_at, u.stream, u.seq, u.position_id, u.exchange, u.symbol, u.order_id, u.client_order_id, u.type,
        u.side, u.size, u.price, u.status, u.filled, u.remaining, u.average_price, u.fee, u.fee_currency, u.fees, u.reason,
        u.created_at, u.updated_at
    FROM named AS n
    JOIN monitoring.order_updates AS u
        ON u.exchange = n.exchange AND u.symbol = n.symbol AND u.client_order_id = n.client_order_id
    WHERE u.order_id IS NULL AND u.kind = 'updated' AND u.recorded_at <= until
), placed AS (
    SELECT
        row_number() OVER (ORDER BY m.recorded_at, m.stream, m.seq) AS place,
        coalesce(upper(m.status) IN ('FILLED', 'CANCELED', 'REJECTED', 'EXPIRED'), false) AS final,
        m.*
    FROM members AS m
)
SELECT
    p.place,
    p.status IS NULL OR p.final OR p.place < coalesce(min(p.place) FILTER (WHERE p.final) OVER (), p.place + 1),
    p.kind, p.recorded_at, p.stream, p.seq, p.position_id::text, p.exchange::text, p.symbol::text, p.order_id::text,
    p.client_order_id::text, p.type::text, p.side::text, p.size, p.price, p.status::text, p.filled, p.remaining,
    p.average_price, p.fee, p.fee_currency::text, p.fees, p.reason, p.created_at, p.updated_at
FROM placed AS p
ORDER BY p.place
$$;

CREATE OR REPLACE FUNCTION monitoring.order_as_of(
    of_exchange text, of_symbol text, of_order_id text, at timestamptz,
    of_stream text DEFAULT NULL, of_seq bigint DEFAULT NULL
) RETURNS TABLE (
    position_id text, exchange text, symbol text, order_id text, client_order_id text, type text, side text, size numeric,
    price numeric, status text, filled numeric, remaining numeric, average_price numeric, fee numeric, fee_currency text,
    fees jsonb, reason text, created_at timestamptz, updated_at timestamptz, recorded_at timestamptz, stream text, seq bigint
)
LANGUAGE sql STABLE PARALLEL SAFE
AS $$
SELECT
    (array_agg(h.position_id ORDER BY h.place DESC) FILTER (WHERE h.counts AND h.position_id IS NOT NULL))[1],
    min(h.exchange),
    min(h.symbol),
    min(h.order_id),
    (array_agg(h.client_order_id ORDER BY h.place DESC) FILTER (WHERE h.counts AND h.client_order_id IS NOT NULL))[1],
    (array_agg(h.type ORDER BY h.place) FILTER (WHERE h.kind = 'created'))[1],
    (array_agg(h.side ORDER BY h.place) FILTER (WHERE h.kind = 'created'))[1],
    (array_agg(h.size ORDER BY h.place DESC) FILTER (WHERE h.counts AND h.size IS NOT NULL))[1],
    (array_agg(h.price ORDER BY h.place DESC) FILTER (WHERE h.counts AND h.price IS NOT NULL))[1],
    (array_agg(h.status ORDER BY h.place DESC) FILTER (WHERE h.counts AND h.status IS NOT NULL))[1],
    (array_agg(h.filled ORDER BY h.place DESC) FILTER (WHERE h.counts AND h.filled IS NOT NULL))[1],
    (array_agg(h.remaining ORDER BY h.place DESC) FILTER (WHERE h.counts AND h.remaining IS NOT NULL))[1],
    (array_agg(h.average_price ORDER BY h.place DESC) FILTER (WHERE h.counts AND h.average_price IS NOT NULL))[1],
    (array_agg(h.fee ORDER BY h.place DESC) FILTER (WHERE h.counts AND h.fee IS NOT NULL))[1],
    (array_agg(h.fee_currency ORDER BY h.place DESC) FILTER (WHERE h.counts AND h.fee_currency IS NOT NULL))[1],
    (array_agg(h.fees ORDER BY h.place DESC) FILTER (WHERE h.counts AND h.fees IS NOT NULL))[1],
    (array_agg(h.reason ORDER BY h.place DESC) FILTER (WHERE h.counts AND h.reason IS NOT NULL))[1],
    (array_agg(h.created_at ORDER BY h.place) FILTER (WHERE h.kind = 'created'))[1],
    (array_agg(h.updated_at ORDER BY h.place DESC) FILTER (WHERE h.counts AND h.updated_at IS NOT NULL))[1],
    (array_agg(h.recorded_at ORDER BY h.place DESC) FILTER (WHERE h.counts))[1],
    (array_agg(h.stream ORDER BY h.place DESC) FILTER (WHERE h.counts))[1],
    (array_agg(h.seq ORDER BY h.place DESC) FILTER (WHERE h.counts))[1]
FROM monitoring.order_history(of_exchange, of_symbol, of_order_id, at, of_stream, of_seq) AS h
HAVING bool_or(h.kind = 'created')
$$;

COMMENT ON FUNCTION monitoring.order_history IS
    'Every step of an order up to a time, in order; counts: whether it is part of the state then. '
    'Without order_id an order is named by the stream and seq of its row';
COMMENT ON FUNCTION monitoring.order_as_of IS
    'The state of an order as known at a time, folded as its row in orders is; no row: not known yet. '
    'recorded_at, stream and seq are those of the last step that counts';
