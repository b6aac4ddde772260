-- The records an order's row was folded from: appended, never changed.
CREATE TABLE IF NOT EXISTS monitoring.order_updates (
    id bigserial PRIMARY KEY,
    kind text CHECK (kind IN ('created', 'updated')),
    recorded_at timestamptz,
    stream text COLLATE "C",
    seq bigint,
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
    average_price numeric,
    fee numeric,
    fee_currency text,
    fees jsonb,
    reason text,
    created_at timestamptz,
    updated_at timestamptz
);

-- The table is new and empty: nothing waits for these.
CREATE UNIQUE INDEX IF NOT EXISTS tradetrail_order_updates_stream_seq
    ON monitoring.order_updates (stream, seq);
CREATE INDEX IF NOT EXISTS tradetrail_order_updates_order_id
    ON monitoring.order_updates (exchange, symbol, order_id);
CREATE INDEX IF NOT EXISTS tradetrail_order_updates_client_order_id
    ON monitoring.order_updates (exchange, symbol, client_order_id) WHERE order_id IS NULL;

COMMENT ON TABLE monitoring.order_updates IS 'Records of orders, append only: the rows of orders are folded from these';
COMMENT ON COLUMN monitoring.order_updates.kind IS 'created: the values of an order record; updated: a change to one';
COMMENT ON COLUMN monitoring.order_updates.recorded_at IS 'Timestamp of the record: first key of the fold, before stream and seq';
COMMENT ON COLUMN monitoring.order_updates.stream IS 'Stream of the record';
COMMENT ON COLUMN monitoring.order_updates.seq IS 'Number of the record in its stream';
