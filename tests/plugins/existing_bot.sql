-- A trading bot's own database as it stands before tradetrail comes: narrow columns, and rows in every table.
CREATE SCHEMA monitoring;

CREATE TABLE monitoring.orders (
    id SERIAL PRIMARY KEY,
    position_id VARCHAR(100),
    exchange VARCHAR(50) NOT NULL,
    symbol VARCHAR(20) NOT NULL,
    order_id VARCHAR(100),
    client_order_id VARCHAR(100),
    type VARCHAR(20) NOT NULL,
    side VARCHAR(10) NOT NULL,
    size NUMERIC(20, 8),
    price NUMERIC(20, 8),
    status VARCHAR(20),
    filled NUMERIC(20, 8),
    remaining NUMERIC(20, 8),
    fee NUMERIC(20, 8),
    fee_currency VARCHAR(10),
    created_at TIMESTAMPTZ DEFAULT now(),
    updated_at TIMESTAMPTZ DEFAULT now()
);
COMMENT ON TABLE monitoring.orders IS 'The bot''s own words';

CREATE TABLE monitoring.trades (
    id SERIAL PRIMARY KEY,
    signal_id INTEGER,
    symbol VARCHAR(20) NOT NULL,
    exchange VARCHAR(50) NOT NULL,
    side VARCHAR(10) NOT NULL,
    order_type VARCHAR(20),
    quantity NUMERIC(20, 8),
    price NUMERIC(20, 8),
    executed_qty NUMERIC(20, 8),
    average_price NUMERIC(20, 8),
    order_id VARCHAR(100),
    client_order_id VARCHAR(100),
    status VARCHAR(20),
    fee NUMERIC(20, 8),
    fee_currency VARCHAR(10),
    executed_at TIMESTAMPTZ DEFAULT now(),
    updated_at TIMESTAMPTZ DEFAULT now()
);

CREATE FUNCTION monitoring.touch_updated_at() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.updated_at = now();
    RETURN NEW;
END
$$;
CREATE TRIGGER trades_updated_at BEFORE UPDATE ON monitoring.trades
    FOR EACH ROW EXECUTE FUNCTION monitoring.touch_updated_at();

CREATE TABLE monitoring.events (
    id SERIAL PRIMARY KEY,
    event_type VARCHAR(50) NOT NULL,
    event_data JSONB,
    correlation_id VARCHAR(100),
    position_id INTEGER,
    order_id VARCHAR(100),
    symbol VARCHAR(20),
    exchange VARCHAR(50),
    severity VARCHAR(20),
    error_message TEXT,
    stack_trace TEXT,
    created_at TIMESTAMPTZ DEFAULT now()
);

CREATE TABLE monitoring.positions (
    id SERIAL PRIMARY KEY,
    exchange VARCHAR(50) NOT NULL,
    symbol VARCHAR(20) NOT NULL,
    side VARCHAR(10) NOT NULL,
    quantity NUMERIC(20, 8),
    entry_price NUMERIC(20, 8),
    status VARCHAR(20),
    exchange_order_id VARCHAR(100),
    opened_at TIMESTAMPTZ DEFAULT now(),
    closed_at TIMESTAMPTZ
);

INSERT INTO monitoring.positions (exchange, symbol, side, quantity, entry_price, status, opened_at)
SELECT 'bybit', 'MNTUSDT', 'long', 94.7, 2.1, 'active', TIMESTAMPTZ '2026-11-01 00:00+00' + n * INTERVAL '1 hour'
FROM generate_series(1, 3) AS n;

-- The same order twice: the bot had no unique index, and its old rows must not stand in a new one's way.
INSERT INTO monitoring.orders
    (position_id, exchange, symbol, order_id, type, side, size, price, status, created_at, updated_at)
SELECT n::text, 'bybit', 'MNTUSDT', 'old-' || (n + 1) / 2, 'MARKET', 'sell', 94.7, 2.1118, 'FILLED',
       TIMESTAMPTZ '2026-11-01 00:00+00' + n * INTERVAL '1 minute',
       TIMESTAMPTZ '2026-11-01 00:00+00' + n * INTERVAL '1 minute'
FROM generate_series(1, 50) AS n;

INSERT INTO monitoring.trades
    (signal_id, symbol, exchange, side, order_type, quantity, price, executed_qty, order_id, status, fee,
     fee_currency, executed_at, updated_at)
SELECT n, 'MNTUSDT', 'bybit', 'sell', 'MARKET', 94.7, 2.1118, 94.7, 'old-' || n, 'FILLED', 0.11, 'USDT',
       TIMESTAMPTZ '2026-11-01 00:00+00' + n * INTERVAL '1 minute',
       TIMESTAMPTZ '2026-11-01 00:00+00' + n * INTERVAL '1 minute'
FROM generate_series(1, 40) AS n;

INSERT INTO monitoring.events (event_type, event_data, position_id, severity, created_at)
SELECT 'position_opened', jsonb_build_object('n', n), n, 'INFO',
       TIMESTAMPTZ '2026-11-01 00:00+00' + n * INTERVAL '1 minute'
FROM generate_series(1, 30) AS n;
