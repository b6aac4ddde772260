-- outside a transaction
-- Exactly once, and quick lookups. Built while the bot writes on, and only over rows that came through tradetrail.
CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS tradetrail_orders_stream_seq
    ON monitoring.orders (stream, seq) WHERE stream IS NOT NULL;
CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS tradetrail_orders_order_id
    ON monitoring.orders (exchange, symbol, order_id) WHERE stream IS NOT NULL;
CREATE INDEX CONCURRENTLY IF NOT EXISTS tradetrail_orders_client_order_id
    ON monitoring.orders (exchange, symbol, client_order_id) WHERE stream IS NOT NULL AND client_order_id IS NOT NULL;
CREATE INDEX CONCURRENTLY IF NOT EXISTS tradetrail_orders_position_id
    ON monitoring.orders (position_id) WHERE stream IS NOT NULL AND position_id IS NOT NULL;

CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS tradetrail_trades_stream_seq
    ON monitoring.trades (stream, seq) WHERE stream IS NOT NULL;
CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS tradetrail_trades_trade_id
    ON monitoring.trades (exchange, symbol, trade_id) WHERE stream IS NOT NULL;
CREATE INDEX CONCURRENTLY IF NOT EXISTS tradetrail_trades_order_id
    ON monitoring.trades (exchange, symbol, order_id) WHERE stream IS NOT NULL;
CREATE INDEX CONCURRENTLY IF NOT EXISTS tradetrail_trades_position_id
    ON monitoring.trades (position_id) WHERE stream IS NOT NULL AND position_id IS NOT NULL;

CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS tradetrail_events_stream_seq
    ON monitoring.events (stream, seq) WHERE stream IS NOT NULL;
