-- Positions belong to the bot; made only where there are none, so that orders.position_id = positions.id::text
-- can be asked.
CREATE TABLE IF NOT EXISTS monitoring.positions (
    id bigserial PRIMARY KEY,
    exchange text,
    symbol text,
    side text,
    quantity numeric,
    entry_price numeric,
    status text,
    exchange_order_id text,
    opened_at timestamptz,
    closed_at timestamptz
);

DO $$
BEGIN
    IF obj_description('monitoring.positions'::regclass, 'pg_class') IS NULL THEN
        COMMENT ON TABLE monitoring.positions IS 'The bot''s positions; tradetrail writes nothing here';
    END IF;
END
$$;
