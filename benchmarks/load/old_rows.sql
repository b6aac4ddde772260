-- Rows that were loaded before: as many in all as the setting bench.rows says, in the mix of the trail (40 % orders,
-- 20 % changes, 30 % fills, 10 % events), from a stream of their own, with keys that fall all over the indexes.
INSERT INTO monitoring.orders (
    stream, seq, recorded_at, position_id, exchange, symbol, order_id, client_order_id, type, side, size, price, status,
    filled, remaining, fee, fee_currency, created_at, updated_at
)
SELECT
    '0190a3c6a7b27c0e8d41c2f1a0b3d4e5', 10 * (n / 4) + n % 4 + 1, moment, (n / 4)::text,
    CASE n / 4 % 2 WHEN 0 THEN 'bybit' ELSE 'binance' END, 'MNT/USDT:USDT', md5(n::text), 'old-' || left(md5(n::text), 12),
    'MARKET', 'buy', 12.5, 2.1118, 'FILLED', 12.5, 0, 0.1, 'USDT', moment, moment
FROM
    generate_series(0, current_setting('bench.rows')::bigint * 4 / 10 - 1) AS n,
    LATERAL (SELECT timestamptz '2026-01-01 00:00:00+00' + n * interval '1 second') AS at (moment);

INSERT INTO monitoring.order_updates (
    stream, seq, recorded_at, kind, position_id, exchange, symbol, order_id, status, reason, updated_at
)
SELECT
    '0190a3c6a7b27c0e8d41c2f1a0b3d4e5', 10 * (n / 2) + n % 2 + 5, moment, 'updated', (n / 2)::text,
    CASE n / 2 % 2 WHEN 0 THEN 'bybit' ELSE 'binance' END, 'MNT/USDT:USDT', md5((2 * n)::text), 'CANCELED',
    'position closed', moment
FROM
    generate_series(0, current_setting('bench.rows')::bigint * 2 / 10 - 1) AS n,
    LATERAL (SELECT timestamptz '2026-01-01 00:00:00+00' + n * interval '2 seconds') AS at (moment);

INSERT INTO monitoring.trades (
    stream, seq, signal_id, position_id, exchange, symbol, side, order_type, quantity, price, executed_qty, average_price,
    order_id, trade_id, status, fee, fee_currency, executed_at, updated_at
)
SELECT
    '0190a3c6a7b27c0e8d41c2f1a0b3d4e5', 10 * (n / 3) + n % 3 + 7, n / 3, (n / 3)::text,
    CASE n / 3 % 2 WHEN 0 THEN 'bybit' ELSE 'binance' END, 'MNT/USDT:USDT', 'buy', 'MARKET', 12.5, 2.1118, 4.2, 2.1118,
    md5((n * 4 / 3)::text), md5('fill ' || n), 'FILLED', 0.1, 'USDT', moment, moment
FROM
    generate_series(0, current_setting('bench.rows')::bigint * 3 / 10 - 1) AS n,
    LATERAL (SELECT timestamptz '2026-01-01 00:00:00+00' + n * interval '1.3 seconds') AS at (moment);

INSERT INTO monitoring.events (stream, seq, event_type, event_data, position_id, symbol, exchange, severity, created_at)
SELECT
    '0190a3c6a7b27c0e8d41c2f1a0b3d4e5', 10 * n + 10, 'position.closed', '{"reason": "take profit", "held_s": 3605.2}', n::text,
    'MNT/USDT:USDT', 'bybit', 'INFO', timestamptz '2026-01-01 00:00:00+00' + n * interval '4 seconds'
FROM generate_series(0, current_setting('bench.rows')::bigint / 10 - 1) AS n;
