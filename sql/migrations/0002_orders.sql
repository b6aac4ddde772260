-- Orders: one row each. Rows without stream belong to the bot and are never changed by the loader.
CREATE TABLE IF NOT EXISTS monitoring.orders (
    id bigserial PRIMARY KEY,
    position_id text,
    exchange text,
    symbol text,
    order_id text,
    client_order_id text,
    type text,
    side text,
    size numeric,
    price numeric,
    status text,
    filled numeric,
    remaining numeric,
    fee numeric,
    fee_currency text,
    created_at timestamptz DEFAULT now(),
    updated_at timestamptz DEFAULT now()
);

-- One statement: a table that is there and busy is locked once, for an instant.
ALTER TABLE monitoring.orders
    ADD COLUMN IF NOT EXISTS fees jsonb,
    ADD COLUMN IF NOT EXISTS stream text COLLATE "C",
    ADD COLUMN IF NOT EXISTS seq bigint,
    ADD COLUMN IF NOT EXISTS recorded_at timestamptz;

COMMENT ON COLUMN monitoring.orders.fees IS 'Fees by currency: a list of {currency, cost}';
COMMENT ON COLUMN monitoring.orders.stream IS 'Stream of the record that made the row; NULL: the row belongs to the bot';
COMMENT ON COLUMN monitoring.orders.seq IS 'Number of that record in its stream; (stream, seq) is its identity';
COMMENT ON COLUMN monitoring.orders.recorded_at IS 'Timestamp of the record that made the row';

DO $$
BEGIN
    IF obj_description('monitoring.orders'::regclass, 'pg_class') IS NULL THEN
        COMMENT ON TABLE monitoring.orders IS 'Orders, each row folded from all records of its order';
    END IF;
END
$$;
