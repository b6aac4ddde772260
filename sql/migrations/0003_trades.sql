-- Trades (fills): one row each. Rows without stream belong to the bot.
CREATE TABLE IF NOT EXISTS monitoring.trades (
    id bigserial PRIMARY KEY,
    signal_id bigint,
    symbol text,
    exchange text,
    side text,
    order_type text,
    quantity numeric,
    price numeric,
    executed_qty numeric,
    average_price numeric,
    order_id text,
    client_order_id text,
    status text,
    fee numeric,
    fee_currency text,
    executed_at timestamptz DEFAULT now(),
    updated_at timestamptz DEFAULT now()
);

ALTER TABLE monitoring.trades
    ADD COLUMN IF NOT EXISTS position_id text,
    ADD COLUMN IF NOT EXISTS trade_id text,
    ADD COLUMN IF NOT EXISTS fees jsonb,
    ADD COLUMN IF NOT EXISTS stream text COLLATE "C",
    ADD COLUMN IF NOT EXISTS seq bigint;

COMMENT ON COLUMN monitoring.trades.position_id IS 'The bot''s position, as text';
COMMENT ON COLUMN monitoring.trades.trade_id IS 'The exchange''s id of the fill: one row per (exchange, symbol, trade_id)';
COMMENT ON COLUMN monitoring.trades.fees IS 'Fees by currency: a list of {currency, cost}';
COMMENT ON COLUMN monitoring.trades.stream IS 'Stream of the record that made the row; NULL: the row belongs to the bot';
COMMENT ON COLUMN monitoring.trades.seq IS 'Number of that record in its stream; (stream, seq) is its identity';

DO $$
BEGIN
    IF obj_description('monitoring.trades'::regclass, 'pg_class') IS NULL THEN
        COMMENT ON TABLE monitoring.trades IS 'Trades (fills), one row each';
    END IF;
END
$$;
